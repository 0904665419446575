"""What an operator sees and does over HTTP: health, metrics, queues, jobs, and the SAQ page.

It may touch everything but the daemon and the command line.
"""
