"""Stories of everyday errands: together with the others they have every function do all that it may do."""

import json
import time
import uuid

from world import EXPIRED_WITHIN, TENANT, record, until

# Of what the clock looks at.
DUE_KINDS = ["override", "remediation", "action", "case", "delivery", "request", "endpoints", "replay"]
# Of what is told to the world.
TOLD_KINDS = ["override", "remediation", "action", "case", "delivery", "request"]
# Of the last kind that a replay comes to.
LAST_REPLAYED = "request.cancelled"
# A schema that no version has yet.
NEWER = "999"
PAST = "2020-01-01T00:00:00.000000Z"


def rule(user):
    return {"rule_type": "user", "rule_value": {"user_id": user}}


def a_policy(key, stages, **more):
    stages = [{"name": f"Stage {order}", "stage_order": order, **stage} for order, stage in enumerate(stages, 1)]
    return {"policy_key": key, "name": "A policy", "artifact_type": "purchase", "stages": stages, **more}


def activated(world, policy):
    admin = world.bearer("u-admin", "AWE_ADMIN")
    world.public.ask("POST", "/v1/awe/policies", 201, policy, headers=admin)
    path = f"/v1/awe/policies/{policy['policy_key']}/versions/1/activate"
    assert world.public.ask("POST", path, 200, headers=admin)["status"] == "active"


def a_request(world, policy_key, artifact, **more):
    body = {"policy_key": policy_key, "artifact_type": "purchase", "artifact_id": artifact, **more}
    return world.public.ask("POST", "/v1/awe/requests", 201, body, headers=world.bearer("u-admin", "AWE_ADMIN"))


def an_action_is_left_to_expire(world):
    path = f"/organizations/{TENANT}/actions-policy"
    assert world.operate("PUT", path, 200, {"approval_ttl_minutes": 1})["approval_ttl_minutes"] == 1
    assert world.operate("GET", path, 200)["approval_ttl_minutes"] == 1
    body = {"agent_id": "bot", "action_type": "transaction", "resource": "left"}
    agent = world.key("actions:submit")
    world.left_action = world.public.ask("POST", "/api/v1/actions/submit", 200, body, headers=agent)["action_id"]


def late_approvers_are_left_to_the_clock(world):
    """Whoever was asked has an hour, which nobody can wait for here: it is over as soon as the table says so."""
    admin = world.bearer("u-admin", "AWE_ADMIN")
    away = {"user_id": "u-chief", "delegate_to": "u-deputy", "starts_at": PAST, "ends_at": "2100-01-01T00:00:00Z"}
    world.public.ask("POST", "/v1/awe/delegations", 201, away, headers=admin)
    stage = {"rules": [world.held_by("buyers")], "sla_hours": 1}
    stage |= {"on_breach": "escalate", "escalation_rules": [world.held_by("chiefs")]}
    activated(world, a_policy("late", [stage]))
    world.late = a_request(world, "late", "late-1")["request_id"]
    item = world.table().get(f"request#{TENANT}#{world.late}")
    task = json.loads(item["body"]["S"])["running"][0]["tasks"][0]
    item["body"]["S"] = item["body"]["S"].replace(task["due_at"], PAST)
    item["due_sk"]["S"] = PAST
    world.table().put(item)


def records_of_a_newer_version_are_left_alone(world):
    """As they stand in the table after a release was taken back: due, and nobody here can read them."""
    # All endpoints of a tenant are one record.
    world.newer = [f"{kind}#emulator#{'all' if kind == 'endpoints' else uuid.uuid4()}" for kind in DUE_KINDS]
    for shard, key in enumerate(world.newer):
        item = {**record(key), "version": {"N": "1"}, "schema": {"N": NEWER}}
        item |= {"changed_at": {"S": PAST}, "body": {"S": "{}"}, "hash": {"B": bytes(32)}}
        world.table().put({**item, "due_pk": {"S": f"due#{shard}"}, "due_sk": {"S": PAST}})


