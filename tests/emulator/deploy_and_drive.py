"""Deploys the stack to an emulator of AWS, out of the same templates and with real binaries, and plays its stories.

Usage: deploy_and_drive.py [--binaries DIRECTORY] [--endpoint URL [--receive-at ADDRESS]]

Without an endpoint it starts ministack on this machine, where roles may do only what the templates say, and compares
what they allow with what the functions did; whatever it starts it ends. Binaries are looked for where `cargo build
--profile lambda` leaves them, target/lambda.
"""

import argparse
import hashlib
import hmac
import json
import secrets
import signal
import sys
import tempfile
import time
import traceback

import errands
from costs import a_warm_decision_is_three_round_trips
from deployment import ROOT, Deployment, read
from directory import Directory
from emulator import Ministack, Running
from receiver import Receiver, is_signed
from rights import counted, differences, exempts
from world import AUDIENCE, CUSTOMER, EXPIRED_WITHIN, FAILS_ONCE, ISSUER, TENANT, WITHIN, World, until

# Who has which role.
MEMBERS = {"buyers": ["u-zoe"], "chiefs": ["u-chief"]}

FUNCTIONS = ["overrides", "approvals", "actions", "cases", "workflow", "webhooks", "management", "webhooks-management"]
FUNCTIONS += ["delivery", "clock", "dead-letters", "workflow-docs"]


def the_table_is_defined_alike_in_both_places(_world):
    made = read("infra/data.yaml")["Resources"]["Table"]["Properties"]
    for name, value in json.loads((ROOT / "infra/table.json").read_text()).items():
        assert made[name] == value, f"infra/data.yaml and infra/table.json have another {name}"


def the_table_answers_on_both_planes(world):
    # The public plane's own `/health` is not to be had: the emulator answers that path itself.
    assert world.public.ask("GET", "/v1/awe/health", 200)["response"]["status"] == "UP"
    assert world.management.ask("GET", "/health", 200)["status"] == "healthy"


def every_404_is_ours(world):
    assert world.public.ask("GET", "/nothing/here", 404)["error"] == "not_found"
    assert world.public.ask("GET", "/v1/remediation/a/b/c", 404)["error"] == "not_found"
    assert world.operate("GET", "/nothing/here", 404)["error"] == "not_found"


def an_endpoint_is_registered(world):
    body = {"url": world.receiver.url, "events": ["*"]}
    world.endpoint = world.operate("POST", "/webhooks/endpoints", 201, {"tenant": TENANT, **body})
    world.operate("POST", "/webhooks/endpoints", 201, {"tenant": CUSTOMER, **body})
    listed = world.public.ask("GET", "/webhooks/endpoints", 200, headers=world.bearer("42", "admin"))
    assert [endpoint["id"] for endpoint in listed["items"]] == [world.endpoint["id"]], listed


def a_proposal_is_left_to_expire(world):
    body = {"incidentTitle": "Slow", "title": "Wait", "steps": [{"description": "Wait"}], "timeoutMinutes": 1}
    world.left = world.public.ask("POST", "/v1/remediation", 201, body, headers=world.bearer("42", "admin"))


def an_override_is_decided_once(world):
    asked = {"customer_id": CUSTOMER, "event_id": "evt-1"}
    token = world.operate("POST", "/tokens/override", 201, asked)
    decision = {"override_jti": token["jti"], "customer_id": CUSTOMER, "decision": "approve"}
    # As documented, without credentials.
    decided = world.management.ask("POST", "/overrides/evt-1/decide", 200, decision)
    world.management.ask("POST", "/overrides/evt-1/decide", 409, decision)
    arn = world.deployment.outputs["OverrideSecretArn"]
    secret = world.deployment.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    message = f"override|evt-1|approve|{token['jti']}".encode()
    expected = hmac.new(json.loads(secret)["current"].encode(), message, hashlib.sha256).hexdigest()
    assert decided["cosignature"] == expected, decided
    verified = {name: decided[name] for name in ("event_id", "decision", "cosignature")}
    answer = world.operate("POST", "/overrides/verify", 200, {**verified, "override_jti": token["jti"]})
    assert answer["valid"], answer


