"""Who is outside: one module for each service that handlers speak to."""
