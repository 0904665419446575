"""What operators see and do over HTTP: health, metrics, queues, jobs, and SAQ's page.

May import the HTTP plumbing, the configuration and the engine; knows no feature.
"""