def an_approval_is_answered_once(world):
    human = world.bearer("42", "admin")
    body = {"incidentTitle": "Slow", "title": "Restart", "steps": [{"description": "Restart it"}]}
    proposed = world.public.ask("POST", "/v1/remediation", 201, body, headers=human)
    path = f"/v1/notifications/approvals/{proposed['approvalId']}/respond"
    answer = world.public.ask("POST", path, 200, {"decision": "approve"}, headers=human)
    assert answer["remediationStatus"] == "executing", answer
    world.public.ask("POST", path, 409, {"decision": "reject"}, headers=human)
    assert world.public.ask("GET", "/v1/audit/verify", 200, headers=human)["valid"]


def an_action_is_decided_by_a_human(world):
    agent, human = world.key("actions:submit", "actions:read"), world.bearer("42", "admin")
    body = {"agent_id": "bot", "action_type": "transaction", "resource": "payments"}
    submitted = world.public.ask("POST", "/api/v1/actions/submit", 200, body, headers=agent)
    assert submitted["decision"] == "pending", submitted
    path = f"/api/v1/actions/{submitted['action_id']}"
    world.public.ask("POST", f"{path}/approve", 401, headers=agent)
    world.public.ask("POST", f"{path}/approve", 200, headers=human)
    assert world.public.ask("GET", f"{path}/status", 200, headers=agent)["decision"] == "allowed"


def a_case_gets_its_verdict(world):
    tool = world.key("cases:read", "cases:write")
    body = {"title": "Impossible travel", "severity": "high"}
    case = world.public.ask("POST", "/api/v1/external/cases", 201, body, headers=tool)
    world.public.ask("GET", "/api/v1/external/cases/feed?page_size=1", 200, headers=tool)
    path = f"/api/v1/external/cases/{case['case_id']}"
    world.public.ask("POST", f"{path}/verdict", 200, {"outcome": "FALSE_POSITIVE"}, headers=tool)
    world.public.ask("POST", f"{path}/verdict", 409, {"outcome": "TRUE_POSITIVE"}, headers=tool)


def a_request_goes_through_its_stage(world):
    admin, ann = world.bearer("u-admin", "AWE_ADMIN"), world.bearer("u-ann")
    rule = {"rule_type": "user", "rule_value": {"user_id": "u-ann"}}
    stage = {"name": "Lead", "stage_order": 1, "rules": [rule]}
    policy = {"policy_key": "buy", "name": "Purchases", "artifact_type": "purchase", "stages": [stage]}
    world.public.ask("POST", "/v1/awe/policies", 201, policy, headers=admin)
    world.public.ask("POST", "/v1/awe/policies/buy/versions/1/activate", 200, headers=admin)
    # So that there is something to sign the callback with.
    world.operate("PUT", "/secrets/shop", 204, {"tenant": TENANT, "value": "a secret of the shop"})
    asked = {"policy_key": "buy", "artifact_type": "purchase", "artifact_id": "p-1"}
    asked |= {"callback_url": world.receiver.url, "callback_secret_id": "shop"}
    request = world.public.ask("POST", "/v1/awe/requests", 201, asked, headers=admin)
    [task] = world.public.ask("GET", "/v1/awe/tasks", 200, headers=ann)
    world.public.ask("POST", f"/v1/awe/tasks/{task['id']}/decision", 201, {"action": "approve"}, headers=ann)
    shown = world.public.ask("GET", f"/v1/awe/requests/{request['request_id']}", 200, headers=ann)
    assert shown["status"] == "approved", shown


def the_workflow_door_describes_itself(world):
    assert world.public.ask("GET", "/v1/awe/openapi.json", 200)["openapi"].startswith("3.1")
    for page in ("/v1/awe/docs", "/v1/awe/docs/swagger-ui.css", "/v1/awe/redoc"):
        world.public.ask("GET", page, 200)


