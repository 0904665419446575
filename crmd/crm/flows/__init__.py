"""Conversations that go step by step and wait for replies.

Knows contacts, and the payloads of the jobs that steps add.
"""
