"""Contacts, read from uploaded files.

Knows contacts, files and the table readers.
"""
