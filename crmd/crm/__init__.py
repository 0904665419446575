"""The CRM's work, one folder for each feature.

May import the engine, the configuration, the HTTP plumbing and `cli.kit`; knows neither daemon nor console.
"""
