"""The configuration: what can be set, where values come from, and every mistake in them.

Produces the plain data of `crmd.engine.settings`. May import that, durations and store addresses of the engine;
knows nothing of the CRM, HTTP or the command line.
"""
