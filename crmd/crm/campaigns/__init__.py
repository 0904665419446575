"""One message to many people: audience, pace, canary, pause and resume.

Knows contacts, imports and messages.
"""
