"""One queue at work in this process: its trips to the store, its executions, their outcomes and acks.

It may touch `engine.store`, `engine.admin` and `crmd.jobs`; it knows nothing of SAQ.
"""
