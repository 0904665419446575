"""The HTTP client that refuses private addresses, and downloads with it.

Knows no feature.
"""
