"""Files kept on disk, with owner, quota and expiry.

Knows the database.
"""
