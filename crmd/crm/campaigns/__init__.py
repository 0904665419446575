"""One message to many people: audience, backpressure, canary, pause and resume.

Knows contacts, imports, messages, files and templates.
"""
