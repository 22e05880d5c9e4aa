"""What IAM would answer to the calls that the local AWS recorded, by the policies as they are written.

Only what the project's own policies use; anything else is an error rather than a guess.

References
----------
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

ACCOUNT, REGION = "123456789012", "us-east-1"

OPERATOR = "operator"
"""Whoever deploys, and runs the commands."""

Statement = Mapping[str, Any]


class Call(NamedTuple):
    """Who asks for what.

    Attributes
    ----------
    principal : str
        Name of a function, ``states`` for the state machine, or `OPERATOR`.
    action, resource : str
        As IAM names them: ``s3:GetObject`` and an ARN, or ``*`` for what belongs to no resource.
    context : tuple of (str, str)
        Condition keys and their values.
    """

    principal: str
    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


# ------------------------------------------------------------------------------------------------------- evaluation


def is_allowed(call: Call, statements: Iterable[Statement]) -> bool:
    """Return whether a statement allows it and none denies it."""
    return _decides(statement for statement in statements if matches(statement, call))


def idle_statements(statements: Sequence[Statement], calls: Iterable[Call]) -> list[str]:
    """Return the statements without which every call would have the same answer."""
    # About which statement is asked once for every call: this is most of the work.
    about = [[statement for statement in statements if matches(statement, call)] for call in calls]
    return [
        str(one["Sid"])
        for one in statements
        if all(_decides(found) == _decides(other for other in found if other is not one) for found in about)
    ]


def _decides(about: Iterable[Statement]) -> bool:
    effects = {str(statement["Effect"]) for statement in about}
    assert effects <= {"Allow", "Deny"}, effects
    return effects == {"Allow"}


def matches(statement: Statement, call: Call) -> bool:
    """Return whether a statement is about a call."""
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
    assert not unknown, f"{unknown} cannot be evaluated"
    return (
        any(_glob(action.lower(), call.action.lower()) for action in as_list(statement["Action"]))
        and any(_glob(resource, call.resource) for resource in as_list(statement.get("Resource", "*")))
        and all(
            _holds(operator, as_list(values), dict(call.context).get(key))
            for operator, wanted in statement.get("Condition", {}).items()
            for key, values in wanted.items()
        )
    )


def _holds(operator: str, wanted: Sequence[str], given: str | None) -> bool:
    if given is None:
        return False
    match operator:
        case "StringEquals" | "Bool":
            return given in wanted
        case "StringLike" | "ArnLike" | "ArnEquals":
            return any(_glob(pattern, given) for pattern in wanted)
    raise AssertionError(f"{operator} cannot be evaluated")


def _glob(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(
        "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern), flags=re.DOTALL
    )


def as_list(value: str | Sequence[str]) -> list[str]:
    """Return the values of an element, of which one may stand alone."""
    return [value] if isinstance(value, str) else list(value)


# --------------------------------------------------------------------------------------- what a request asks for

_S3_NOUNS = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "logging": "BucketLogging",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
"""https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html"""

_LAMBDA_OPERATIONS = (
    ("POST", r"/functions", "CreateFunction"),
    ("GET", r"/functions/([^/]+)", "GetFunction"),
    ("DELETE", r"/functions/([^/]+)", "DeleteFunction"),
    ("GET", r"/functions/([^/]+)/configuration", "GetFunctionConfiguration"),
    ("PUT", r"/functions/([^/]+)/configuration", "UpdateFunctionConfiguration"),
    ("PUT", r"/functions/([^/]+)/code", "UpdateFunctionCode"),
    ("GET", r"/functions/([^/]+)/versions", "ListVersionsByFunction"),
    ("POST", r"/functions/([^/]+)/versions", "PublishVersion"),
    ("POST", r"/functions/([^/]+)/aliases", "CreateAlias"),
    ("GET", r"/functions/([^/]+)/concurrency", "GetFunctionConcurrency"),
    ("POST", r"/functions/([^/]+)/invocations", "InvokeFunction"),
    ("GET", r"/account-settings", "GetAccountSettings"),
    ("GET", r"/tags/(.+)", "ListTags"),
)

_SERVICES = {"monitoring": "cloudwatch", "elasticloadbalancing": "elasticloadbalancing"}


def read_calls(path: Path) -> list[Call]:
    """Return what the record of a local AWS holds; one request may ask for more than one action.

    A client with nothing but a key is one of the tests themselves: only commands have a session token.
    """
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return list(dict.fromkeys(call for entry in entries if entry["principal"] for call in _calls(entry)))


def _calls(entry: dict[str, str]) -> list[Call]:
    principal = OPERATOR if entry["principal"].startswith("LOCAL") else entry["principal"]
    if "action" in entry:
        return [Call(principal, entry["action"], entry["resource"])]
    path, _, query = entry["target"].partition("?")
    asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    service = entry["service"]
    if service == "s3":
        return [Call(principal, *rest) for rest in _s3(entry["method"], unquote(path), asked)]
    if service == "lambda":
        return [Call(principal, *rest) for rest in _lambda(entry["method"], unquote(path), entry["body"])]
    if entry["operation"]:
        operation, fields = entry["operation"].rpartition(".")[2], json.loads(entry["body"] or "{}")
    else:
        form = parse_qs(entry["body"])
        operation, fields = form["Action"][0], {name: values[0] for name, values in form.items()}
    found = [Call(principal, f"{_SERVICES.get(service, service)}:{operation}", _resource(service, operation, fields))]
    return [*found, *_along(principal, service, operation, fields)]


def _s3(method: str, path: str, asked: Mapping[str, str]) -> list[tuple[Any, ...]]:
    bucket, _, key = path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not bucket:
        return [("s3:ListAllMyBuckets", "*")]
    if key:
        verb = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "POST": "PutObject"}.get(method)
        return [(f"s3:{verb or 'DeleteObject'}", f"{arn}/{key}")]
    if "delete" in asked:
        return [("s3:DeleteObject", f"{arn}/any"), ("s3:DeleteObjectVersion", f"{arn}/any")]
    for name, noun in _S3_NOUNS.items():
        if name in asked:
            verb = {"GET": "Get", "PUT": "Put", "DELETE": "Delete" if name == "policy" else "Put"}[method]
            return [(f"s3:{verb}{noun}", arn)]
    if method in ("PUT", "DELETE"):
        return [("s3:CreateBucket" if method == "PUT" else "s3:DeleteBucket", arn)]
    context = (("s3:prefix", asked["prefix"]),) if "prefix" in asked else ()
    return [("s3:ListBucketVersions" if "versions" in asked else "s3:ListBucket", arn, context)]


def _lambda(method: str, path: str, body: str) -> list[tuple[Any, ...]]:
    path = re.sub(r"^/\d{4}-\d\d-\d\d", "", path).rstrip("/")
    matched = [
        (operation, found)
        for known, pattern, operation in _LAMBDA_OPERATIONS
        if method == known and (found := re.fullmatch(pattern, path))
    ]
    assert matched, f"{method} {path} is not known"
    operation, found = matched[0]
    if operation == "GetAccountSettings":
        return [(f"lambda:{operation}", "*")]
    fields = json.loads(body) if operation == "CreateFunction" else {}
    name = fields["FunctionName"] if fields else found[1].rpartition("function:")[2]
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    calls: list[tuple[Any, ...]] = [(f"lambda:{operation}", arn)]
    if fields:
        calls.append(("iam:PassRole", fields["Role"], (("iam:PassedToService", "lambda.amazonaws.com"),)))
        calls.append(("lambda:TagResource", arn))
        # "the user or role that creates the function" needs these of a private image:
        # https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
        repository = fields["Code"]["ImageUri"].partition("/")[2].partition("@")[0]
        calls += [
            (f"ecr:{action}", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}")
            for action in ("GetRepositoryPolicy", "SetRepositoryPolicy", "BatchGetImage", "GetDownloadUrlForLayer")
        ]
    return calls


def _resource(service: str, operation: str, fields: Mapping[str, Any]) -> str:
    """Return the ARN of what is asked for, ``*`` where the action has none."""
    here = f"{REGION}:{ACCOUNT}"
    match service:
        case "states":
            if operation == "CreateStateMachine":
                return f"arn:aws:states:{here}:stateMachine:{fields['name']}"
            names = ("executionArn", "mapRunArn", "stateMachineArn", "resourceArn")
            return next((str(fields[name]) for name in names if name in fields), "*")
        case "ecr":
            if "resourceArn" in fields:
                return str(fields["resourceArn"])
            name = fields.get("repositoryName") or next(iter(fields.get("repositoryNames", [])), None)
            return f"arn:aws:ecr:{here}:repository/{name}" if name else "*"
        case "ecs":
            return _task_resource(operation, fields)
        case "elasticloadbalancing":
            name = next((value for key, value in fields.items() if key in ("Name", "LoadBalancerArn")), None)
            name = next((value for key, value in fields.items() if key in ("ListenerArn", "TargetGroupArn")), name)
            # What describes belongs to no resource:
            # https://docs.aws.amazon.com/service-authorization/latest/reference/list_elasticloadbalancing.html
            if operation.startswith("Describe") or name is None:
                return "*"
            return name if name.startswith("arn:") else f"arn:aws:elasticloadbalancing:{here}:any/{name}"
        case "secretsmanager":
            return str(fields.get("SecretId") or f"arn:aws:secretsmanager:{here}:secret:{fields['Name']}-000000")
        case "iam":
            return f"arn:aws:iam::{ACCOUNT}:role/{fields['RoleName']}" if "RoleName" in fields else "*"
        case "logs":
            if operation == "DescribeLogGroups":
                return f"arn:aws:logs:{here}:log-group::log-stream:"
            if "resourceArn" in fields:
                return str(fields["resourceArn"])
            return (
                f"arn:aws:logs:{here}:log-group:{fields['logGroupName']}:log-stream:"
                if "logGroupName" in fields
                else "*"
            )
        case "monitoring":
            if "Dashboard" in operation:
                name = fields.get("DashboardName") or fields.get("DashboardNames.member.1")
                return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}"
            name = next((fields[key] for key in ("AlarmName", "AlarmNames.member.1") if key in fields), None)
            return fields.get("ResourceARN") or (f"arn:aws:cloudwatch:{here}:alarm:{name}" if name else "*")
    return "*"


def _task_resource(operation: str, fields: Mapping[str, Any]) -> str:
    """Return what a request to ECS is about.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
    """
    here = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    if operation == "RegisterTaskDefinition":
        return f"{here}:task-definition/{fields['family']}:1"
    if operation == "CreateService":
        return f"{here}:service/{fields['cluster'].rpartition('/')[2]}/{fields['serviceName']}"
    if operation == "CreateCluster":
        return f"{here}:cluster/{fields['clusterName']}"
    named = [*fields.get("services", ()), *fields.get("clusters", ()), fields.get("service"), fields.get("cluster")]
    return next(filter(None, named), "*")


def _along(principal: str, service: str, operation: str, fields: Mapping[str, Any]) -> list[Call]:
    """Return what AWS asks for in addition: a role that is passed, tags that are given."""
    arn = _resource(service, operation, fields)
    found = []
    if operation == "CreateStateMachine":
        passed = (("iam:PassedToService", "states.amazonaws.com"),)
        found.append(Call(principal, "iam:PassRole", fields["roleArn"], passed))
    if operation == "RegisterTaskDefinition":
        passed = (("iam:PassedToService", "ecs-tasks.amazonaws.com"),)
        found.append(Call(principal, "iam:PassRole", fields["executionRoleArn"], passed))
    tags = {"CreateStateMachine": "states:TagResource", "CreateRepository": "ecr:TagResource"}
    tags |= {"CreateLogGroup": "logs:TagResource", "CreateRole": "iam:TagRole"}
    tags |= {"PutMetricAlarm": "cloudwatch:TagResource", "CreateSecret": "secretsmanager:TagResource"}
    tags |= dict.fromkeys(("CreateCluster", "CreateService", "RegisterTaskDefinition"), "ecs:TagResource")
    tags |= dict.fromkeys(("CreateLoadBalancer", "CreateTargetGroup", "CreateListener"), "elasticloadbalancing:AddTags")
    if operation in tags:
        found.append(Call(principal, tags[operation], arn))
    return found
