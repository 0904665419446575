"""The CRM's work, a folder for each feature.

It may touch the engine and HTTP, and knows neither the daemon nor the console.
"""
