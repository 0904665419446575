"""The Valkey server that crmd runs itself: its binary, process, append-only file and state folder.

It may touch telemetry only.
"""
