"""The daemon that `crmd run` starts: built, supervised, reloaded, stopped.

May import everything but the command line and the sandbox.
"""
