"""The connection to Redis or Valkey: pipelining, keys, the Lua scripts and their replies.

May import telemetry; knows nothing of what a job does.
"""
