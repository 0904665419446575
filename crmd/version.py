"""The version of crmd."""

__version__ = "0.2.0.dev0"
