"""The Cloud API: client, content, errors, and the rate of sending.

Knows no other feature.
"""