def a_remediation_is_carried_out(world):
    human = world.bearer("42", "admin")
    # It takes no API keys, but one that comes along has to be right.
    both = {**human, **world.key("actions:read")}
    body = {"incidentTitle": "Slow", "title": "Restart", "steps": [{"description": "Restart it"}]}
    proposed = world.twice(world.public, "POST", "/v1/remediation", 201, body, headers=human)
    path = f"/v1/remediation/{proposed['remediationId']}"
    [first] = world.public.ask("GET", "/v1/notifications/approvals/pending?limit=1", 200, headers=both)["items"]
    assert first["approvalId"], first
    [newest] = world.public.ask("GET", "/v1/remediation?status=proposed&limit=1", 200, headers=human)["items"]
    assert newest["remediationId"] == proposed["remediationId"], newest
    page = world.public.ask("GET", "/v1/remediation?limit=1", 200, headers=human)
    [earlier] = world.public.ask("GET", f"/v1/remediation?limit=1&cursor={page['cursor']}", 200, headers=human)["items"]
    assert earlier["proposedAt"] <= newest["proposedAt"], (earlier, newest)
    approved = world.twice(world.public, "POST", f"{path}/approve", 200, {}, headers=human)
    assert approved["remediationStatus"] == "executing", approved
    report = {"status": "completed", "output": "o" * 3000}
    world.public.ask("POST", f"{path}/steps/{proposed['steps'][0]['stepId']}", 200, report, headers=human)
    assert world.public.ask("GET", path, 200, headers=human)["status"] == "executed"
    entries = world.public.ask("GET", f"/v1/audit?incidentId={proposed['incidentId']}", 200, headers=human)["items"]
    assert "remediation.executed" in [entry["event"] for entry in entries], entries
    assert world.public.ask("GET", "/v1/audit?limit=1", 200, headers=human)["cursor"]
    assert world.public.ask("GET", "/v1/audit/verify", 200, headers=human)["valid"]


def actions_are_decided_and_reported(world):
    agent, human = world.key("actions:submit", "actions:read"), world.bearer("42", "admin")
    body = {"agent_id": "bot", "action_type": "transaction", "resource": "payments"}
    submitted = world.twice(world.public, "POST", "/api/v1/actions/submit", 200, body, headers=agent)
    others = [world.public.ask("POST", "/api/v1/actions/submit", 200, body, headers=agent)["action_id"] for _ in "abcd"]
    path = f"/api/v1/actions/{submitted['action_id']}"
    assert world.twice(world.public, "POST", f"{path}/approve", 200, None, headers=human)["status"] == "approved"
    bulk = {"action_ids": others[:2]}
    assert world.twice(world.public, "POST", "/api/v1/actions/bulk-approve", 200, bulk, headers=human)["succeeded"] == 2
    world.public.ask("POST", "/api/v1/actions/bulk-reject", 200, {"action_ids": others[2:3]}, headers=human)
    world.public.ask("POST", f"/api/v1/actions/{others[3]}/cancel", 200, headers=agent)
    world.public.ask("POST", f"/api/agent-action/{others[0]}/complete", 200, {}, headers=agent)
    world.public.ask("POST", f"/api/agent-action/{others[1]}/fail", 200, {"error": {"message": "no"}}, headers=agent)
    outcomes = [
        world.public.ask("GET", f"/api/v1/actions/{action}", 200, headers=agent)[word]
        for action, word in zip(others, ["outcome", "outcome", "status", "outcome"], strict=True)
    ]
    assert outcomes == ["completed", "failed", "denied", "cancelled"], outcomes
    approval = world.public.ask("GET", f"/api/sdk/approval/{submitted['approval_request_id']}", 200, headers=agent)
    assert approval["status"] == "approved", approval


