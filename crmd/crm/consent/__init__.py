"""The words by which people opt out of messages and in again.

Knows no other feature.
"""
