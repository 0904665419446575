"""People: their numbers, names, tags and attributes.

Knows the database and no other feature.
"""
