"""The template language of campaigns, flows and mail, limited in time and size.

Knows no feature.
"""
