"""Messages to and from people: sending, rows, statuses, and the reconciliation of unknown ones.

Knows contacts and WhatsApp.
"""
