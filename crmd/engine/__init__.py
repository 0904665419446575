"""How a job lives: claimed, run, settled, retried, and recovered after a crash.

May import telemetry and `crmd.jobs`; knows nothing of the CRM, HTTP, the command line or the configuration file.
"""
