"""A webhook receiver that remembers what it was sent, fails once for some events, and at one address for ever."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

NEVER = "/never"


class Receiver:
    """What arrives is kept by the name of its event, with the id that it came under, and whether it was taken."""

    def __init__(self, address, fails_once):
        self.changed = threading.Condition()
        self.arrived = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == NEVER:
                    self.send_response(503)
                    self.end_headers()
                    return
                self.send_response(204 if receiver.take(self.headers, body, fails_once) else 503)
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        # On every address where functions cannot reach this machine's loopback.
        listen = address if address == "127.0.0.1" else "0.0.0.0"
        self.server = http.server.ThreadingHTTPServer((listen, 0), Handler)
        place = f"http://{address}:{self.server.server_port}"
        self.url, self.deaf = f"{place}/hook", place + NEVER
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers, body, fails_once):
        event = json.loads(body)
        name = event.get("event_type") or event.get("event")
        with self.changed:
            before = any(name == earlier[0] for earlier in self.arrived)
            taken = before or name not in fails_once
            self.arrived.append((name, headers, body, taken))
            self.changed.notify_all()
        return taken

    def attempts(self, name, count, within):
        """As many attempts at one event, as soon as they were made; all under one id."""
        deadline = time.monotonic() + within
        with self.changed:
            while len(found := [arrived for arrived in self.arrived if arrived[0] == name]) < count:
                left = deadline - time.monotonic()
                names = [arrived[0] for arrived in self.arrived]
                assert left > 0, f"{len(found)} instead of {count} attempts at {name} came in {within} s, of {names}"
                self.changed.wait(left)
        first = found[0][1]["webhook-id"]
        assert all(arrived[1]["webhook-id"] == first for arrived in found[:count]), found
        return found[:count]

    def taken(self):
        """The name and the id of each event that was taken, as often as it was."""
        with self.changed:
            return [(name, headers["webhook-id"]) for name, headers, _, taken in self.arrived if taken]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def is_signed(headers, body, secret):
    """Whether a webhook is signed as Standard Webhooks says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(given, expected) for given in headers["webhook-signature"].split(" "))
