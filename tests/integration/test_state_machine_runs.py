"""Whole runs through the real state machine, handlers and Lambda runtime: at size, at once, and with a bad shard."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import obstore
import pytest
from obstore.store import S3Store

from inference import contract
from inference.contract import RankRecord, RunSummary
from inference.models import MAGNITUDES
from scripts.local_aws.deploy import DEFINITION_PATH, Deployment, deploy
from scripts.local_aws.rudeness import Rudeness
from scripts.local_aws.server import REGION
from tests.factories import make_arrays, make_shard_bytes
from tests.forked import LocalAws
from tests.integration.conftest import wait_until

NUM_RANKS, LIST_KEYS = 63, 50
AT_ONCE = '"MaxConcurrencyPath": "$.max_concurrency"'


class Cloud:
    """A local deployment, and what the tests do with one."""

    def __init__(self, aws: LocalAws, deployment: Deployment) -> None:
        self.deployment = deployment
        self.s3 = S3Store(
            deployment.bucket,
            endpoint=aws.endpoint_url,
            region=REGION,
            access_key_id=aws.key,
            secret_access_key=aws.key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        self.step_functions = boto3.client("stepfunctions", **aws.credentials)

    def upload(self, prefix: str, *, num_shards: int, num_rows: int, with_card: bool = False) -> None:
        content = make_shard_bytes(num_rows, **make_arrays(num_rows))
        names = [f"{number}.safetensors" for number in range(num_shards)]
        if with_card:
            shards = tuple(
                contract.ShardEntry(name=name, num_rows=num_rows, size_bytes=len(content), sha256="0" * 64)
                for name in names
            )
            card = contract.DatasetCard(
                name="tiny",
                partition="10MB",
                num_rows=num_rows * num_shards,
                shards=shards,
                arrays={},
                seed=0,
                provenance="test",
            )
            self.put(f"{prefix}dataset.json", contract.encode(card))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self.put(prefix + name, content), names))

    def put(self, key: str, content: bytes) -> None:
        obstore.put(self.s3, key, content, use_multipart=False)

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self.s3, key).bytes())

    def start(self, name: str, **request: Any) -> str:
        return self.step_functions.start_execution(
            stateMachineArn=self.deployment.state_machine_arn,
            name=name,
            input=json.dumps({"bucket": self.deployment.bucket, **request}),
        )["executionArn"]

    def wait(self, execution_arn: str) -> dict[str, Any]:
        while (execution := self.step_functions.describe_execution(executionArn=execution_arn))["status"] == "RUNNING":
            time.sleep(0.2)
        return execution

    def run(self, name: str, **request: Any) -> dict[str, Any]:
        return self.wait(self.start(name, **request))

    def summary(self, name: str) -> RunSummary:
        return contract.decode(self.get(f"runs/{name}/summary.json"), RunSummary)

    def records(self, name: str) -> list[RankRecord]:
        return contract.decode(self.get(f"runs/{name}/combined_data.json"), list[RankRecord])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), rudeness=Rudeness(list_keys=LIST_KEYS)) as aws:
        # The smallest network: what is shown here is the way of the galaxies, not their redshifts.
        yield Cloud(aws, deploy(aws, model=MAGNITUDES))


# These shards, and what these ranks leave, are more than a page of a list.
def test_many_ranks_and_three_read_every_shard_and_leave_their_records_in_rank_order(cloud: Cloud) -> None:
    num_shards = 2 * NUM_RANKS
    assert min(num_shards, NUM_RANKS) > LIST_KEYS
    cloud.upload("many/", num_shards=num_shards, num_rows=1, with_card=True)

    many = cloud.start("many", data_prefix="many/", world_size=NUM_RANKS)
    few = cloud.start("few", data_prefix="many/", world_size=3)

    for execution, name, num_ranks in ((many, "many", NUM_RANKS), (few, "few", 3)):
        assert cloud.wait(execution)["status"] == "SUCCEEDED"
        summary, records = cloud.summary(name), cloud.records(name)
        assert (summary.complete, summary.num_samples) == (True, num_shards)
        assert [record.rank for record in records] == list(range(num_ranks))
        assert {record.num_samples for record in records} == {num_shards // num_ranks}
        assert len({rows.key for record in records for rows in record.inputs}) == num_shards


def test_two_runs_at_once_do_not_disturb_each_other(cloud: Cloud) -> None:
    cloud.upload("two/", num_shards=4, num_rows=3)
    executions = [cloud.start(name, data_prefix="two/", world_size=size) for name, size in (("left", 4), ("right", 6))]

    assert [cloud.wait(execution)["status"] for execution in executions] == ["SUCCEEDED", "SUCCEEDED"]
    assert (cloud.summary("left").num_records, cloud.summary("right").num_records) == (4, 6)


def test_a_second_run_with_the_same_name_is_refused(cloud: Cloud) -> None:
    cloud.upload("same/", num_shards=2, num_rows=2)
    cloud.run("same", data_prefix="same/")

    with pytest.raises(cloud.step_functions.exceptions.ExecutionAlreadyExists):
        cloud.start("same", data_prefix="same/", world_size=1)
    assert cloud.summary("same").world_size == 2


def test_a_request_that_is_refused_fails_the_execution_under_its_own_name(cloud: Cloud) -> None:
    execution = cloud.run("refused", data_prefix="nothing/here")

    assert execution["status"] == "FAILED"
    assert execution["error"] == "DatasetNotFoundError"
    assert "nothing/here/" in execution["cause"]


def test_one_bad_shard_among_eight_fails_the_run_and_keeps_the_other_seven(cloud: Cloud) -> None:
    cloud.upload("bad/", num_shards=8, num_rows=2, with_card=True)
    size = len(cloud.get("bad/5.safetensors"))
    cloud.put("bad/5.safetensors", bytes(size))

    execution = cloud.run("bad", data_prefix="bad/", world_size=8)

    (lost,) = cloud.summary("bad").lost_ranks
    assert (execution["status"], execution["error"]) == ("FAILED", "IncompleteRunError")
    assert (lost.rank, lost.error, lost.shards) == (5, "ShardFormatError", ("bad/5.safetensors",))
    assert [record.rank for record in cloud.records("bad")] == [0, 1, 2, 3, 4, 6, 7]
    for record in cloud.records("bad"):
        assert cloud.get(record.predictions_key)


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
