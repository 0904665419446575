"""Logs, metrics, events and redaction.

Imports nothing else of crmd.
"""
