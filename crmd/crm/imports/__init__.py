"""Contacts read from files that people upload.

Knows contacts, files and the table readers.
"""
