"""A webhook receiver: verifies each signature with the official Standard Webhooks library.

Usage: receiver.py PORT SECRET_FILE RECORD_FILE

Listens on 127.0.0.1 (port 0: a free one), says where on its first line, prints a line per webhook, and appends what
arrived to RECORD_FILE as JSON lines. SECRET_FILE holds `whsec_...`; it is read at each request, so it may come later.
Answers 204 to a good signature, 401 to a bad one.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

PORT, SECRET_FILE, RECORD_FILE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LOCK = threading.Lock()


def verdict(body, headers):
    """None when the signature is good, else why it isn't."""
    try:
        with open(SECRET_FILE, encoding="ascii") as file:
            Webhook(file.read().strip()).verify(body, headers, json_parse=False)
    except Exception as error:  # each of the library's errors, and a secret that isn't there
        return f"{type(error).__name__}: {error}"
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        problem = verdict(body, headers)
        self.send_response(204 if problem is None else 401)
        self.send_header("content-length", "0")
        self.end_headers()
        record = {
            "id": headers.get("webhook-id"),
            "type": headers.get("ce-type"),
            "source": headers.get("ce-source"),
            "eventId": headers.get("ce-id"),
            "verified": problem is None,
            "problem": problem,
            "body": body.decode(errors="replace"),
        }
        with LOCK:
            with open(RECORD_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            word = "signature ok " if problem is None else f"BAD SIGNATURE ({problem})"
            print(f"{word} {record['id']} {record['type']} {record['body']}", flush=True)

    def log_message(self, *_):
        """Nothing: the line above says it."""


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
