"""Mail over SMTP.

Knows files and templates.
"""