def actions_are_listed_and_audited(world):
    agent, human = world.key("actions:read"), world.bearer("42", "admin")
    for path in ("v1/actions?limit=2", "v1/actions?status_filter=approved", "agent-activity?agent_id=bot"):
        assert world.public.ask("GET", f"/api/{path}", 200, headers=agent), path
    action = world.public.ask("GET", "/api/v1/actions?limit=1", 200, headers=agent)[0]["action_id"]
    for narrower in ("", "?action_type=action_approved", "?user_id=42", f"?action_id={action}"):
        found = world.public.ask("GET", f"/api/admin/audit-logs{narrower}", 200, headers=human)
        assert found["total"] > 0, (narrower, found)
    exported = world.public.ask("GET", "/api/admin/audit-logs/export?format=csv", 200, headers=human)
    assert "action_submitted" in exported, exported
    assert world.public.ask("GET", "/api/admin/audit-logs/verify", 200, headers=human)["valid"]
    assert world.public.ask("GET", "/audit/logs", 200, headers=agent)["total"] > 0


def cases_are_listed_and_taken(world):
    tool, path = world.key("cases:read", "cases:write"), "/api/v1/external/cases"
    body = {"title": "Phishing", "severity": "low", "description": "A mail", "metadata": {"from": "nobody"}}
    case = world.twice(world.public, "POST", path, 201, body, headers=tool)["case_id"]
    world.public.ask("POST", path, 201, {"title": "Malware", "severity": "high"}, headers=tool)
    assert world.public.ask("GET", f"{path}?page_size=1", 200, headers=tool)["next_cursor"]

    def found(narrower):
        return [one["case_id"] for one in world.public.ask("GET", path + narrower, 200, headers=tool)["cases"]]

    assert case in found("?state=discover")
    assert case in found("/feed")
    assert case not in found("?state=discover")
    verdict = f"{path}/{case}/verdict"

    def resolved():
        world.public.ask("POST", verdict, 200, {"outcome": "FALSE_POSITIVE", "comment": "a test"}, headers=tool)

    # What was answered is answered again, also when it would be refused by now.
    passed_on = {"outcome": "ESCALATED"}
    assert not world.twice(world.public, "POST", verdict, 200, passed_on, resolved, headers=tool)["resolved"]
    shown = world.public.ask("GET", f"{path}/{case}", 200, headers=tool)
    assert [one["outcome"] for one in shown["verdicts"]] == ["ESCALATED", "FALSE_POSITIVE"], shown
    assert case in found("?outcome=FALSE_POSITIVE")


def policies_are_kept_by_version(world):
    admin = world.bearer("u-admin", "AWE_ADMIN")
    policy = a_policy("kept", [{"rules": [world.held_by("buyers")]}])
    activated(world, policy)
    path = "/v1/awe/policies/kept"
    assert world.public.ask("PUT", path, 201, policy, headers=admin)["version"] == 2
    edited = world.public.ask("PATCH", f"{path}/versions/2", 200, {**policy, "name": "Edited"}, headers=admin)
    assert (edited["name"], edited["status"]) == ("Edited", "draft"), edited
    simulated = world.public.ask("POST", f"{path}/versions/2/simulate", 200, {"context": {}}, headers=admin)
    assert simulated["stages"][0]["resolved_approvers"] == ["u-zoe"], simulated
    assert len(world.public.ask("GET", f"{path}/versions", 200, headers=admin)) == 2
    assert world.public.ask("POST", f"{path}/versions/1/deactivate", 200, headers=admin)["status"] == "archived"
    assert "kept" in [one["policy_key"] for one in world.public.ask("GET", "/v1/awe/policies", 200, headers=admin)]


