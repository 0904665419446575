"""A real HTTP server over a real store and real workers."""

from tests.support.http import crm, ok, web

__all__ = ["crm", "ok", "web"]
