"""Messages to and from people: sending, records, statuses, and what became of unknown ones.

Knows contacts and WhatsApp.
"""
