"""Contacts and messages written to files.

Knows contacts, messages, files and the table writers.
"""
