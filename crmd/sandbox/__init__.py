"""Local stand-ins for the services outside, to see everything work without an account."""
