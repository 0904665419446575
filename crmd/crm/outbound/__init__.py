"""The HTTP client that refuses private addresses, and downloads through it.

Knows no feature.
"""
