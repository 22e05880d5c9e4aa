"""Only programs that hold its key use the local AWS, and no web page does."""

from email.message import Message

import pytest

from scripts.local_aws.admission import KEY_HEADER, new_key, refusal

KEY, PORT = new_key(), 4566
OURS = {"Host": f"127.0.0.1:{PORT}", "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/x"}


def reason(target: str = "/bucket/key", **headers: str | None) -> str | None:
    message: Message[str, str] = Message()
    for name, value in ({**OURS, **{name.replace("_", "-"): value for name, value in headers.items()}}).items():
        if value is not None:
            message[name] = value
    refused = refusal(target, message, key=KEY, port=PORT)
    return refused.body.decode() if refused else None


def test_a_client_with_the_key_is_let_in() -> None:
    assert reason() is None
    assert reason(Host=f"localhost:{PORT}") is None
    assert reason(Authorization=None, **{KEY_HEADER: KEY}) is None
    assert (
        reason(f"/bucket/key?X-Amz-Expires=60&X-Amz-Credential={KEY}%2F20260101%2Fus-east-1", Authorization=None)
        is None
    )
    assert reason(f"/bucket/key?AWSAccessKeyId={KEY}&Signature=x", Authorization=None) is None


@pytest.mark.parametrize(
    "shown",
    [
        {"Authorization": None},
        {"Authorization": OURS["Authorization"].replace(KEY, "testing")},
        {"Authorization": OURS["Authorization"].replace(KEY, KEY[:-1])},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": None, KEY_HEADER: new_key()},
        {"Authorization": None, KEY_HEADER: "é"},
    ],
)
@pytest.mark.parametrize("target", ["/bucket/key", "/_local/functions", "/moto-api/reset", "/"])
def test_one_without_the_key_is_refused(shown: dict[str, str | None], target: str) -> None:
    assert "access key" in (reason(target, **shown) or "")


@pytest.mark.parametrize("origin", ["http://example.com", "null", f"http://127.0.0.1:{PORT}", ""])
def test_no_web_page_is_answered_even_with_the_key(origin: str) -> None:
    assert "no web page" in (reason(Origin=origin) or "")


@pytest.mark.parametrize(
    "host",
    [None, "", "rebound.example.com", f"bucket.localhost:{PORT}", "127.0.0.1:1", f"127.0.0.1:{PORT}.example.com"],
)
def test_a_name_that_was_pointed_here_is_not_ours(host: str | None) -> None:
    assert "no other name" in (reason(Host=host) or "")


def test_two_hosts_or_an_absolute_address_are_refused() -> None:
    message: Message[str, str] = Message()
    for name, value in [*OURS.items(), ("Host", "rebound.example.com")]:
        message[name] = value
    assert refusal("/", message, key=KEY, port=PORT) is not None
    assert "no other name" in (reason("http://rebound.example.com/") or "")


def test_each_service_gets_a_refusal_that_its_client_understands() -> None:
    assert (reason(Authorization=None) or "").startswith("<Error><Code>AccessDenied</Code>")
    json_target = "/2015-03-31/functions/infer/invocations"
    assert '"__type": "AccessDeniedException"' in (reason(json_target, Authorization=None) or "")
    assert '"__type"' in (reason(Authorization=None, X_Amz_Target="AWSStepFunctions.StartExecution") or "")


def test_every_server_has_a_key_of_its_own() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) > 32
