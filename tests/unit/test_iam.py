"""The evaluator of policies that the tests of a deployment rely on."""

import pytest

from tests.iam import Call, idle_statements, is_allowed

READ = {"Effect": "Allow", "Action": ["s3:Get*"], "Resource": "arn:aws:s3:::own/*/ranks/*"}
NEVER = {"Effect": "Deny", "Action": "s3:*", "Resource": ["arn:aws:s3:::own/datasets/*"]}
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": "arn:aws:s3:::own",
    "Condition": {"StringLike": {"s3:prefix": ["*/ranks/"]}},
}


@pytest.mark.parametrize(
    ("action", "resource", "context", "expected"),
    [
        ("s3:GetObject", "arn:aws:s3:::own/runs/r/ranks/0.json", (), True),
        ("S3:getobject", "arn:aws:s3:::own/runs/r/ranks/0.json", (), True),
        ("s3:GetObject", "arn:aws:s3:::own/runs/r/RANKS/0.json", (), False),
        ("s3:GetObject", "arn:aws:s3:::own/ranks/0.json", (), False),
        ("s3:PutObject", "arn:aws:s3:::own/runs/r/ranks/0.json", (), False),
        ("s3:GetObject", "arn:aws:s3:::own/datasets/d/ranks/0.json", (), False),
        ("s3:ListBucket", "arn:aws:s3:::own", (("s3:prefix", "runs/r/ranks/"),), True),
        ("s3:ListBucket", "arn:aws:s3:::own", (("s3:prefix", "runs/r/"),), False),
        ("s3:ListBucket", "arn:aws:s3:::own", (), False),
    ],
)
def test_what_no_statement_allows_or_one_denies_is_denied(
    action: str, resource: str, context: tuple[tuple[str, str], ...], expected: bool
) -> None:
    assert is_allowed(Call("anyone", action, resource, context), [READ, NEVER, LIST]) is expected


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "NotAction": "s3:GetObject", "Resource": "*"},
        {**LIST, "Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
    ],
)
def test_what_it_does_not_know_is_an_error(statement: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match="cannot be evaluated"):
        is_allowed(Call("anyone", "s3:ListBucket", "arn:aws:s3:::own", (("s3:max-keys", "5"),)), [statement])


def test_a_statement_without_which_every_answer_is_the_same_is_idle() -> None:
    read = Call("anyone", "s3:GetObject", "arn:aws:s3:::own/runs/r/ranks/0.json")
    refused = Call("anyone", "s3:GetObject", "arn:aws:s3:::own/datasets/d/ranks/0.json")
    statements = [{**READ, "Sid": "Read"}, {**NEVER, "Sid": "Never"}, {**LIST, "Sid": "List"}]

    assert idle_statements(statements, [read, refused]) == ["List"]
    assert idle_statements(statements, [read]) == ["Never", "List"]
