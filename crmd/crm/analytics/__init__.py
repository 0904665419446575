"""Hourly figures and the report.

Knows the messages and the state of the queues.
"""