def a_deputy_decides_and_tasks_change_hands(world):
    admin, ann = world.bearer("u-admin", "AWE_ADMIN"), world.bearer("u-ann")
    away = {"user_id": "u-bob", "delegate_to": "u-cem", "starts_at": PAST, "ends_at": "2100-01-01T00:00:00Z"}
    delegation = world.public.ask("POST", "/v1/awe/delegations", 201, away, headers=admin)["id"]
    stages = [{"mode": "any-n", "rules": [rule("u-ann"), rule("u-bob")]}, {"rules": [rule("u-bob")]}]
    activated(world, a_policy("hands", stages))
    asked = {"policy_key": "hands", "artifact_type": "purchase", "artifact_id": "h-1", "context": {"amount": 5}}
    request = world.twice(world.public, "POST", "/v1/awe/requests", 201, asked, headers=admin)["request_id"]
    [task] = tasks_of(world, f"assignee=u-ann&request_id={request}")
    world.public.ask("POST", f"/v1/awe/tasks/{task['id']}/claim", 200, headers=ann)
    given = {"new_assignee": "u-dan"}
    task = world.public.ask("POST", f"/v1/awe/tasks/{task['id']}/reassign", 200, given, headers=admin)
    assert (task["assignee"], task["reassigned_from"]) == ("u-dan", "u-ann"), task
    decision, dan = {"action": "approve"}, world.bearer("u-dan")
    world.public.ask("POST", f"/v1/awe/tasks/{task['id']}/decision", 201, decision, headers=dan)
    for narrower in ("assignee=*", "assignee=*&status=open", "assignee=u-cem", "assignee=u-cem&status=open"):
        [deputys] = [task for task in tasks_of(world, narrower) if is_deputys(task, request)]
        assert deputys["delegated_from"] == "u-bob", deputys
    # Of the stage that has ended.
    world.public.ask("POST", f"/v1/awe/tasks/{task['id']}/decision", 409, decision, headers=dan)
    ended = world.public.ask("POST", f"/v1/awe/requests/{request}/cancel", 200, {"reason": "no more"}, headers=admin)
    assert ended["status"] == "cancelled", ended
    for narrower in ("", "?user_id=u-bob"):
        listed = world.public.ask("GET", f"/v1/awe/delegations{narrower}", 200, headers=admin)
        assert delegation in [one["id"] for one in listed], listed
    world.public.ask("DELETE", f"/v1/awe/delegations/{delegation}", 204, headers=admin)


def is_deputys(task, request):
    return (task["request_id"], task["assignee"], task["stage_order"]) == (request, "u-cem", 2)


def tasks_of(world, narrower):
    # With an API key beside the token: both have to be right.
    caller = {**world.bearer("u-ann"), **world.key("actions:read")}
    return world.public.ask("GET", f"/v1/awe/tasks?{narrower}", 200, headers=caller)


def requests_are_listed_and_audited(world):
    admin = world.bearer("u-admin", "AWE_ADMIN")
    for narrower in ("", "?artifact_id=h-1", "?artifact_type=purchase", "?status=cancelled"):
        found = world.public.ask("GET", f"/v1/awe/requests{narrower}", 200, headers=admin)
        assert found, narrower
    [request] = world.public.ask("GET", "/v1/awe/requests?artifact_id=h-1", 200, headers=admin)
    events = world.public.ask("GET", f"/v1/awe/requests/{request['id']}/events", 200, headers=admin)
    assert events[-1]["event_type"] == "request_cancelled", events
    actions = {row["action"] for row in world.public.ask("GET", "/v1/awe/admin/audit", 200, headers=admin)}
    assert {"policy.activate", "task.reassign", "delegation.delete", "request.cancel"} <= actions, actions


def a_callback_is_started_anew(world):
    """It is signed with the deployment's secret, since the tenant has none of its own."""
    admin = world.bearer("u-admin", "AWE_ADMIN")
    request = a_request(world, "hands", "h-2", callback_url=world.receiver.deaf)["request_id"]

    def exhausted():
        path = f"/v1/awe/admin/deliveries?request_id={request}&status=exhausted"
        return world.public.ask("GET", path, 200, headers=admin)

    callback = until("a callback is exhausted", exhausted)[0]
    retried = world.public.ask("POST", f"/v1/awe/admin/deliveries/{callback['id']}/retry", 200, headers=admin)
    assert (retried["status"], retried["attempt"]) == ("pending", 0), retried
    listed = world.public.ask("GET", "/v1/awe/admin/deliveries?status=delivered", 200, headers=admin)
    assert {one["status"] for one in listed} == {"delivered"}, listed
    actions = {row["action"] for row in world.public.ask("GET", "/v1/awe/admin/audit", 200, headers=admin)}
    assert "delivery.retry" in actions, actions


