"""One queue at work in this process: its trips to the store, its executions, their outcomes and acks.

May import `engine.store`, `engine.admin` and `crmd.jobs`; knows nothing of SAQ.
"""
