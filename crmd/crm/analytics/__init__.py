"""Hourly and daily figures, and the report.

Knows what it counts: messages, campaigns, contacts, AI tokens and the state of the queues.
"""
