"""CSV, XLSX and JSON Lines, read and written row by row.

Knows no feature.
"""
