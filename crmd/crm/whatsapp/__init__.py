"""The Cloud API: client, content, errors and send rate.

Knows the outbound HTTP client and no other feature.
"""
