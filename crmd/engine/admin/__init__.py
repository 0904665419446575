"""What a person or a program asks of queues and jobs from outside: look, add, cancel, pause, retry.

It may touch the store, and no worker.
"""
