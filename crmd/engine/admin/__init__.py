"""What people and programs do with queues and jobs from outside: look, add, cancel, pause, retry.

May import `engine.store`, and no worker.
"""
