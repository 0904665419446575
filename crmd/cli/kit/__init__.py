"""What all commands share: sessions, output and errors.

May import the configuration, the embedded store's state folder and the engine; knows no feature.
"""
