"""Receives webhooks and checks their signatures: python receiver.py [PORT], the secret in CRMD_WEBHOOK__SECRET."""
# ruff: noqa: T201

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["CRMD_WEBHOOK__SECRET"])


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is signed, 401 to everything else."""

    def do_POST(self) -> None:
        """Takes one webhook."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            WEBHOOK.verify(body, headers)
        except WebhookVerificationError as error:
            self.send_error(401, str(error))
            return
        print(headers["webhook-id"], body.decode(), flush=True)
        self.send_response(204)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver)
print(f"waiting at http://127.0.0.1:{server.server_port}/", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    server.server_close()
