"""What the credentials may do of all that the commands need, asked of IAM before it is needed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from scripts.command.aws_errors import is_denied
from scripts.command.repository import REPOSITORY
from scripts.deployment.account import Account
from scripts.deployment.finding import Finding
from scripts.deployment.stack import Stack

POLICY = REPOSITORY / "docs" / "operator-policy.json"
RENDEZVOUS_POLICY = POLICY.with_name("operator-policy-rendezvous.json")
"""In addition, where ranks meet at a server: IAM has no room for both in one policy."""

RENDEZVOUS_RECORD = "RendezvousRecord"
"""Statement about a name of one's own for that server."""

DEFAULT_NAME = "redshift-inference"
FIX = "docs/{} has all that the commands need: ask your administrator for it."
ANY_KIND = {"ecs": "cluster/", "elasticloadbalancing": "loadbalancer/net/"}
"""Service to a kind of its resources, where a pattern is about every kind."""
FOR_A_RUN = ("Run", "Status", "Stop", "LogsAndCost")
"""Beginnings of the statements that a run needs; the others deploy and destroy."""


class Question(NamedTuple):
    """Actions on one resource, of one statement of the policy."""

    sid: str
    actions: list[str]
    resource: str
    context: list[dict[str, Any]]


def permissions(account: Account, arn: str, stack: Stack | None) -> Finding:
    """Name the first permission that is lacking.

    Parameters
    ----------
    account : Account
        Asks.
    arn : str
        Of who asks, as STS says it.
    stack : Stack or None
        What is deployed; the default names when None.

    Raises
    ------
    ClientError
        If IAM does not answer for another reason than that it may not.
    """
    principal = principal_of(arn)
    if principal is None:
        return Finding("permissions", "ok", "the root user may do everything; a role with less would be safer")
    name, account_id, region = (
        (stack.name, stack.account_id, stack.region) if stack else (DEFAULT_NAME, arn.split(":")[4], account.region)
    )
    policies = [POLICY, RENDEZVOUS_POLICY] if stack and stack.rendezvous else [POLICY]
    lacking = []
    try:
        for policy in policies:
            for question in questions(name, account_id, str(region), partition=arn.split(":")[1], policy=policy):
                if question.sid == RENDEZVOUS_RECORD and not _has_record(stack):
                    continue
                lacking += [(question.sid, action) for action in _denied(account, principal, question)]
    except ClientError as error:
        if is_denied(error) or error.response["Error"]["Code"] == "NoSuchEntity":
            return Finding(
                "permissions", "skip", "IAM does not say what these credentials may do", FIX.format(POLICY.name)
            )
        raise
    if not lacking:
        return Finding("permissions", "ok", f"all of {' and '.join(policy.name for policy in policies)}")
    # What a run needs comes first: without it nothing works here.
    lacking.sort(key=lambda pair: not pair[0].startswith(FOR_A_RUN))
    sid, action = lacking[0]
    others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    is_fatal = stack is None or sid.startswith(FOR_A_RUN)
    fix = FIX.format((RENDEZVOUS_POLICY if sid.startswith("Rendezvous") else POLICY).name)
    return Finding("permissions", "fail" if is_fatal else "warn", f"{action} ({sid}){others} is not allowed", fix)


def _has_record(stack: Stack | None) -> bool:
    """Return whether the server has another name than its load balancer's."""
    return bool(stack and stack.rendezvous and ".elb." not in stack.rendezvous.host)


def principal_of(arn: str) -> str | None:
    """Return the user or role behind an identity, None for the root user.

    Of a role that was assumed only the name is known, not its path.
    """
    resource = arn.split(":", 5)[5]
    if resource == "root":
        return None
    if not resource.startswith("assumed-role/"):
        return arn
    partition, account_id = arn.split(":")[1], arn.split(":")[4]
    return f"arn:{partition}:iam::{account_id}:role/{resource.split('/')[1]}"


def questions(
    name: str, account_id: str, region: str, *, partition: str = "aws", policy: Path = POLICY
) -> Iterator[Question]:
    """Yield a policy as questions about one deployment, each about the resources of one service.

    Parameters
    ----------
    name : str
        Of the deployment.
    account_id, region, partition : str
        Where it is.
    policy : Path
        The policy.
    """
    for statement in json.loads(policy.read_text())["Statement"]:
        resources = _as_list(statement["Resource"])
        wanted = statement.get("Condition", {}).get("StringEquals", {})
        context = [
            {"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": _as_list(values)[:1]}
            for key, values in wanted.items()
        ]
        by_service: dict[str, list[str]] = {}
        for action in _as_list(statement["Action"]):
            # IAM simulates no patterns.
            by_service.setdefault(action.partition(":")[0], []).append(action.replace("Bucket*", "BucketPolicy"))
        for service, actions in by_service.items():
            pattern = next((one for one in resources if one == "*" or one.split(":")[2] == service), None)
            assert pattern, f"{statement['Sid']} has no resource of {service}"
            yield Question(statement["Sid"], actions, _concrete(pattern, name, account_id, region, partition), context)


def _concrete(pattern: str, name: str, account_id: str, region: str, partition: str) -> str:
    """Return one resource that a pattern of the policy is about."""
    if pattern == "*":
        return pattern
    _, _, service, any_region, any_account, resource = pattern.split(":", 5)
    resource = resource.replace(DEFAULT_NAME, name)
    if resource.startswith("*/"):
        resource = ANY_KIND[service] + resource[2:]
    resource = resource.replace("/aws/*", "/aws/lambda/").replace("role/*", "role/").rstrip("*")
    resource += "x" if resource.endswith(("-", "/")) else ""
    return f"arn:{partition}:{service}:{any_region and region}:{any_account and account_id}:{resource}"


def _denied(account: Account, principal: str, question: Question) -> list[str]:
    answer = account.client("iam").simulate_principal_policy(
        PolicySourceArn=principal,
        ActionNames=question.actions,
        ResourceArns=[question.resource],
        ContextEntries=question.context,
    )
    return [result["EvalActionName"] for result in answer["EvaluationResults"] if result["EvalDecision"] != "allowed"]


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
