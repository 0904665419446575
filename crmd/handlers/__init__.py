"""What work is done: the jobs that crmd ships, and their payloads."""
