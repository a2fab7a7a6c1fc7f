"""A directory that answers as Keycloak does: it lets one client in, and knows who has which role."""

import http.server
import json
import secrets
import threading
import urllib.parse

REALM, CLIENT = "people", "countersign"


class Directory:
    def __init__(self, members):
        self.secret, self.token = secrets.token_hex(16), secrets.token_hex(16)
        directory = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = self.path == f"/realms/{REALM}/protocol/openid-connect/token"
                if known and (asked["client_id"], asked["client_secret"]) == ([CLIENT], [directory.secret]):
                    self.answer(200, {"access_token": directory.token, "expires_in": 300})
                else:
                    self.answer(401, {"error": "unauthorized_client"})

            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                role = path.removeprefix(f"/admin/realms/{REALM}/roles/").removesuffix("/users")
                if self.headers["Authorization"] != f"Bearer {directory.token}":
                    self.answer(401, {"error": "HTTP 401 Unauthorized"})
                elif role in members:
                    self.answer(200, [{"id": member} for member in members[role]])
                else:
                    self.answer(404, {"error": "Could not find role"})

            def answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def parameter(self, secret_id):
        """The stack's parameter that names it."""
        url = f"http://127.0.0.1:{self.server.server_port}"
        said = {"keycloak_url": url, "realm": REALM, "client_id": CLIENT, "secret_id": secret_id}
        return json.dumps(said, separators=(",", ":"))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
