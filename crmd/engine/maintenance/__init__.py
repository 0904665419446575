"""What keeps the queues of all daemons whole: heartbeats, recovery, the janitor, schedules, wake-ups.

It may touch the store and the administration.
"""
