"""Compares what functions ask of AWS with what their roles allow: each may do all that it does, and nothing else."""

import hashlib
import itertools
import re
from dataclasses import dataclass

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from emulator import ACCOUNT_ID, REGION

LEADING_KEYS = "dynamodb:LeadingKeys"
ATTRIBUTES = "dynamodb:Attributes"
RETURN_VALUES = "dynamodb:ReturnValues"
# What a transaction asks for is the sum of its parts.
PARTS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Get": "dynamodb:GetItem",
}
# An inbox is of a tenant, and its name begins with the word for what it holds.
INBOX = re.compile(r"inbox#[^#]+#(\w+)(:?)")
WORDS = re.compile(r"(?<![:#\w])[a-z_]+\b(?!\()|#\w+")
DENIED = {"AccessDenied", "AccessDeniedException"}


@dataclass(frozen=True)
class Right:
    """The smallest thing that a statement allows: one action on one resource, under one value of one condition."""

    action: str
    resource: str
    key: str = ""
    value: str = ""

    def __str__(self):
        return f"{self.action} on {shown(self.resource)}" + (f" where {self.key} is {self.value}" if self.key else "")


@dataclass(frozen=True)
class Exempt:
    """Rights of a function that cannot be seen here, and why not."""

    function: str
    rights: frozenset
    reason: str


@dataclass(frozen=True)
class Use:
    """One thing that IAM decides on, with the values of its condition keys."""

    action: str
    resource: str
    conditions: tuple = ()

    def values(self):
        """Pairs of a condition's key and one of its values, as roles have them."""
        patterns = {LEADING_KEYS: pattern}
        return {(key, patterns.get(key, str)(value)) for key, values in self.conditions for value in values}

    def rights(self):
        return {Right(self.action, self.resource, *value) for value in self.values() or [("", "")]}

    def __str__(self):
        said = [f"{key} is {value}" for key, value in sorted(self.values())]
        return f"{self.action} on {shown(self.resource)}" + (f" where {' and '.join(said)}" if said else "")


def pattern(key):
    """The narrowest pattern of a leading key that names no tenant, as roles have it."""
    if "#" not in key:
        return key
    if inbox := INBOX.match(key):
        return f"inbox#*#{inbox.group(1)}" + (":*" if inbox.group(2) else "")
    kind, tenant, *rest = key.split("#")
    return f"{kind}#_#*" if tenant == "_" and rest else f"{kind}#*"


def uses(request):
    """What IAM has to allow for a request."""
    body, service = request.body(), request.service
    if service == "dynamodb":
        return list(table_uses(request.operation, body))
    if service == "sqs":
        # A batch is as many messages.
        operation = request.operation.removesuffix("Batch")
        return [Use(f"sqs:{operation}", arn("sqs", body["QueueUrl"].rpartition("/")[2]))]
    if service == "secretsmanager":
        return [Use(f"secretsmanager:{request.operation}", body["SecretId"])]
    if service == "events":
        return [Use(f"events:{request.operation}", entry["EventBusName"]) for entry in body["Entries"]]
    return [Use(f"{service}:{request.operation}", "*")]


def table_uses(operation, body):
    if operation.startswith("Transact"):
        for item in body["TransactItems"]:
            for part, said in item.items():
                yield table_use(PARTS[part], said, [partition(said)])
    elif operation == "BatchGetItem":
        for table, said in body["RequestItems"].items():
            keys = [item["pk"]["S"] for item in said["Keys"]]
            yield table_use("dynamodb:BatchGetItem", {"TableName": table}, keys)
    elif operation == "Query":
        value = re.match(r"\s*#?\w+ = (:\w+)", body["KeyConditionExpression"]).group(1)
        yield table_use("dynamodb:Query", body, [body["ExpressionAttributeValues"][value]["S"]])
    else:
        yield table_use(f"dynamodb:{operation}", body, [partition(body)])


def partition(said):
    return (said.get("Key") or said["Item"])["pk"]["S"]


