"""The wrapper of the store that CRM code keeps its cached values in.

It may touch the store of the engine.
"""
