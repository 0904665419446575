"""Files kept on disk, with their owner, quota and end.

Knows the database.
"""
