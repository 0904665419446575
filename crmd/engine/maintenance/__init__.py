"""What keeps the queues in order: heartbeats, recovery, the janitor, schedules, wake-ups.

May import `engine.store`, `engine.admin` and `engine.worker`.
"""
