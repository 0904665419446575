"""crmd: a background-job daemon for a WhatsApp CRM."""

__version__ = "0.1.0"
