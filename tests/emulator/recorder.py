"""Stands between the functions and the emulator, passes on what they ask of AWS, and remembers it."""

import http.client
import http.server
import json
import re
import ssl
import sys
import threading
from dataclasses import dataclass

# Of the connection, not of the message.
OWN = {"connection", "content-length", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """What a function asked, by the credentials that it signed with, and what became of that."""

    key: str
    service: str
    operation: str
    content: bytes
    status: int
    answer: bytes

    def body(self):
        return json.loads(self.content)

    def error(self):
        """What it was refused as, if it was."""
        return json.loads(self.answer)["__type"].rpartition("#")[2] if self.status >= 400 else None


class Recorder:
    """Shows the emulator's own certificate, the one that functions trust."""

    def __init__(self, certificate, key, upstream):
        self.upstream = upstream
        self.requests, self.lock = [], threading.Lock()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.recorder = self
        self.server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.context.load_cert_chain(certificate, key)
        self.trust = ssl.create_default_context(cafile=certificate)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def heard(self):
        """All requests up to now, in the order in which they were answered."""
        with self.lock:
            return list(self.requests)

    def note(self, headers, content, status, answer):
        signed = re.search(r"Credential=(\w+)/\d+/[\w-]+/([\w-]+)/", headers.get("Authorization", ""))
        key, service = signed.groups() if signed else ("", "unsigned")
        # All that the functions use speak AWS's JSON protocols.
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        with self.lock:
            self.requests.append(Request(key, service, operation, content, status, answer))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client_address):
        # In the thread of its own that each connection has: who is slow to shake hands holds up nobody else.
        try:
            request = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        # A function that is stopped while it asks, which is how all of them end.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a function, with one of its own to the emulator."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes, of which the second would wait for word of the first.
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        recorder = self.server.recorder
        self.upstream = http.client.HTTPSConnection("127.0.0.1", recorder.upstream, context=recorder.trust, timeout=60)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # As it was signed, the host too.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        self.upstream.request("POST", self.path, body, headers)
        answer = self.upstream.getresponse()
        content = answer.read()
        self.server.recorder.note(self.headers, body, answer.status, content)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def finish(self):
        self.upstream.close()
        super().finish()

    def log_message(self, *_arguments):
        pass
