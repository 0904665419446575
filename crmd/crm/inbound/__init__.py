"""What WhatsApp tells us: messages, statuses and stops, by its signed webhook.

Knows contacts, consent, messages and flows.
"""
