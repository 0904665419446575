"""SAQ's queue on this engine, so that plain SAQ programs keep working.

The only folder that may import saq.
"""
