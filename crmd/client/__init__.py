"""What applications call to add jobs: over the store or over HTTP.

It may touch the engine.
"""
