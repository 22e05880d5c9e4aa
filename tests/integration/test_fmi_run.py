"""Ranks of a run that meet: the three handlers on the local AWS, every rank in a thread of its own."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from msgspec import structs

from handlers import infer, initialize, model, settings, summarize
from handlers.storage import ObjectStore
from inference import contract
from inference import plan as planning
from inference.comm import REDUCED
from inference.contract import RankTask, RunComm, RunSummary
from inference.errors import AccessDeniedError, PlanError, RendezvousError, RunError, StorageUnavailableError
from tests.factories import STAGE_VARIABLES, FakeEngine, make_arrays, make_shard_bytes
from tests.forked import LocalAws
from tests.rendezvous import nowhere, running

BUCKET = "tests"
PREFIX = "datasets/tiny/10MB/"
KEY = "k" * 40


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("aws"), workers=1) as aws:
        client = boto3.client("s3", **aws.credentials)
        client.create_bucket(Bucket=BUCKET)
        arrays = make_arrays(130)
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}0.safetensors", Body=make_shard_bytes(130, **arrays))
        yield aws


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with running() as server:
        yield server.address


@pytest.fixture
def s3(aws: LocalAws, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {
        **aws.environment,
        **STAGE_VARIABLES,
        "INFER_MAX_CONCURRENCY": "100",
        "INFER_STARTS_PER_S": "100",
        "RENDEZVOUS_ENDPOINT": f"{address[0]}:{address[1]}",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(model, "engine", lambda *_name, **_mode: FakeEngine())
    with contextlib.closing(boto3.client("s3", **aws.credentials)) as client:
        yield client
    settings.object_store.cache_clear()


def get(s3: Any, key: str) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def plan(name: str, **request: Any) -> dict[str, Any]:
    body = {"bucket": BUCKET, "data_prefix": PREFIX, "fmi_enabled": True, **request}
    return initialize.handler({"execution_name": name, "request": body}, None)


def tasks_of(s3: Any, planned: dict[str, Any]) -> list[RankTask]:
    return contract.decode(get(s3, planned["manifest_key"]), list[RankTask])


def infer_one(task: RankTask, *, left_s: float = 900.0, attempt: int = 0) -> None:
    context = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: left_s * 1000)
    infer.handler({"task": json.loads(contract.encode(task)), "attempt": attempt}, context)


def infer_at_once(tasks: list[RankTask]) -> list[BaseException]:
    """Run all ranks at the same time; return what was raised."""
    raised: list[BaseException] = []

    def run(task: RankTask) -> None:
        try:
            infer_one(task)
        except RunError as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    return raised


def summarized(s3: Any, planned: dict[str, Any]) -> tuple[RunSummary, RunComm]:
    result = summarize.handler(planned, None)
    folder = planned["run_prefix"]
    return (
        contract.decode(get(s3, result["summary_key"]), RunSummary),
        contract.decode(get(s3, f"{folder}{contract.FMI_KEY}"), RunComm),
    )


@pytest.mark.parametrize("world_size", [1, 2, 8, 64])
def test_all_ranks_meet_and_their_sums_are_those_of_the_records_to_the_bit(s3: Any, world_size: int) -> None:
    planned = plan(f"met-{world_size}", world_size=world_size)

    assert infer_at_once(tasks_of(s3, planned)) == []
    summary, met = summarized(s3, planned)

    assert summary.complete
    assert summary.comm == met.summary
    assert (met.summary.status, met.summary.why, met.summary.num_met) == ("ok", None, world_size)
    assert met.summary.paths == ({"direct": world_size - 1} if world_size > 1 else {})
    # Without a calibration no one knows a 95 % interval.
    assert list(met.summary.reduced) == [name for name in REDUCED if name != "num_within_95"]
    assert all(value.is_equal for value in met.summary.reduced.values())
    assert met.summary.reduced["num_samples"].by_ranks == 130
    assert met.summary.reduced["num_labelled"].by_ranks == 130
    assert met.summary.reduced["total_cpu_time_s"].by_ranks == pytest.approx(summary.clock.ranks.inference, rel=1e-6)
    # A barrier and a reduction: up, down, up; each over every connection.
    assert met.summary.num_messages == 3 * (world_size - 1)


def test_who_waited_for_whom_is_known(s3: Any) -> None:
    planned = plan("late", world_size=4)
    tasks = tasks_of(s3, planned)
    others = threading.Thread(target=infer_at_once, args=([task for task in tasks if task.rank != 2],))
    others.start()
    wait_for_records(s3, planned, 3)
    infer_one(tasks[2])
    others.join(60)

    _, met = summarized(s3, planned)

    assert met.summary.last_rank == 2
    assert met.summary.skew_s == max(one.waited_s for one in met.ranks) > 0
    assert met.ranks[2].waited_s == 0


def wait_for_records(s3: Any, planned: dict[str, Any], count: int) -> None:
    until = time.monotonic() + 60
    while s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{planned['run_prefix']}ranks/")["KeyCount"] < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_rank_that_does_not_come_costs_the_meeting_and_nothing_else(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "START_S", 0)
    monkeypatch.setattr(planning, "MEETING_S", 3)
    planned = plan("absent", world_size=4, tolerated_failure_percentage=25)

    infer_at_once([task for task in tasks_of(s3, planned) if task.rank != 1])
    summary, met = summarized(s3, planned)

    assert (summary.num_records, [one.rank for one in summary.lost_ranks]) == (3, [1])
    assert (met.summary.status, met.summary.num_met, met.summary.reduced) == ("failed", 0, {})
    assert met.summary.why
    assert "rank 1" in met.summary.why
    assert [one.report.status for one in met.ranks] == ["failed"] * 3


def test_a_rank_after_the_deadline_waits_for_no_one(s3: Any) -> None:
    planned = plan("too-late", world_size=2, tolerated_failure_percentage=50)
    late = tasks_of(s3, planned)[1]
    assert late.comm is not None
    late = structs.replace(late, comm=structs.replace(late.comm, meet_by_s=time.time() - 5))

    began_s = time.monotonic()
    infer_one(late, attempt=1)

    record = contract.decode(get(s3, late.record_key), contract.RankRecord)
    assert time.monotonic() - began_s < planning.MEETING_S
    assert record.comm is not None
    assert record.comm.status == "failed"
    assert record.comm.why is not None
    assert "after the others had stopped to wait" in record.comm.why


def test_a_rank_gives_up_before_its_function_is_stopped(s3: Any) -> None:
    planned = plan("short", world_size=2, tolerated_failure_percentage=50)

    began_s = time.monotonic()
    infer_one(tasks_of(s3, planned)[0], left_s=infer.RESERVE_S + 0.5)

    assert time.monotonic() - began_s < infer.RESERVE_S


def test_without_its_server_a_run_talks_through_the_bucket(s3: Any) -> None:
    with running() as server:
        planned = plan("bucket", world_size=4, rendezvous_endpoint=f"127.0.0.1:{server.address[1]}")

    infer_at_once(tasks_of(s3, planned))
    summary, met = summarized(s3, planned)

    assert summary.complete
    assert (met.summary.status, met.summary.paths) == ("ok", {"store": 3})
    assert all(value.is_equal for value in met.summary.reduced.values())


def test_a_report_that_cannot_be_written_loses_nothing(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan("unwritten", world_size=1)
    (task,) = tasks_of(s3, planned)
    write, num_writes = ObjectStore.write, 0

    def fails_at_third(self: ObjectStore, key: str, content: bytes) -> str:
        nonlocal num_writes
        num_writes += 1
        if num_writes == 3:
            raise StorageUnavailableError("S3 answered 503")
        return write(self, key, content)

    monkeypatch.setattr(ObjectStore, "write", fails_at_third)
    infer_one(task)
    summary, met = summarized(s3, planned)

    assert summary.complete
    assert (met.summary.status, met.summary.why) == ("failed", "Ranks without a report of their meeting: 0.")


def test_published_payloads_mean_it(s3: Any, address: tuple[str, int]) -> None:
    planned = plan("published", fmi_enabled="true", rendezvous_endpoint=f"localhost:{address[1]}", world_size="2")

    assert not any("fmi" in note or "rendezvous" in note for note in planned["notes"])
    assert all(task.comm and task.comm.endpoint == f"localhost:{address[1]}" for task in tasks_of(s3, planned))


def test_without_fmi_nothing_is_asked_and_nothing_written(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDEZVOUS_ENDPOINT", "nowhere.invalid:1")
    planned = plan("silent", fmi_enabled=False, world_size=1)
    infer_at_once(tasks_of(s3, planned))

    summary = contract.decode(get(s3, summarize.handler(planned, None)["summary_key"]), RunSummary)

    assert summary.comm is None
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{planned['run_prefix']}{contract.FMI_KEY}")


# ------------------------------------------------------------------------------------- before anything is spent


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_one_error_before_the_run(s3: Any, host: str) -> None:
    with nowhere() as (_, port), pytest.raises(RendezvousError, match=f"{host}:{port} does not answer"):
        plan("nowhere", rendezvous_endpoint=f"{host}:{port}")

    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="runs/nowhere/")


def test_a_deployment_without_a_server_says_how_to_get_one(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RENDEZVOUS_ENDPOINT")

    with pytest.raises(RendezvousError, match="rendezvous = true"):
        plan("none")


def test_more_ranks_than_can_be_alive_are_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFER_MAX_CONCURRENCY", "7")

    with pytest.raises(PlanError, match="needs all 8 ranks alive at the same time, and at most 7 can be"):
        plan("crowd", world_size=8)


def test_a_run_gets_in_with_the_key_of_the_secret_and_with_no_other(
    s3: Any, aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = boto3.client("secretsmanager", **aws.credentials)
    arn = secrets.create_secret(Name="rendezvous", SecretString=KEY)["ARN"]
    monkeypatch.setenv("RENDEZVOUS_SECRET_ARN", arn)
    with running(key=KEY.encode()) as server:
        endpoint = f"127.0.0.1:{server.address[1]}"
        planned = plan("signed", world_size=3, rendezvous_endpoint=endpoint)
        infer_at_once(tasks_of(s3, planned))
        assert summarized(s3, planned)[1].summary.status == "ok"

        secrets.put_secret_value(SecretId=arn, SecretString="x" * 40)
        with pytest.raises(RendezvousError, match="TOKEN_INVALID"):
            plan("forged", rendezvous_endpoint=endpoint)

    monkeypatch.setenv("RENDEZVOUS_SECRET_ARN", f"{arn}-not")
    with pytest.raises(AccessDeniedError, match="cannot be read"):
        plan("unread")
