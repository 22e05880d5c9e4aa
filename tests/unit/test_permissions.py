"""What `make doctor` says of the credentials' permissions."""

import json
from typing import Any

import pytest

from scripts.deployment.permissions import POLICY, Question, permissions, principal_of, questions
from tests.iam import Call, is_allowed
from tests.unit.test_doctor import StubbedAccount, make_stack

ARN = "arn:aws:iam::123456789012:user/astronomer"


def answered(*denied: str) -> StubbedAccount:
    """Return an account in which IAM denies some actions."""
    account = StubbedAccount()
    stack = make_stack()
    for question in questions(stack.name, stack.account_id, stack.region):
        account.answers("iam", "simulate_principal_policy", answer(question, denied))
    return account


def answer(question: Question, denied: tuple[str, ...]) -> dict[str, Any]:
    decisions = {action: "implicitDeny" if action in denied else "allowed" for action in question.actions}
    results = [{"EvalActionName": action, "EvalDecision": decision} for action, decision in decisions.items()]
    return {"EvaluationResults": results}


def test_the_policy_that_is_shipped_answers_every_question_with_yes() -> None:
    statements = json.loads(POLICY.read_text())["Statement"]

    asked = list(questions("redshift-inference", "123456789012", "us-east-1"))

    calls = [
        Call("anyone", action, q.resource, tuple((c["ContextKeyName"], c["ContextKeyValues"][0]) for c in q.context))
        for q in asked
        for action in q.actions
    ]
    assert len(calls) > 100
    assert [call for call in calls if not is_allowed(call, statements)] == []


def test_another_deployment_is_asked_about_by_its_own_name() -> None:
    resources = {question.resource for question in questions("photo-z", "1", "eu-west-1", partition="aws-cn")}

    assert "arn:aws-cn:states:eu-west-1:1:stateMachine:photo-z" in resources
    assert not [resource for resource in resources if "redshift-inference" in resource]


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
