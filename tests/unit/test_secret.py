"""The server's key is asked for as AWS's SDK would ask, and a failure says what to do."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from handlers import secret
from handlers.secret import read_secret, signed_headers
from inference.errors import AccessDeniedError, RendezvousError
from tests.fake_s3 import Answer, FakeS3, serve
from tests.rendezvous import nowhere

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = "secretsmanager.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("session", ["", "a-session/token+"])
def test_a_request_is_signed_as_the_sdk_of_aws_signs_it(session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret/key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", session)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
    body = b'{"SecretId": "arn"}'

    ours = signed_headers(HOST, "eu-west-1", body, now=NOW)

    sent = {name: ours[name] for name in ("content-type", "x-amz-target")}
    theirs = AWSRequest("POST", f"https://{HOST}/", headers=sent, data=body)
    auth.SigV4Auth(Credentials("AKID", "secret/key", session or None), "secretsmanager", "eu-west-1").add_auth(theirs)
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """Return a Secrets Manager that answers what a test tells it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with serve() as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        yield fake


def test_a_secret_is_asked_for_by_its_name(manager: FakeS3) -> None:
    manager.script = [Answer(body=json.dumps({"SecretString": "the key"}).encode())]

    assert read_secret("arn") == "the key"
    (asked,) = manager.asked
    assert (asked.method, json.loads(asked.body)) == ("POST", {"SecretId": "arn"})
    assert asked.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert "/eu-west-1/secretsmanager/aws4_request" in asked.headers["authorization"]


def test_a_secret_that_is_refused_is_an_error_with_what_was_said(manager: FakeS3) -> None:
    manager.script = [Answer(400, b"\xff" + b"n" * 1000)]

    with pytest.raises(AccessDeniedError, match=r"The secret arn cannot be read \(400: \ufffdn{499}\)"):
        read_secret("arn")


def test_a_secrets_manager_that_does_not_answer_is_not_waited_for(
    manager: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "TIMEOUT_S", 0.1)
    manager.script = [Answer(after_s=1.0)]

    with pytest.raises(RendezvousError, match=r"Secrets Manager does not answer for arn: .*timed out"):
        read_secret("arn")
    with nowhere() as (host, port), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        with pytest.raises(RendezvousError, match=r"Secrets Manager does not answer for arn: .*refused"):
            read_secret("arn")
