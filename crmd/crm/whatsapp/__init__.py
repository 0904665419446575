"""The Cloud API: client, content, errors, and the pace of sending.

Knows no other feature.
"""
