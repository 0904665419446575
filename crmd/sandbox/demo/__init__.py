"""The demo: a daemon, the sandbox, and a day of a small CRM, in commands and requests that anyone can type."""
