"""Drives the actions door and the webhooks door with a client that others wrote: the PyPI package ascend-ai-sdk, unmodified.

Usage: drive_ascend.py <path of the countersign binary>. Starts a server of its own on free ports and a fresh data directory.
"""

import hashlib
import hmac
import http.server
import json
import queue
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import requests
from ascend import AscendClient
from ascend.exceptions import AuthenticationError, ValidationError
from ascend.models import Decision, DecisionStatus

BINARY = sys.argv[1]
ORGANIZATION = "7"


class Server:
    """A countersign process and the credentials that it gives out."""

    def __init__(self, data, certificate):
        self.environment = {
            # The authority of the receiver's certificate: the client registers https alone.
            "SSL_CERT_FILE": certificate,
            "COUNTERSIGN_LISTEN": "127.0.0.1:0",
            "COUNTERSIGN_MANAGEMENT_LISTEN": "127.0.0.1:0",
            "COUNTERSIGN_DATA": data,
        }
        self.process = subprocess.Popen(
            [BINARY], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        ready = self.process.stdout.readline()
        words = dict(word.split("=", 1) for word in ready.split()[1:])
        self.public, self.management = words["public"], words["management"]

    def command(self, *arguments):
        done = subprocess.run([BINARY, *arguments], env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def token(self, subject, role):
        return self.command("token", "--tenant", ORGANIZATION, "--subject", subject, "--role", role)

    def key(self, *scopes):
        named = [part for scope in scopes for part in ("--scope", scope)]
        return self.command("key", "--tenant", ORGANIZATION, "--name", "sdk", *named)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


class Receiver:
    """A webhook receiver of our own, with TLS, that remembers what it was sent."""

    def __init__(self, directory):
        self.certificate = f"{directory}/certificate.pem"
        key = f"{directory}/key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"]
            + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )
        arrived = self.arrived = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                arrived.put((self.headers, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, secret):
        """The next webhook, whose signature is verified with plain HMAC."""
        headers, body = self.arrived.get(timeout=20)
        signed = headers["X-Approval-Timestamp"].encode() + b"." + body
        expected = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(headers["X-Approval-Signature"], expected), headers
        return json.loads(body)


def client_of(server, key, **options):
    return AscendClient(api_key=key, agent_id="sdk-bot", agent_name="SDK bot", api_url=server.public, **options)


def decide(server, action_id, verb, token, body=None):
    url = f"{server.public}/api/v1/actions/{action_id}/{verb}"
    return requests.post(url, headers={"Authorization": f"Bearer {token}"}, json=body, timeout=10)


def pending_action(server, token):
    """The one action that waits for a human, as soon as there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        url = f"{server.public}/api/v1/actions?status_filter=pending"
        actions = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).json()
        if actions:
            return actions[0]["id"]
        time.sleep(0.05)
    raise AssertionError("nothing is pending")


def connects(server, client, _human):
    connection = client.test_connection()
    assert connection.connected, connection
    assert connection.environment == "local" and connection.api_version, connection


def low_risk_is_allowed_at_once(_server, client, _human):
    decision = client.evaluate_action(action_type="query", resource="reports", parameters={"rows": 10})
    assert decision.decision == Decision.ALLOWED and decision.execution_allowed, decision
    assert decision.risk_score < 30 and decision.risk_level.value == "low", decision
    assert decision.thresholds["auto_approve_below"] == 30, decision


def waiting_returns_once_a_human_has_decided(server, client, human):
    for verb, expected in [("approve", Decision.ALLOWED), ("reject", Decision.DENIED)]:
        answers = []

        def approver():
            answers.append(decide(server, pending_action(server, human), verb, human, {"reason": "reviewed"}))

        thread = threading.Thread(target=approver)
        thread.start()
        decision = client.evaluate_action(
            action_type="transaction",
            resource="payments",
            resource_id="p-1",
            risk_indicators={"financial_data": True, "external_transfer": True},
            context={"session_id": "s"},
            wait_for_decision=True,
            timeout=30,
        )
        thread.join()
        assert answers[0].status_code == 200, answers[0].text
        assert decision.decision == expected, decision
        assert decision.reason == "reviewed", decision
        if verb == "approve":
            assert decision.approved_by == 42 and decision.approved_at and decision.comments == "reviewed", decision


def an_action_is_followed_to_its_end(server, client, human):
    submitted = client.evaluate_action(
        action_type="data_modification", resource="customers", wait_for_decision=False
    )
    assert submitted.decision == Decision.PENDING and submitted.approval_request_id and submitted.expires_at, submitted
    assert client.check_approval(submitted.approval_request_id)["pending"]
    assert client.get_action_status(submitted.action_id).decision == Decision.PENDING

    assert decide(server, submitted.action_id, "approve", human).status_code == 200
    approval = client.check_approval(submitted.approval_request_id)
    assert approval["approved"] and approval["approver"] == 42 and approval["timestamp"], approval
    waited = client.wait_for_decision(submitted.action_id, timeout=5)
    assert waited.decision == Decision.ALLOWED, waited

    completed = client.log_action_completed(submitted.action_id, result={"rows": 3}, duration_ms=12)
    assert completed["status"] == "completed" and completed["recorded_at"], completed
    details = client.get_action_details(submitted.action_id)
    assert details.status == DecisionStatus.APPROVED and details.agent_id == "sdk-bot", details
    names = [line["action_type"] for line in details.audit_trail]
    assert names == ["action_submitted", "action_approved", "action_completed"], names

    failing = client.evaluate_action(action_type="query", resource="reports")
    failed = client.log_action_failed(failing.action_id, error={"code": "E1", "message": "no rows"}, duration_ms=1)
    assert failed["status"] == "failed", failed


def a_denied_approval_is_told(server, client, human):
    submitted = client.evaluate_action(action_type="system_operation", resource="hosts", wait_for_decision=False)
    assert decide(server, submitted.action_id, "reject", human, {"reason": "not today"}).status_code == 200
    approval = client.check_approval(submitted.approval_request_id)
    assert approval["denied"] and approval["comments"] == "not today" and approval["approver"] == 42, approval


def many_are_evaluated_and_listed(_server, client, _human):
    actions = [{"action_type": "query", "resource": f"r-{n}"} for n in range(12)]
    actions += [{"action_type": "unheard_of", "resource": "r"}, {"action_type": "", "resource": "r"}]
    result = client.evaluate_actions(actions)
    assert (result.total, result.succeeded, result.failed) == (14, 13, 1), result
    unknown = [r.decision for r in result.results if r.action_type == "unheard_of"]
    assert unknown[0].decision == Decision.PENDING and unknown[0].risk_score == 50, unknown

    listed = client.list_actions(limit=5)
    assert len(listed) == 5 and all(action["agent_id"] == "sdk-bot" for action in listed), listed
    assert [a["id"] for a in client.list_actions(limit=2, offset=1)] == [a["id"] for a in listed[1:3]]
    pending = client.list_actions(status="pending")
    assert pending and all(action["status"] == "pending" for action in pending), pending
    assert client.list_actions(offset=1000) == []


def the_audit_log_is_read(_server, client, _human):
    log = client.query_audit_log(limit=5)
    assert log.total > 20 and len(log.events) == 5 and log.page == 1 and log.page_size == 5, log
    event = log.events[0]
    assert event.event_id and event.event_type.startswith("action_") and event.timestamp and event.actor, event
    assert client.query_audit_log(limit=5, offset=5).page == 2


def webhooks_are_configured_tested_and_sent(server, client, human):
    receiver, secret = server.receiver, "a shared secret of sixteen and more"
    minted = client.configure_webhook(receiver.url, ["action.denied", "policy.violation"])
    assert minted["secret"].startswith("whsec_") and minted["active"], minted
    client.delete_webhook(minted["webhook_id"])

    added = client.configure_webhook(receiver.url, ["action.denied", "agent.trust_changed"], secret=secret)
    assert "secret" not in added and added["events"] == ["action.denied", "agent.trust_changed"], added
    webhook_id = added["webhook_id"]
    [listed] = client.list_webhooks()
    assert (listed.webhook_id, listed.url, listed.active, listed.secret) == (webhook_id, receiver.url, True, None), listed
    assert listed.created_at, listed

    tested = client.test_webhook(webhook_id)
    assert tested.success and tested.status_code == 204 and tested.response_time_ms is not None, tested
    assert receiver.next(secret)["event_type"] == "webhook.test"

    secret = "another secret of sixteen and more"
    updated = client.update_webhook(webhook_id, events=["action.approved"], secret=secret)
    assert updated.events == ["action.approved"] and updated.url == receiver.url, updated
    submitted = client.evaluate_action(action_type="transaction", resource="payments", wait_for_decision=False)
    assert decide(server, submitted.action_id, "approve", human).status_code == 200
    event = receiver.next(secret)
    assert event["event_type"] == "action.approved" and event["data"]["agent_id"] == "sdk-bot", event
    assert str(event["subject"]["id"]) == str(submitted.action_id), event

    moved = client.update_webhook(webhook_id, url=receiver.url + "/elsewhere")
    assert moved.url.endswith("/elsewhere"), moved
    try:
        client.update_webhook(webhook_id, url="https://169.254.169.254/")
        raise AssertionError("no error")
    except ValidationError:
        pass
    client.delete_webhook(webhook_id)
    assert client.list_webhooks() == []


def errors_are_the_ones_that_the_client_knows(server, client, _human):
    try:
        client.get_action_status("not-a-number")
        raise AssertionError("no error")
    except ValidationError as error:
        assert "whole number" in str(error), error
    stranger = client_of(server, "cs_live_00000000_nobodys", max_retries=0)
    try:
        stranger.evaluate_action(action_type="query", resource="r")
        raise AssertionError("no error")
    except AuthenticationError:
        pass


def main():
    with tempfile.TemporaryDirectory() as data:
        receiver = Receiver(data)
        server = Server(f"{data}/data", receiver.certificate)
        server.receiver = receiver
        try:
            client = client_of(server, server.key("actions:submit", "actions:read", "webhooks:manage"))
            human = server.token("42", "admin")
            for story in [
                connects,
                low_risk_is_allowed_at_once,
                waiting_returns_once_a_human_has_decided,
                an_action_is_followed_to_its_end,
                a_denied_approval_is_told,
                many_are_evaluated_and_listed,
                the_audit_log_is_read,
                webhooks_are_configured_tested_and_sent,
                errors_are_the_ones_that_the_client_knows,
            ]:
                story(server, client, human)
                print(f"ok {story.__name__}")
        finally:
            server.stop()


main()
