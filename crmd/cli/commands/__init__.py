"""The commands about queues, jobs and the daemon.

May import everything.
"""
