"""Deploys template.yaml to whatever speaks AWS's protocols, and says where its APIs are."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import requests
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulator import KEYS, REGION

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "countersign-code"
ANY = "x-amazon-apigateway-any-method"


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, `!Ref x` and the like."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


def read(path):
    return yaml.load((ROOT / path).read_text(), Loader)


class Deployment:
    """A stack, made of the templates as they are and of binaries that were built before."""

    def __init__(self, emulator, binaries, directory, name="countersign"):
        self.emulator, self.name = emulator, name
        self.binaries, self.directory = Path(binaries), Path(directory)
        self.template = read("template.yaml")

    def client(self, service):
        return boto3.client(service, endpoint_url=self.emulator.endpoint, verify=self.emulator.certificate, **KEYS)

    def keep_secret(self, name, value):
        """The ARN of a secret of the operator's own."""
        kept = json.dumps({"current": value})
        return self.client("secretsmanager").create_secret(Name=f"{self.name}-{name}", SecretString=kept)["ARN"]

    def deploy(self, parameters):
        """As `sam build` and `sam deploy` do it: only where the code lies is another place."""
        self.client("s3").create_bucket(Bucket=BUCKET)
        template = self.directory / "template.yaml"
        template.write_text(self.with_code((ROOT / "template.yaml").read_text()))
        shutil.copytree(ROOT / "infra", self.directory / "infra")
        overrides = [f"{name}='{value}'" for name, value in parameters.items()]
        deployed = subprocess.run(
            [Path(sys.executable).with_name("sam"), "deploy", "--template-file", template, "--stack-name", self.name]
            + ["--s3-bucket", BUCKET, "--region", REGION, "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
            + ["--no-confirm-changeset", "--no-progressbar", "--parameter-overrides", *overrides],
            env={**os.environ, **self.emulator.environment(), "SAM_CLI_TELEMETRY": "0", "HOME": str(self.directory)},
            capture_output=True,
            text=True,
        )
        said = (deployed.stdout + deployed.stderr)[-3000:]
        assert deployed.returncode == 0, f"sam deploy failed: {self.why_not()}\n{said}"
        stack = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        self.complete_public_api()
        self.complete_management_api(parameters)
        self.complete_event_sources()
        self.functions = self.read_functions()
        self.complete_roles()

    def with_code(self, template):
        """The template with each function's code where its binary is, zipped as `bootstrap`."""
        lines, binary = [], None
        for line in template.splitlines(keepends=True):
            if found := re.search(r"Binary: ([\w-]+)", line):
                binary = found.group(1)
            if line.lstrip().startswith("CodeUri:"):
                line = re.sub(r"CodeUri: .*", f"CodeUri: {self.code(binary)}", line)
            lines.append(line)
        return "".join(lines)

    def code(self, binary):
        # As `cargo build` leaves it, or as `cargo lambda build` does.
        found = [path for path in (self.binaries / binary / "bootstrap", self.binaries / binary) if path.is_file()]
        assert found, f"there is no binary {binary} in {self.binaries}; build the functions first"
        place = self.directory / "code" / binary
        place.mkdir(parents=True)
        shutil.copy(found[0], place / "bootstrap")
        (place / "bootstrap").chmod(0o755)
        return place

    def why_not(self):
        """Why the stack was not made, as its events tell."""
        formation = self.client("cloudformation")
        reasons = []
        for stack in formation.list_stacks()["StackSummaries"]:
            for event in formation.describe_stack_events(StackName=stack["StackId"])["StackEvents"]:
                if event["ResourceStatus"].endswith("_FAILED"):
                    reasons.append(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}")
        return "; ".join(reasons)

    def physical(self, logical):
        """The id of a resource of the stack, by its name in the template."""
        formation = self.client("cloudformation")
        found = formation.describe_stack_resource(StackName=self.name, LogicalResourceId=logical)
        return found["StackResourceDetail"]["PhysicalResourceId"]

    def function_arn(self, logical):
        return self.client("lambda").get_function(FunctionName=self.physical(logical))["Configuration"]["FunctionArn"]

    def nested_output(self, logical, name):
        """An output of a nested stack that the stack does not show."""
        found = self.client("cloudformation").describe_stacks(StackName=self.physical(logical))["Stacks"][0]
        return next(output["OutputValue"] for output in found["Outputs"] if output["OutputKey"] == name)

    def read_functions(self):
        """Each function by its short name, with its role's policy as the templates made it."""
        iam, functions = self.client("iam"), {}
        for function in self.client("lambda").list_functions(MaxItems=50)["Functions"]:
            if not function["FunctionName"].startswith(f"{self.name}-"):
                continue
            role = function["Role"].rpartition("/")[2]
            assert not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"], f"{role} has more rights"
            [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            name = function["FunctionName"].removeprefix(f"{self.name}-")
            functions[name] = {"arn": function["FunctionArn"], "role": function["Role"], "policy": document}
        return functions

    def complete_public_api(self):
        """Makes the routes that SAM writes as OpenAPI, where the emulator makes none of that."""
        gateway, api = self.client("apigatewayv2"), self.physical("PublicApi")
        if gateway.get_routes(ApiId=api)["Items"]:
            return
        for logical, resource in self.template["Resources"].items():
            events = resource.get("Properties", {}).get("Events", {}).values()
            events = [event["Properties"] for event in events if event["Type"] == "HttpApi"]
            if not events:
                continue
            integration = gateway.create_integration(
                ApiId=api,
                IntegrationType="AWS_PROXY",
                IntegrationUri=self.function_arn(logical),
                PayloadFormatVersion="2.0",
            )["IntegrationId"]
            for event in events:
                route = f"{event['Method']} {event['Path']}" if "Path" in event else "$default"
                gateway.create_route(ApiId=api, RouteKey=route, Target=f"integrations/{integration}")

    def complete_management_api(self, parameters):
        """Makes the methods for `ANY`, and says who may call each, where the emulator reads neither out of OpenAPI."""
        gateway, api = self.client("apigateway"), self.physical("ManagementApi")
        resources = {found["path"]: found for found in gateway.get_resources(restApiId=api, limit=500)["items"]}
        if "ANY" in resources["/"].get("resourceMethods", {}):
            return
        paths = self.template["Resources"]["ManagementApi"]["Properties"]["DefinitionBody"]["paths"]
        defaults = {name: parameter.get("Default") for name, parameter in self.template["Parameters"].items()}
        for path, methods in paths.items():
            made = resources[path].get("resourceMethods", {})
            for method, operation in methods.items():
                if method == "parameters":
                    continue
                auth = operation["x-amazon-apigateway-auth"]["type"]
                if isinstance(auth, dict):
                    auth = parameters.get(auth["Ref"], defaults[auth["Ref"]])
                method = "ANY" if method == ANY else method.upper()
                place = {"restApiId": api, "resourceId": resources[path]["id"], "httpMethod": method}
                if method in made:
                    gateway.delete_method(**place)
                gateway.put_method(**place, authorizationType=auth)
                uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
                logical = re.search(r"\$\{(\w+)\.Arn\}", uri).group(1)
                function = f"functions/{self.function_arn(logical)}/invocations"
                target = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/{function}"
                gateway.put_integration(**place, type="AWS_PROXY", integrationHttpMethod="POST", uri=target)
        gateway.create_deployment(restApiId=api, stageName="live")

    def complete_event_sources(self):
        """Makes numbers of the queues' limits, where the emulator takes a parameter that is one as text."""
        functions = self.client("lambda")
        for source in functions.list_event_source_mappings()["EventSourceMappings"]:
            limit = source.get("ScalingConfig", {}).get("MaximumConcurrency")
            if limit is not None:
                scaling = {"MaximumConcurrency": int(limit)}
                functions.update_event_source_mapping(UUID=source["UUID"], ScalingConfig=scaling)

    def complete_roles(self):
        """Lets whoever may send messages send batches of them, to AWS the same right and to the emulator another."""
        iam = self.client("iam")
        for function in self.functions.values():
            role = function["role"].rpartition("/")[2]
            [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
            document = copy.deepcopy(function["policy"])
            for statement in document["Statement"]:
                if statement["Action"] == "sqs:SendMessage":
                    statement["Action"] = ["sqs:SendMessage", "sqs:SendMessageBatch"]
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))

    def public(self):
        return Api(self.emulator, self.physical("PublicApi"))

    def management(self):
        return Api(self.emulator, self.physical("ManagementApi"), "/live")

    def logged(self, function):
        """The last lines that a function logged."""
        try:
            found = self.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{self.name}-{function}")["events"]
        except Exception as error:  # It is only asked for when something else has failed.
            return [f"no log: {error}"]
        return [event["message"].rstrip() for event in found[-60:]]


class Api:
    """An API of the stack, reached by its host name at the emulator's address."""

    def __init__(self, emulator, identity, stage=""):
        self.emulator, self.stage = emulator, stage
        self.host = f"{identity}.{emulator.domain}"

    def call(self, method, path, body=None, headers=None, signed=False):
        url = f"{self.emulator.endpoint}{self.stage}{path}"
        headers = {"Host": self.host, **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body)
            headers["Content-Type"] = "application/json"
        if signed:
            request = AWSRequest(method=method, url=url, data=data, headers=headers)
            keys = Credentials(KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"])
            SigV4Auth(keys, "execute-api", REGION).add_auth(request)
            headers = dict(request.headers.items())
        return requests.request(
            method, url, data=data, headers=headers, verify=self.emulator.certificate, timeout=30, allow_redirects=False
        )

    def ask(self, method, path, expected, body=None, **how):
        """The answer of a call, as JSON if it is that."""
        answer = self.call(method, path, body, **how)
        assert answer.status_code == expected, (
            f"{method} {path} answered {answer.status_code} instead of {expected}: {answer.text[:500]}"
        )
        return answer.json() if answer.text[:1] in ("{", "[") else answer.text
