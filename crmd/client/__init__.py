"""The clients with which applications add jobs, over the store or over HTTP.

May import the engine and the configuration.
"""
