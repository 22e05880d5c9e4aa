"""What `make doctor` says of the credentials' permissions."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scripts.deployment.permissions import (
    POLICY,
    RENDEZVOUS_POLICY,
    RENDEZVOUS_RECORD,
    Question,
    permissions,
    principal_of,
    questions,
)
from scripts.deployment.stack import Rendezvous, Stack
from tests.iam import Call, is_allowed
from tests.unit.test_doctor import StubbedAccount, make_stack

ARN = "arn:aws:iam::123456789012:user/astronomer"


def answered(*denied: str, host: str = "") -> StubbedAccount:
    """Return an account in which IAM denies some actions, and is asked of the rendezvous where it has a host."""
    account = StubbedAccount()
    stack = make_stack()
    for policy in (POLICY, *([RENDEZVOUS_POLICY] if host else [])):
        for question in questions(stack.name, stack.account_id, stack.region, policy=policy):
            if question.sid != RENDEZVOUS_RECORD or ".elb." not in host:
                account.answers("iam", "simulate_principal_policy", answer(question, denied))
    return account


class RecordingAccount:
    """IAM allows everything but what is denied, and notes what it was asked."""

    region = "us-east-1"

    def __init__(self, *denied: str) -> None:
        self.denied = denied
        self.asked: list[dict[str, Any]] = []

    def client(self, service: str) -> "RecordingAccount":
        assert service == "iam"
        return self

    def simulate_principal_policy(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        return answer(Question("", asked["ActionNames"], "", []), self.denied)


def with_rendezvous(host: str) -> Stack:
    server = Rendezvous(host=host, port=10000, secret_arn="arn:aws:secretsmanager:…", log_group="/ecs/x")
    return make_stack(rendezvous=server)


def answer(question: Question, denied: tuple[str, ...]) -> dict[str, Any]:
    decisions = {action: "implicitDeny" if action in denied else "allowed" for action in question.actions}
    results = [{"EvalActionName": action, "EvalDecision": decision} for action, decision in decisions.items()]
    return {"EvaluationResults": results}


@pytest.mark.parametrize(("policy", "num_actions"), [(POLICY, 100), (RENDEZVOUS_POLICY, 70)], ids=lambda one: str(one))
def test_a_policy_that_is_shipped_answers_every_question_with_yes(policy: Path, num_actions: int) -> None:
    statements = json.loads(policy.read_text())["Statement"]

    asked = list(questions("redshift-inference", "123456789012", "us-east-1", policy=policy))

    calls = [
        Call("anyone", action, q.resource, tuple((c["ContextKeyName"], c["ContextKeyValues"][0]) for c in q.context))
        for q in asked
        for action in q.actions
    ]
    assert len(calls) > num_actions
    assert not [call for call in calls if "*" in call.resource and call.resource != "*"]
    assert [call for call in calls if not is_allowed(call, statements)] == []


def test_another_deployment_is_asked_about_by_its_own_name() -> None:
    resources = {question.resource for question in questions("photo-z", "1", "eu-west-1", partition="aws-cn")}

    assert "arn:aws-cn:states:eu-west-1:1:stateMachine:photo-z" in resources
    assert not [resource for resource in resources if "redshift-inference" in resource]


def test_a_user_of_another_partition_is_asked_about_its_resources() -> None:
    there = RecordingAccount()

    found = permissions(there, "arn:aws-cn:iam::7:user/astronomer", None)

    assert (found.verdict, found.text) == ("ok", "all of operator-policy.json")
    assert {one["PolicySourceArn"] for one in there.asked} == {"arn:aws-cn:iam::7:user/astronomer"}
    resources = {resource for one in there.asked for resource in one["ResourceArns"]}
    assert "arn:aws-cn:states:us-east-1:7:stateMachine:redshift-inference" in resources
    assert any(one["ContextEntries"] for one in there.asked)
    expected = [*questions("redshift-inference", "7", "us-east-1", partition="aws-cn")]
    assert [one["ActionNames"] for one in there.asked] == [one.actions for one in expected]


def test_the_root_user_may_do_everything_and_is_advised_against() -> None:
    found = permissions(RecordingAccount(), "arn:aws:iam::1:root", None)

    assert (found.verdict, found.text) == ("ok", "the root user may do everything; a role with less would be safer")


def test_before_the_first_deployment_every_permission_is_needed() -> None:
    found = permissions(RecordingAccount("iam:CreateRole"), ARN, None)

    assert (found.verdict, found.text) == ("fail", "iam:CreateRole (ApplyRoles) is not allowed")


def test_an_iam_that_fails_for_another_reason_is_no_answer() -> None:
    there = StubbedAccount().refuses("iam", "simulate_principal_policy", "Throttling")

    with pytest.raises(ClientError, match="Throttling"):
        permissions(there, ARN, make_stack())


def test_all_permissions_are_one_line() -> None:
    found = permissions(answered(), ARN, make_stack())

    assert (found.verdict, found.text) == ("ok", "all of operator-policy.json")


@pytest.mark.parametrize(
    ("denied", "verdict", "text"),
    [
        (("iam:CreateRole",), "warn", "iam:CreateRole (ApplyRoles) is not allowed"),
        (("iam:CreateRole", "states:StartExecution"), "fail", "states:StartExecution (Run) and 1 more is not allowed"),
    ],
)
def test_the_first_permission_that_is_lacking_is_named(denied: tuple[str, ...], verdict: str, text: str) -> None:
    found = permissions(answered(*denied), ARN, make_stack())

    assert (found.verdict, found.text) == (verdict, text)
    assert "docs/operator-policy.json" in found.fix


@pytest.mark.parametrize("host", ["x-0.elb.eu-west-1.amazonaws.com", "meet.example.org"])
def test_with_a_rendezvous_its_permissions_are_looked_at_too(host: str) -> None:
    stack = with_rendezvous(host)

    whole = permissions(answered(host=host), ARN, stack)
    found = permissions(answered("ecs:UpdateService", "route53:GetChange", host=host), ARN, stack)

    assert whole.text == "all of operator-policy.json and operator-policy-rendezvous.json"
    others = " and 1 more" if host == "meet.example.org" else ""
    assert (found.verdict, found.text) == ("warn", f"ecs:UpdateService (RendezvousTask){others} is not allowed")
    assert "docs/operator-policy-rendezvous.json" in found.fix


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchEntity"])
def test_who_may_not_ask_is_no_failure(code: str) -> None:
    there = StubbedAccount().refuses("iam", "simulate_principal_policy", code, 403)

    assert permissions(there, ARN, make_stack()).verdict == "skip"


@pytest.mark.parametrize(
    ("arn", "principal"),
    [
        (ARN, ARN),
        ("arn:aws:iam::1:root", None),
        ("arn:aws-us-gov:sts::1:assumed-role/Survey/me@x.org", "arn:aws-us-gov:iam::1:role/Survey"),
    ],
)
def test_a_role_that_was_assumed_is_asked_about_itself(arn: str, principal: str | None) -> None:
    assert principal_of(arn) == principal
