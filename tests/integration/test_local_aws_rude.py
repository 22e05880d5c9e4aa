"""The rude sides of AWS that one request meets: S3 that fails, sessions that expire, short pages, cold functions."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from scripts.local_aws.rudeness import Rudeness
from tests.forked import LocalAws
from tests.integration.conftest import make_functions

ONCE = Config(retries={"total_max_attempts": 1})


def test_pages_of_a_list_are_shorter_than_asked_for(tmp_path: Path) -> None:
    with LocalAws(log_dir=tmp_path, rudeness=Rudeness(list_keys=2)) as aws:
        s3 = boto3.client("s3", **aws.credentials)
        s3.create_bucket(Bucket="pages")
        for key in "abcde":
            s3.put_object(Bucket="pages", Key=f"many/{key}")

        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="pages", Prefix="many/"))
        # Of the plain lists our own code answers, of one with a delimiter moto.
        folders = list(s3.get_paginator("list_objects_v2").paginate(Bucket="pages", Prefix="many/", Delimiter="/"))

    for found in (pages, folders):
        assert [[entry["Key"][-1] for entry in page["Contents"]] for page in found] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.fixture(scope="module")
def unkind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """Serve with an S3 that always fails, and functions that are always cold."""
    rudeness = Rudeness(s3_failure_every=1, all_cold=True)
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=1, rudeness=rudeness) as aws:
        yield aws


def test_a_request_without_an_answer_finds_its_connection_closed(unkind: LocalAws) -> None:
    s3 = boto3.client("s3", config=ONCE, **unkind.credentials)
    failures = []
    for _ in range(3):
        with pytest.raises((ClientError, ConnectionClosedError)) as failed:
            s3.list_buckets()
        failures.append(type(failed.value))

    assert failures == [ClientError, ClientError, ConnectionClosedError]


def test_every_invocation_is_cold_where_it_is_asked_for(unkind: LocalAws) -> None:
    functions = make_functions(unkind.credentials, "infer")

    answers = [functions.invoke(FunctionName="infer", Payload=b"{}")["Payload"] for _ in range(2)]

    assert len({json.load(answer)["pid"] for answer in answers}) == 2


def test_a_session_expires_after_so_many_requests_and_whoever_asked_for_what_is_written_down(tmp_path: Path) -> None:
    path, rudeness = tmp_path / "calls.jsonl", Rudeness(session_requests=3)
    with LocalAws(log_dir=tmp_path, rudeness=rudeness, call_log=path) as aws:
        s3, states = (
            boto3.client(name, config=ONCE, aws_session_token=aws.key, **aws.credentials)
            for name in ("s3", "stepfunctions")
        )
        s3.create_bucket(Bucket="calls")
        s3.put_object(Bucket="calls", Key="k", Body=b"content")
        states.list_state_machines(maxResults=7)
        for request, code in (
            (lambda: s3.put_object(Bucket="calls", Key="k", Body=b"late"), "ExpiredToken"),
            (lambda: states.list_state_machines(maxResults=8), "ExpiredTokenException"),
        ):
            with pytest.raises(ClientError) as refused:
                request()
            assert refused.value.response["Error"]["Code"] == code
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        functions = boto3.client("lambda", aws_session_token="infer", **aws.credentials)
        assert functions.list_functions()["Functions"] == []
        # Whoever is no session of the commands reads what was stored in time.
        assert boto3.client("s3", **aws.credentials).get_object(Bucket="calls", Key="k")["Body"].read() == b"content"

    calls = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(call["principal"], call["service"], call["method"]) for call in calls] == [
        *((aws.key, "s3", "PUT"), (aws.key, "s3", "PUT"), (aws.key, "states", "POST")),
        *((aws.key, "s3", "PUT"), (aws.key, "states", "POST"), ("infer", "lambda", "GET"), ("", "s3", "GET")),
    ]
    # What an object holds says nothing of who may do what.
    assert [call["body"] for call in calls] == ["", "", '{"maxResults": 7}', "", '{"maxResults": 8}', "", ""]
    assert calls[2]["operation"] == "AWSStepFunctions.ListStateMachines"
