"""The connection to Redis or Valkey: pipelining, keys, the Lua scripts and their replies.

It may touch telemetry only, and knows nothing of what a job does.
"""
