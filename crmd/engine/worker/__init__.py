"""One queue at work in this process: claims, executions, outcomes and their acknowledgement.

It may touch the store and `crmd.jobs`.
"""
