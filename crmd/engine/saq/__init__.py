"""SAQ's queue and worker on this engine, so that plain SAQ functions keep working.

The only folder that may import saq. May import `engine.worker` and `engine.admin`, which know nothing of it.
"""
