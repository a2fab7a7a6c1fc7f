"""What a decision costs on a warm function: which calls to AWS it makes, door by door."""

import uuid

from errands import a_policy, a_request, activated, rule, tasks_of
from rights import access_key

# The two of the decision itself, and word to the worker; nothing for keys and secrets.
ROUND_TRIPS = ["dynamodb:GetItem", "dynamodb:TransactWriteItems", "sqs:SendMessageBatch"]


def an_override(world):
    customer = str(uuid.uuid4())
    token = world.operate("POST", "/tokens/override", 201, {"customer_id": customer, "event_id": "evt-3"})
    decision = {"override_jti": token["jti"], "customer_id": customer, "decision": "approve"}
    return lambda: world.operate("POST", "/overrides/evt-3/decide", 200, decision)


def an_approval(world):
    human = world.bearer("42", "admin")
    body = {"incidentTitle": "Slow", "title": "Restart", "steps": [{"description": "Restart it"}]}
    proposed = world.public.ask("POST", "/v1/remediation", 201, body, headers=human)
    path = f"/v1/notifications/approvals/{proposed['approvalId']}/respond"
    return lambda: world.public.ask("POST", path, 200, {"decision": "approve"}, headers=human)


def an_action(world):
    agent, human = world.key("actions:submit"), world.bearer("42", "admin")
    body = {"agent_id": "bot", "action_type": "transaction", "resource": "payments"}
    action = world.public.ask("POST", "/api/v1/actions/submit", 200, body, headers=agent)["action_id"]
    return lambda: world.public.ask("POST", f"/api/v1/actions/{action}/approve", 200, headers=human)


def a_verdict(world):
    tool = world.key("cases:write")
    body = {"title": "Odd login", "severity": "low"}
    # The same key as in the verdict: it is known by then.
    case = world.public.ask("POST", "/api/v1/external/cases", 201, body, headers=tool)["case_id"]
    path = f"/api/v1/external/cases/{case}/verdict"
    return lambda: world.public.ask("POST", path, 200, {"outcome": "FALSE_POSITIVE"}, headers=tool)


def a_task(world):
    request = a_request(world, "counted", str(uuid.uuid4()))["request_id"]
    [task] = tasks_of(world, f"assignee=u-ann&request_id={request}")
    path, ann = f"/v1/awe/tasks/{task['id']}/decision", world.bearer("u-ann")
    return lambda: world.public.ask("POST", path, 201, {"action": "approve"}, headers=ann)


DOORS = {"overrides": an_override, "approvals": an_approval, "actions": an_action, "cases": a_verdict, "workflow": a_task}


def a_warm_decision_is_three_round_trips(world):
    activated(world, a_policy("counted", [{"rules": [rule("u-ann")]}]))
    recorder, functions = world.deployment.emulator.recorder, world.deployment.functions
    for door, prepare in DOORS.items():
        prepare(world)()
        decide, key = prepare(world), access_key(functions[door])
        before = len(recorder.heard())
        decide()
        made = [f"{one.service}:{one.operation}" for one in recorder.heard()[before:] if one.key == key]
        assert made == ROUND_TRIPS, f"{door}: {made}"
