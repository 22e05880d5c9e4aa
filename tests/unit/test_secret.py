from datetime import UTC, datetime

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from handlers.secret import signed_headers

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
