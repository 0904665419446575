"""What every command is made of: sessions, output and errors.

It may touch the configuration and the engine, and knows no feature.
"""
