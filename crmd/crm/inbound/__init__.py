"""What WhatsApp's signed webhook reports: messages, statuses and marketing decisions.

Knows contacts, consent, messages and flows.
"""
