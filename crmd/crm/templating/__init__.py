"""The template language of campaigns and mail, bounded in time and size.

Knows no feature.
"""
