"""The HTTP plumbing: connections, authentication, problems, schemas and the OpenAPI description.

It may touch the configuration and the engine, and knows no feature.
"""
