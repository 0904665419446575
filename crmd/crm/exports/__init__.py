"""Contacts and messages, written to files.

Knows contacts, imports, messages, files and the table writers.
"""