def the_management_plane_lets_nobody_in_unsigned(world):
    for method, path in [("POST", "/tokens/override"), ("GET", "/api-keys?domain=1"), ("POST", "/webhooks/endpoints")]:
        answer = world.management.call(method, path, {} if method == "POST" else None)
        assert answer.status_code == 403, f"{method} {path} unsigned is {answer.status_code}: {answer.text[:200]}"


def a_failed_webhook_comes_again(world):
    failed, taken = world.receiver.attempts(FAILS_ONCE, 2, WITHIN)
    assert not failed[3] and taken[3], (failed, taken)
    for _, headers, body, _ in (failed, taken):
        assert is_signed(headers, body, world.endpoint["secret"]), headers

    def delivered():
        path = f"/webhooks/deliveries?event={FAILS_ONCE}"
        items = world.public.ask("GET", path, 200, headers=world.bearer("42", "admin"))["items"]
        items = [item for item in items if item["endpoint"] == world.endpoint["id"]]
        return next((item for item in items if item["status"] == "delivered"), None)

    delivery = until(f"{FAILS_ONCE} is shown as delivered", delivered)
    assert delivery["attempts"] == 2, delivery


def every_door_is_heard_of(world):
    for name in ("override.decided", "remediation.proposed", "action.approved", "case.resolved", "request.approved"):
        [arrived] = world.receiver.attempts(name, 1, WITHIN)
        assert arrived[3], arrived
    # Of the same event, but said as the workflow's contract says it.
    [_, _, body, _] = world.receiver.attempts("request_approved", 1, WITHIN)[0]
    assert json.loads(body)["status"] == "approved", body


def the_event_bus_hears_of_remediations(world):
    queue = world.deployment.client("sqs")

    def heard():
        messages = queue.receive_message(QueueUrl=world.bus_queue, WaitTimeSeconds=1).get("Messages", [])
        return [message for message in messages if "remediation." in message["Body"]]

    [message, *_] = until("the bus hears of a remediation", heard)
    assert json.loads(message["Body"])["source"] == "countersign.remediation", message


def dead_letters_are_read(world):
    queue = world.deployment.client("sqs")
    url = queue.get_queue_url(QueueName=f"{world.deployment.name}-dead")["QueueUrl"]
    queue.send_message(QueueUrl=url, MessageBody="what nobody can read")

    def is_empty():
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = queue.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return all(found[name] == "0" for name in names)

    until("the dead queue is empty", is_empty)


def what_was_left_expires_by_the_clock(world):
    human = world.bearer("42", "admin")

    def expired():
        shown = world.public.ask("GET", f"/v1/remediation/{world.left['remediationId']}", 200, headers=human)
        return shown["status"] == "expired"

    world.receiver.attempts("remediation.expired", 1, EXPIRED_WITHIN)
    assert expired(), "the remediation is not shown as expired"
    assert world.deployment.logged("clock"), "it expired, but the schedule has never called the clock"


def each_function_does_all_that_its_role_allows_and_nothing_else(world):
    deployment, functions = world.deployment, world.deployment.functions
    excepted = exempts(functions.keys(), deployment.name, deployment.nested_output("Data", "KeyArn"))
    heard = deployment.emulator.recorder.heard()
    found = differences(functions, heard, excepted)
    assert not found, "\n  ".join(["roles and functions differ:", *found])
    rights, unseen = counted(functions, excepted)
    used = f"{rights - unseen} of {rights} rights, the other {unseen} being exceptions"
    print(f"{len(functions)} functions made {len(heard)} calls to AWS by {used}")


STORIES = [
    the_table_is_defined_alike_in_both_places,
    the_table_answers_on_both_planes,
    every_404_is_ours,
    an_endpoint_is_registered,
    a_proposal_is_left_to_expire,
    *errands.BEFORE,
    an_override_is_decided_once,
    an_approval_is_answered_once,
    an_action_is_decided_by_a_human,
    a_case_gets_its_verdict,
    a_request_goes_through_its_stage,
    the_workflow_door_describes_itself,
    the_management_plane_lets_nobody_in_unsigned,
    a_failed_webhook_comes_again,
    every_door_is_heard_of,
    the_event_bus_hears_of_remediations,
    dead_letters_are_read,
    *errands.ERRANDS,
    what_was_left_expires_by_the_clock,
    *errands.AFTER,
]


