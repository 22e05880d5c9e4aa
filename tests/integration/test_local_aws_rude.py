"""A run through the rude sides of AWS loses nothing: no room, functions asleep, S3 that fails now and then."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from inference import contract
from inference.contract import RunSummary
from inference.models import MAGNITUDES
from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import DEFINITION_PATH, deploy
from scripts.local_aws.rudeness import Rudeness
from tests.factories import make_arrays, make_shard_bytes
from tests.forked import LocalAws
from tests.integration.conftest import make_functions, wait_until
from tests.integration.test_aws_target import Rehearsal, command, make_dataset

AT_ONCE = '"MaxConcurrencyPath": "$.max_concurrency"'


def sooner(definition: str) -> str:
    """Return the state machine with waits of a second at most: what they wait for comes as much sooner here."""

    def shorten(document: Any) -> Any:
        if isinstance(document, list):
            return [shorten(value) for value in document]
        if not isinstance(document, dict):
            return document
        waits = {name: 1 for name in ("IntervalSeconds", "MaxDelaySeconds") if name in document}
        return {name: shorten(value) for name, value in document.items()} | waits

    return json.dumps(shorten(json.loads(definition)))


def test_runs_at_once_lose_no_rank_where_there_is_little_room_and_all_is_slow_to_wake(tmp_path: Path) -> None:
    rudeness = Rudeness(concurrency=2, inactive_s=2, s3_failure_every=20, starts_per_s=50, environments_per_10_s=1)
    definition = sooner(DEFINITION_PATH.read_text())
    assert AT_ONCE in definition
    with LocalAws(log_dir=tmp_path, workers=2, rudeness=rudeness) as aws:
        # Four times as many ranks at a time as the account has room for, and that in each of two runs.
        deployed = deploy(aws, definition=definition.replace(AT_ONCE, '"MaxConcurrency": 8'), model=MAGNITUDES)
        s3, states = (boto3.client(name, **aws.credentials) for name in ("s3", "stepfunctions"))
        s3.put_object(Bucket=deployed.bucket, Key="d/0.safetensors", Body=make_shard_bytes(64, **make_arrays(64)))
        request = {"bucket": deployed.bucket, "data_prefix": "d/"}
        arns = {
            name: states.start_execution(
                stateMachineArn=deployed.state_machine_arn,
                name=name,
                input=json.dumps({**request, "world_size": world_size}),
            )["executionArn"]
            for name, world_size in (("many", 64), ("few", 8))
        }

        def status(name: str) -> str:
            return str(states.describe_execution(executionArn=arns[name])["status"])

        for name, world_size in (("many", 64), ("few", 8)):
            wait_until(lambda name=name: status(name) != "RUNNING", timeout_s=200)
            assert status(name) == "SUCCEEDED"
            content = s3.get_object(Bucket=deployed.bucket, Key=f"runs/{name}/summary.json")["Body"].read()
            summary = contract.decode(content, RunSummary)
            assert (summary.complete, summary.num_records, summary.num_samples) == (True, world_size, 64)
        history = states.get_execution_history(executionArn=arns["many"], maxResults=100)["events"]

    refused = {event["taskFailedEventDetails"]["error"] for event in history if event["type"] == "TaskFailed"}
    assert "Lambda.CodeArtifactUserPendingException" in refused


@pytest.mark.parametrize(
    ("num_requests", "left"), [(8, ""), (24, "The run may still be running: `make status RUN=")], ids=["upload", "end"]
)
def test_a_session_that_expires_under_way_is_named_with_what_renews_it(
    num_requests: int, left: str, tmp_path: Path
) -> None:
    stages = read_stages()
    stages["infer"]["handler"] = "tests.integration.functions.rehearse.handler"
    rudeness = Rudeness(session_requests=num_requests)
    with LocalAws(log_dir=tmp_path / "logs", workers=2, rudeness=rudeness) as aws:
        account = Rehearsal(aws, deploy(aws, stages=stages))
        make_dataset(tmp_path, "tiny")

        done = command("run", account, tmp_path, DATASET="tiny", WORLD="4")

    assert done.returncode == 1
    said = " ".join(done.stderr.split())  # lines are as wide as the screen
    assert "have expired" in said
    assert "`aws sso login`" in said
    assert left in said


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
    s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}), **unkind.credentials)
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