def webhooks_are_managed_by_their_tenant(world):
    webhooks_are_managed(world, Plane(world.public, world.bearer("42", "admin"), None))
    # As the agents' SDK says it.
    tool = world.key("webhooks:manage")
    asked = {"url": world.receiver.url, "events": ["action.failed"], "secret": "sixteen characters"}
    made = world.public.ask("POST", "/api/webhooks/configure", 200, asked, headers=tool)
    listed = world.public.ask("GET", "/api/webhooks", 200, headers=tool)
    assert made["webhook_id"] in [one["webhook_id"] for one in listed], listed
    world.public.ask("DELETE", f"/api/webhooks/{made['webhook_id']}", 200, headers=tool)


def webhooks_are_managed_by_the_operator(world):
    webhooks_are_managed(world, Plane(world.management, None, TENANT))


class Plane:
    """One of the two places where endpoints are managed: on the operator's, each call names a tenant."""

    def __init__(self, api, headers, tenant):
        self.api, self.how = api, {"headers": headers, "signed": headers is None}
        self.tenant = {} if tenant is None else {"tenant": tenant}

    def read(self, path, method="GET", expected=200, **filters):
        query = "&".join(f"{name}={value}" for name, value in {**self.tenant, **filters}.items())
        return self.api.ask(method, f"{path}?{query}", expected, **self.how)

    def write(self, method, path, expected, **body):
        return self.api.ask(method, path, expected, {**self.tenant, **body}, **self.how)

    def write_twice(self, world, method, path, expected, **body):
        return world.twice(self.api, method, path, expected, {**self.tenant, **body}, **self.how)

    def change(self, path, expected, **body):
        query = "".join(f"?tenant={tenant}" for tenant in self.tenant.values())
        return self.api.ask("PATCH", path + query, expected, body, **self.how)


def webhooks_are_managed(world, plane):
    made = {"url": world.receiver.deaf, "events": ["case.created", LAST_REPLAYED], "secret": {"id": "shop"}}
    endpoint = plane.write_twice(world, "POST", "/webhooks/endpoints", 201, **made)
    path = f"/webhooks/endpoints/{endpoint['id']}"
    assert plane.change(path, 200, description="nobody listens")["description"] == "nobody listens"
    assert not plane.write("POST", f"{path}/test", 200)["success"]
    assert plane.read(path)["url"] == world.receiver.deaf
    tool = world.key("cases:write")
    world.public.ask("POST", "/api/v1/external/cases", 201, {"title": "Told", "severity": "low"}, headers=tool)

    def exhausted():
        found = plane.read("/webhooks/deliveries", endpoint=endpoint["id"], status="exhausted", event="case.created")
        return found["items"]

    [delivery] = until("a delivery is exhausted", exhausted)
    assert plane.read(f"/webhooks/deliveries/{delivery['id']}")["attempt_log"][-1]["status_code"] == 503
    plane.write("POST", f"/webhooks/deliveries/{delivery['id']}/retry", 200)
    until("it is exhausted again", exhausted)
    assert plane.read("/webhooks/deliveries", limit=1)["cursor"]
    assert plane.read("/webhooks/deliveries", status="delivered")["items"]
    replay = {"since": PAST, "until": "2100-01-01T00:00:00Z"}
    events = plane.write_twice(world, "POST", f"{path}/replay", 202, **replay)["events"]

    def replayed():
        found = plane.read("/webhooks/deliveries", endpoint=endpoint["id"], limit=100)["items"]
        return len(found) > events and LAST_REPLAYED in [one["event_type"] for one in found]

    until(f"{events} events come again", replayed)
    assert plane.write("POST", f"{path}/rotate-secret", 200)["secret"]
    plane.read(path, "DELETE", 204)


