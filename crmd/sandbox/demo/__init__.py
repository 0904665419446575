"""The demo: a daemon, the sandbox, and a small CRM's day, by commands and HTTP that anyone can type."""
