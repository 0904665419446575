"""The Valkey server that crmd runs itself: its binary, process, append-only file and state folder.

May import telemetry.
"""
