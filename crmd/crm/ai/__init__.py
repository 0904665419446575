"""Replies, summaries and transcripts by a model.

Knows files, and the payload of the message that it may send.
"""
