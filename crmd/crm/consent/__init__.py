"""The words with which people opt out of messages and in again.

Knows no other feature.
"""
