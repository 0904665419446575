"""Answers of language models, and transcripts of recordings.

Knows files, the outbound HTTP client, and the payload of the message that it may send.
"""
