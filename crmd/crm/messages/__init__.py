"""Messages to and from people: sending, rows, statuses, and what became of unknown ones.

Knows contacts and WhatsApp.
"""
