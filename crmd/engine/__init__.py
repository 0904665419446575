"""How a job lives: claimed, run, settled, retried and found again after a crash.

It may touch the store, telemetry and `crmd.jobs`, and knows nothing of the CRM, HTTP, the command line or the
configuration file.
"""
