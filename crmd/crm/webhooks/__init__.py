"""Events, delivered to other systems by signed requests.

Knows the database and the outbound HTTP client.
"""
