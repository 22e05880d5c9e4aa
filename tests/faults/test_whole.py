"""The same judge for whole runs: the state machine in the local AWS, Lambda's runtime, killed workers."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest

from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import Deployment, deploy
from scripts.local_aws.server import LocalAws
from tests.faults.bucket import Bucket
from tests.faults.whole import RANK, WHOLE, Whole
from tests.faults.world import PREFIX, WORLD_SIZE, Outcome, World, judge
from tests.integration.conftest import MARK, marked_processes, wait_until

TIMEOUT_S = 5
"""Of Infer: shorter than any plan accepts, so that what hangs is waited for seconds, not minutes [s]."""


@dataclass
class Cloud:
    """A local deployment whose functions do what a run's name says."""

    aws: LocalAws
    deployment: Deployment

    def __post_init__(self) -> None:
        self.s3 = boto3.client("s3", **self.aws.credentials)
        self.states = boto3.client("stepfunctions", **self.aws.credentials)
        for key, content in World().bucket.objects.items():
            self.s3.put_object(Bucket=self.deployment.bucket, Key=key, Body=content)

    def run(self, row: Whole) -> Outcome:
        """Execute a run to its end; return it with the objects that it left."""
        name = f"{row.fault}-{RANK}-{uuid.uuid4().hex[:6]}"
        request = {"bucket": self.deployment.bucket, "data_prefix": PREFIX, "world_size": WORLD_SIZE, **row.request}
        began_s = time.monotonic()
        arn = self.states.start_execution(
            stateMachineArn=self.deployment.state_machine_arn, name=name, input=json.dumps(request)
        )["executionArn"]
        wait_until(lambda: self.states.describe_execution(executionArn=arn)["status"] != "RUNNING")
        ended = self.states.describe_execution(executionArn=arn)
        seconds = time.monotonic() - began_s
        world = World(name=name)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.deployment.bucket, Prefix=f"runs/{name}/")
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        world.bucket = Bucket({key: self._read(key) for key in keys})
        return Outcome(world, world.summary(), ended.get("error", ""), ended.get("cause", ""), seconds)

    def _read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.deployment.bucket, Key=key)["Body"].read()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    stages = read_stages()
    for stage, function in (("initialize", "initialize"), ("infer", "handler"), ("summarize", "summarize")):
        stages[stage]["handler"] = f"tests.integration.functions.faulty.{function}"
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, mark)
        with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=2) as aws:
            yield Cloud(aws, deploy(aws, stages=stages))
    # No row may leave a process behind, whatever became of it.
    wait_until(lambda: not marked_processes(mark), timeout_s=10)


@pytest.fixture(scope="module")
def undisturbed(cloud: Cloud) -> list[bytes]:
    """Return, per rank, what a run predicts in which nothing goes wrong."""
    outcome = cloud.run(WHOLE[0])
    world = outcome.world
    return [world.bucket.objects[world.own(f"predictions/{rank:05d}.npz")] for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.what)
def test_a_fault_ends_as_it_must(row: Whole, cloud: Cloud, undisturbed: list[bytes]) -> None:
    if row.fault == "hang":
        functions = boto3.client("lambda", **cloud.aws.credentials)
        functions.update_function_configuration(FunctionName="infer", Timeout=TIMEOUT_S)

    outcome = cloud.run(row)

    assert outcome.words == row.end, outcome.message
    judge(outcome, row.names, undisturbed, limit_s=60.0)
