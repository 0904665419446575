"""The commands about queues, jobs and the daemon.

They may touch everything.
"""