def keys_and_tokens_are_managed(world):
    asked = {"domain": TENANT, "name": "short-lived", "scopes": ["actions:read"]}
    key = world.twice(world.management, "POST", "/api-keys", 201, asked, signed=True)["id"]
    rotated = world.operate("POST", f"/api-keys/{key}/rotate", 201, {"grace_minutes": 0})["id"]
    assert rotated in [one["id"] for one in world.operate("GET", f"/api-keys?domain={TENANT}", 200)["items"]]
    world.operate("DELETE", f"/api-keys/{rotated}", 204)
    customer = str(uuid.uuid4())
    ring = world.operate("POST", "/keys/signing", 201, {"customer_id": customer})
    world.operate("POST", f"/keys/{ring['key_id']}/rotate", 201)
    asked = {"customer_id": customer, "event_id": "evt-2"}
    token = world.twice(world.management, "POST", "/tokens/override", 201, asked, signed=True)["jti"]
    path = f"/tokens/{token}?customer_id={customer}"
    world.operate("DELETE", path, 204)
    assert world.operate("GET", path, 200)["status"] == "revoked"
    assert world.operate("GET", f"/keys/public/{customer}", 200)["keys"]


def word_that_comes_twice_does_no_harm(world):
    """With a gap, so that the worker looks what has become of the change between."""
    queue = world.deployment.nested_output("Queues", "DeliveryArn")
    for kind in TOLD_KINDS:
        word = [{"key": world.any_record(kind), "change": change, "at": PAST} for change in (1, 3)]
        records = [{"messageId": str(place), "body": json.dumps(said)} for place, said in enumerate(word)]
        records = [{**record, "eventSource": "aws:sqs", "eventSourceARN": queue} for record in records]
        function = f"{world.deployment.name}-delivery"
        payload = json.dumps({"Records": records})
        answer = world.deployment.client("lambda").invoke(FunctionName=function, Payload=payload)
        assert json.loads(answer["Payload"].read()) == {"batchItemFailures": []}, kind
    taken = world.receiver.taken()
    assert len(taken) == len(set(taken)), taken


def whatever_was_left_is_seen_to_by_the_clock(world):
    human, admin = world.bearer("42", "admin"), world.bearer("u-admin", "AWE_ADMIN")
    deadline = time.monotonic() + EXPIRED_WITHIN

    def expired():
        # Shown as expired it is by anyone who looks; only the clock has it on record.
        path = f"/api/admin/audit-logs?action_id={world.left_action}&action_type=action_expired"
        return world.public.ask("GET", path, 200, headers=human)["total"]

    until("the action expires", expired, deadline - time.monotonic())

    def escalated():
        path = f"/v1/awe/tasks?assignee=u-deputy&request_id={world.late}"
        return world.public.ask("GET", path, 200, headers=admin)

    [task] = until("the late task is escalated", escalated, deadline - time.monotonic())
    assert task["delegated_from"] == "u-chief", task

    def put_off():
        items = [world.table().get(key) for key in world.newer]
        assert all(item["schema"]["N"] == NEWER for item in items), items
        return all("due_failures" in item for item in items)

    until("what cannot be read is put off", put_off, deadline - time.monotonic())


BEFORE = [
    an_action_is_left_to_expire,
    late_approvers_are_left_to_the_clock,
    records_of_a_newer_version_are_left_alone,
]
ERRANDS = [
    a_remediation_is_carried_out,
    actions_are_decided_and_reported,
    actions_are_listed_and_audited,
    cases_are_listed_and_taken,
    policies_are_kept_by_version,
    a_deputy_decides_and_tasks_change_hands,
    requests_are_listed_and_audited,
    a_callback_is_started_anew,
    webhooks_are_managed_by_their_tenant,
    webhooks_are_managed_by_the_operator,
    keys_and_tokens_are_managed,
    word_that_comes_twice_does_no_harm,
]
AFTER = [whatever_was_left_is_seen_to_by_the_clock]
