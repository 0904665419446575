"""Events delivered to other systems by signed requests.

Knows the outbound HTTP client.
"""
