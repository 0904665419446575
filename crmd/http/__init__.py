"""The HTTP plumbing: connections, authentication, problems, schemas and the OpenAPI description.

May import the configuration and the engine; knows no feature.
"""