def table_use(action, said, keys):
    index = f"/index/{said['IndexName']}" if "IndexName" in said else ""
    conditions = [(LEADING_KEYS, tuple(keys))]
    if action == "dynamodb:UpdateItem":
        names = said.get("ExpressionAttributeNames", {})
        words = WORDS.findall(f"{said['UpdateExpression']} {said.get('ConditionExpression', '')}")
        conditions.append((ATTRIBUTES, tuple(sorted({*said["Key"], *(names.get(word, word) for word in words)}))))
        conditions.append((RETURN_VALUES, (said.get("ReturnValues", "NONE"),)))
    return Use(action, arn("dynamodb", f"table/{said['TableName']}{index}"), tuple(conditions))


def arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{resource}"


def shown(resource):
    """The end of an ARN, which tells all of them apart."""
    return resource.split(":", 5)[-1]


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(policy):
    """All the rights that a policy gives."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow", f"only what is allowed is compared: {statement}"
        conditions = [bound for condition in statement.get("Condition", {}).values() for bound in condition.items()]
        bounds = [(key, value) for key, values in conditions for value in listed(values)] or [("", "")]
        for action, resource in itertools.product(listed(statement["Action"]), listed(statement["Resource"])):
            yield from (Right(action, resource, *bound) for bound in bounds)


def is_allowed(use, statements):
    # One value or a list, as IAM has them.
    context = {key.lower(): values[0] if key == RETURN_VALUES else list(values) for key, values in use.conditions}
    asked = EvalContext("", "AssumedRole", ACCOUNT_ID, use.action, use.resource, REGION, service_context=context)
    return evaluate(asked, [statements]).decision == "Allow"


def exempts(functions, stack, key_arn):
    """The only exceptions: what AWS's services do with a function's role, and the emulator's do without."""
    made = []
    for name in functions:
        group = arn("logs", f"log-group:/aws/lambda/{stack}-{name}:*")
        logs = [Right(f"logs:{action}", group) for action in ("CreateLogStream", "PutLogEvents")]
        made.append(Exempt(name, frozenset(logs), "Lambda writes what a function logs."))
    for name, queues in {"delivery": ["delivery", "delivery-slow"], "dead-letters": ["dead"]}.items():
        actions = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
        taken = [Right(f"sqs:{action}", arn("sqs", f"{stack}-{queue}")) for action in actions for queue in queues]
        made.append(Exempt(name, frozenset(taken), "Lambda takes messages for a function."))
    for name in functions - {"dead-letters", "workflow-docs"}:
        services = ["dynamodb"] if name == "clock" else ["dynamodb", "secretsmanager"]
        via = [f"{service}.{REGION}.amazonaws.com" for service in services]
        opened = [Right("kms:Decrypt", key_arn, "kms:ViaService", service) for service in via]
        made.append(Exempt(name, frozenset(opened), "The table and the secrets are decrypted where they are."))
    return made


def differences(functions, requests, exempts):
    """Sentences; none if each of `functions`, which have `arn`, `role` and `policy`, did just what it may do."""
    callers = {access_key(function): name for name, function in functions.items()}
    statements = {name: parse_policy_document(function["policy"]) for name, function in functions.items()}
    asked, wrong = set(), set()
    for request in requests:
        name = callers.get(request.key)
        if name is None:
            wrong.add(f"nobody that is known asked for {request.service}:{request.operation}")
            continue
        if request.error() in DENIED:
            wrong.add(f"{name} was denied {request.service}:{request.operation}")
        asked |= {(name, use) for use in uses(request)}
    wrong |= {f"{name} may not do {use}" for name, use in asked if not is_allowed(use, statements[name])}
    seen = {(name, right) for name, use in asked for right in use.rights()}
    given = {(name, right) for name in functions for right in allowed(functions[name]["policy"])}
    excepted = {(exempt.function, right) for exempt in exempts for right in exempt.rights}
    wrong |= {f"{name} does {right}, which its role does not name" for name, right in seen - given}
    wrong |= {f"{name} may do {right}, and never does" for name, right in given - seen - excepted}
    wrong |= {f"{name} needs no exception for {right}" for name, right in excepted - (given - seen)}
    return sorted(wrong)


def counted(functions, exempts):
    """How many rights there are, and how many of them are exceptions."""
    rights = sum(len(set(allowed(function["policy"]))) for function in functions.values())
    return rights, sum(len(exempt.rights) for exempt in exempts)


def access_key(function):
    """By which a function signs: the emulator makes it of what it is and of its role."""
    return "ASIA" + hashlib.sha256(f"{function['arn']}:{function['role']}".encode()).hexdigest()[:16].upper()
