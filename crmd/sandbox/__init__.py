"""Local stand-ins for outside services, to see everything work without an account.

They share nothing with what they stand in for: no client, handler or limiter of crmd is used here.
"""
