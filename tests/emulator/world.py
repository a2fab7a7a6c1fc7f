"""The stack as its callers see it: who they are, and what they call."""

import base64
import hashlib
import hmac
import json
import time
import uuid

TENANT = "1"
# Overrides are of customers, each a tenant of its own.
CUSTOMER = str(uuid.uuid4())
ISSUER = "https://issuer.example"
AUDIENCE = "countersign"
# What fails at the first attempt, and is attempted again a second later.
FAILS_ONCE = "remediation.approved"
# A function's first call starts its process.
WITHIN = 60
# A deadline is a minute at least, and the clock looks once a minute.
EXPIRED_WITHIN = 180
# The sort key of a record.
RECORD = "@"


def until(what, ask, within=WITHIN):
    """What `ask` gives, as soon as that is anything."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {within} s: {what}")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class World:
    """The stack, and those who call it."""

    def __init__(self, deployment, receiver, issuer_secret, members, has_directory):
        self.deployment, self.receiver, self.issuer_secret = deployment, receiver, issuer_secret
        self.members, self.has_directory = members, has_directory
        self.public, self.management = deployment.public(), deployment.management()

    def bearer(self, subject, *roles):
        """A JWT as the issuer signs it, good for every door."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": int(time.time()) + 3600}
        claims |= {"tenant_id": TENANT, "organization_id": int(TENANT), "roles": roles}
        claims |= {"realm_access": {"roles": roles}}
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        signature = hmac.new(self.issuer_secret.encode(), signed.encode(), hashlib.sha256).digest()
        return {"Authorization": f"Bearer {signed}.{base64url(signature)}"}

    def key(self, *scopes):
        """An API key, minted on the management plane."""
        asked = {"domain": TENANT, "name": "emulator", "scopes": scopes}
        return {"X-API-Key": self.operate("POST", "/api-keys", 201, asked)["key"]}

    def operate(self, method, path, expected, body=None):
        """A call of the management plane by somebody whom IAM lets in."""
        return self.management.ask(method, path, expected, body, signed=True)

    def held_by(self, role):
        """A rule that asks whoever has a role, by name where functions reach no directory of ours."""
        if self.has_directory:
            return {"rule_type": "role", "rule_value": {"role": role}}
        [member] = self.members[role]
        return {"rule_type": "user", "rule_value": {"user_id": member}}

    def twice(self, api, method, path, expected, body=None, meanwhile=None, **how):
        """The answer of a call that is made again with the same idempotency key, which is replayed."""
        how["headers"] = {**(how.get("headers") or {}), "Idempotency-Key": str(uuid.uuid4())}
        answer = api.ask(method, path, expected, body, **how)
        if meanwhile:
            meanwhile()
        again = api.call(method, path, body, **how)
        replayed = again.headers.get("Idempotency-Replayed")
        assert (again.status_code, replayed) == (expected, "true"), f"{method} {path} again: {again.text[:500]}"
        return answer

    def table(self):
        """The table as AWS's own interface has it, for what no caller can bring about."""
        return Table(self.deployment.client("dynamodb"), self.deployment.outputs["TableName"])

    def any_record(self, kind):
        """The partition key of some record of a kind."""
        return next(item["pk"]["S"] for item in self.table().records() if item["pk"]["S"].startswith(f"{kind}#"))


class Table:
    """One table of a client of DynamoDB."""

    def __init__(self, client, name):
        self.client, self.name = client, name

    def get(self, key):
        return self.client.get_item(TableName=self.name, Key=record(key), ConsistentRead=True)["Item"]

    def put(self, item):
        self.client.put_item(TableName=self.name, Item=item)

    def records(self):
        pages = self.client.get_paginator("scan").paginate(TableName=self.name)
        return (item for page in pages for item in page["Items"] if item["sk"]["S"] == RECORD)


def record(key):
    """Where the record with this partition key stands."""
    return {"pk": {"S": key}, "sk": {"S": RECORD}}
