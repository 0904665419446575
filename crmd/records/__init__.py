"""What the CRM knows: contacts, messages, campaigns, flows, files and reports, in SQLite or PostgreSQL."""
