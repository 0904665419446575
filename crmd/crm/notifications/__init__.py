"""Notifications and alerts for the people who run crmd.

Knows the state of the queues.
"""
