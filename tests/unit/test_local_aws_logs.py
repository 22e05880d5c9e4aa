"""What the local AWS writes down: who asked for what, and what an invocation printed between Lambda's own lines."""

import json
from email.message import Message
from pathlib import Path

import pytest

from scripts.local_aws.calls import STATES, CallLog
from scripts.local_aws.worker_log import TAIL_BYTES, WorkerLog


def headers(**values: str) -> "Message[str, str]":
    message: Message[str, str] = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


SIGNED = "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def test_a_request_is_recorded_with_who_asked_which_service_for_what(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    calls = CallLog(path)
    assert calls

    calls.request("PUT", "/b/ü", headers(authorization=SIGNED, x_amz_security_token="infer"), b"\xff")
    calls.request("POST", "/", headers(x_amz_target="AWSStepFunctions.StartExecution"), b"{}")
    calls.request("GET", "/", headers(authorization="Credential=KEY/20260101/us-east-1/s3"), b"")
    calls.invocation("infer")

    # A line is on disk as soon as it is written; the file is open as long as the server runs.
    signed, plain, cut, invoked = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert signed == {
        "principal": "infer", "service": "s3", "operation": "", "method": "PUT", "target": "/b/ü", "body": "\ufffd",
    }  # fmt: skip
    assert (plain["principal"], plain["service"]) == ("", "")
    assert plain["operation"] == "AWSStepFunctions.StartExecution"
    assert cut["service"] == ""
    assert invoked == {"principal": STATES, "action": "lambda:InvokeFunction", "resource": "infer"}
    assert calls._file
    calls._file.close()


def test_nothing_is_recorded_unless_it_is_asked_for() -> None:
    calls = CallLog(None)

    calls.invocation("infer")
    assert not calls


@pytest.fixture
def log(tmp_path: Path) -> WorkerLog:
    """Return a log that another invocation has written to."""
    (tmp_path / "infer-0.log").write_bytes(b"earlier\n")
    return WorkerLog(tmp_path / "infer-0.log")


def test_an_invocation_is_between_the_lines_of_lambda(log: WorkerLog) -> None:
    log.start("id", "$LATEST")
    log.file.write(b"printed\n")
    log.end("id", duration_s=0.0101, init_s=0.0, memory_mb=1769, peak_mb=200)

    assert log.tail().decode() == (
        "START RequestId: id Version: $LATEST\n"
        "printed\n"
        "END RequestId: id\n"
        "REPORT RequestId: id\tDuration: 10.10 ms\tBilled Duration: 11 ms\tMemory Size: 1769 MB\t"
        "Max Memory Used: 200 MB\n"
    )
    log.close()
    assert log.path.read_bytes().startswith(b"earlier\nSTART")
    with pytest.raises(ValueError, match="closed"):
        log.start("id", "1")


def test_init_is_billed_and_an_invocation_that_was_lost_says_why(log: WorkerLog) -> None:
    log.mark()
    log.end("id", duration_s=2.0, init_s=0.5, memory_mb=128, peak_mb=None, lost="Task timed out", status="timeout")

    assert log.tail().decode() == (
        "RequestId: id Error: Task timed out\n"
        "END RequestId: id\n"
        "REPORT RequestId: id\tDuration: 2000.00 ms\tBilled Duration: 2500 ms\tMemory Size: 128 MB\t"
        "Init Duration: 500.00 ms\tStatus: timeout\n"
    )
    log.close()


def test_an_init_and_an_invocation_have_their_own_parts_of_a_log(log: WorkerLog) -> None:
    log.file.write(b"cannot be imported\n")
    assert log.tail() == b"cannot be imported\n"
    log.start("id", "1")

    assert log.tail() == b"START RequestId: id Version: 1\n"
    log.close()


def test_of_what_was_printed_the_end_is_returned(log: WorkerLog) -> None:
    log.mark()
    assert log.tail() == b""
    log.file.write(b"x" * TAIL_BYTES + b"end")

    assert log.tail() == b"x" * (TAIL_BYTES - 3) + b"end"
    # https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    assert TAIL_BYTES == 4 * 1024
    log.close()
