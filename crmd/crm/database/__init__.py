"""SQLite and PostgreSQL: connections, transactions, errors, migrations.

Knows no feature.
"""
