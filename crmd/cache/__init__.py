"""The cache for application and CRM code: JSON values in the store.

May import the engine's store.
"""