def parameters(issuer_arn, receive_at):
    """Of the stack: all that has to be said, and what makes its stories short."""
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "hs256_secret_id": issuer_arn}
    return {
        "VpcEndpointId": "vpce-0123456789abcdef0",
        "Issuers": json.dumps([{**issuer, "algorithms": ["HS256"], "tenants": "*"}], separators=(",", ":")),
        "IssuerSecretArns": issuer_arn,
        "WebhookAllow": f"{receive_at}/32",
        "RetryDelays": "1s,1s",
        "RetryJitter": "0",
        "EventBus": "true",
        "DeletionProtection": "false",
    }


def listen_to_the_bus(deployment):
    """A queue that is sent whatever the bus hears."""
    queue, events = deployment.client("sqs"), deployment.client("events")
    url = queue.create_queue(QueueName="heard-on-the-bus")["QueueUrl"]
    arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["countersign.remediation"]})
    rule = events.put_rule(Name="heard", EventBusName=deployment.name, EventPattern=pattern)["RuleArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    statement |= {"Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule}}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    queue.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_targets(Rule="heard", EventBusName=deployment.name, Targets=[{"Id": "queue", "Arn": arn}])
    return url


def drive(emulator, options, place):
    emulator.wait()
    deployment = Deployment(emulator, options.binaries, place)
    receiver = Receiver(options.receive_at, {FAILS_ONCE})
    # Over plain HTTP, which functions only use to their own machine.
    directory = Directory(MEMBERS) if options.receive_at == "127.0.0.1" else None
    try:
        secret = secrets.token_hex(32)
        asked = parameters(deployment.keep_secret("issuer", secret), options.receive_at)
        asked["CallbackSecretArn"] = deployment.keep_secret("callback", secrets.token_hex(32))
        if directory:
            asked["DirectorySecretArn"] = deployment.keep_secret("directory", directory.secret)
            asked["Directory"] = directory.parameter(asked["DirectorySecretArn"])
        began = time.monotonic()
        deployment.deploy(asked)
        print(f"deployed in {time.monotonic() - began:.0f} s", flush=True)
        world = World(deployment, receiver, secret, MEMBERS, directory is not None)
        world.bus_queue = listen_to_the_bus(deployment)
        stories = [*STORIES]
        if emulator.recorder:
            stories.append(a_warm_decision_is_three_round_trips)
            stories.append(each_function_does_all_that_its_role_allows_and_nothing_else)
        else:
            print("skipped: rights and round trips are looked at only where calls are recorded, without --endpoint")
        for story in stories:
            began = time.monotonic()
            try:
                story(world)
            except Exception as error:
                raise AssertionError(f"{story.__name__}: {error}") from error
            print(f"ok: {story.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s)", flush=True)
        print(f"{len(stories)} passed, 0 failed")
    except Exception:
        for function in FUNCTIONS:
            print(f"-- log of {function}", *deployment.logged(function), sep="\n")
        raise
    finally:
        receiver.stop()
        if directory:
            directory.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", default=ROOT / "target/lambda", help="where the functions' binaries are")
    parser.add_argument("--endpoint", help="an emulator that runs already, as http://localhost:4566")
    parser.add_argument("--receive-at", default="127.0.0.1", help="an IPv4 address where functions reach this machine")
    options = parser.parse_args()
    # Whoever stops this stops what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("FAILED: stopped"))
    with tempfile.TemporaryDirectory(prefix="countersign-emulator-") as directory:
        emulator = Running(options.endpoint) if options.endpoint else Ministack(directory)
        try:
            drive(emulator, options, directory)
        except Exception as error:
            print(f"-- the emulator's log\n{emulator.told()}")
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            raise SystemExit(f"FAILED: {error}") from None
        finally:
            emulator.stop()


if __name__ == "__main__":
    main()
