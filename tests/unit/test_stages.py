"""What the stages ask of a bucket, and what they make of the answers: a bucket in memory, no S3."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from handlers import infer, initialize, invocation, model, settings, summarize, talking
from handlers.storage import Folder, ObjectExistsError, ObjectInfo
from inference import comm, contract
from inference.contract import CommReport, CommTask, DatasetCard, RankRecord, RankTask, RunSummary, ShardEntry
from inference.errors import (
    IncompleteRunError,
    InvalidRequestError,
    ManifestError,
    ModelError,
    ObjectMissingError,
    PlanError,
    ResultPathTakenError,
    ShardFormatError,
    StorageUnavailableError,
)
from inference.plan import Limits
from tests.factories import STAGE_VARIABLES, FakeEngine, make_arrays, make_shard_bytes, write_model
from tests.rendezvous import running

PREFIX = "datasets/tiny/10MB/"
MANIFEST = "runs/run-a/manifest.json"
SHARD = make_shard_bytes(5)


class Bucket:
    """Objects in memory, and what was asked for."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[object, ...]] = []
        self.request_times_s: list[float] = []

    def list_folder(self, prefix: str) -> Folder:
        self.asked.append(("list", prefix))
        found = {key: content for key, content in self.objects.items() if key.startswith(prefix)}
        return Folder([ObjectInfo(key, len(content), f'"{key}"') for key, content in found.items()], [])

    def read(self, key: str) -> bytes:
        self.asked.append(("read", key))
        if key not in self.objects:
            raise ObjectMissingError(key)
        return self.objects[key]

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.read(key) for key in keys}

    def read_at_most(self, keys: Mapping[str, int]) -> dict[str, bytes | None]:
        self.asked += [("read at most", key) for key in keys]
        return {key: self.objects.get(key, b"")[: limit + 1] or None for key, limit in keys.items()}

    def start_counting(self) -> None:
        self.request_times_s: list[float] = []

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> memoryview:
        self.asked.append(("read", key, start, stop, etag))
        self.request_times_s.append(0.25)
        if stop <= start:
            raise InvalidRequestError("S3 has no empty ranges.")
        return memoryview(self.objects[key][start:stop])

    def write_new(self, key: str, content: bytes) -> None:
        if key in self.objects:
            raise ObjectExistsError(key)
        self.write(key, content)

    def write(self, key: str, content: bytes) -> str:
        self.asked.append(("write", key, content))
        self.objects[key] = content
        return f'"{key}"'

    def write_parts(self, key: str, parts: Iterable[bytes], *, size_bytes: int) -> None:
        self.objects[key] = b"".join(parts)
        self.asked.append(("write in parts", key, size_bytes))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return the bucket of the request; a bucket of data that it names is another one."""
    for name, value in STAGE_VARIABLES.items():
        monkeypatch.setenv(name, value)
    open_bucket = cache(Bucket)
    monkeypatch.setattr(settings, "object_store", open_bucket)
    return open_bucket("results")


def plan(name: str = "run-a", **request: Any) -> dict[str, Any]:
    body = {"bucket": "results", "data_prefix": PREFIX, **request}
    return initialize.handler({"execution_name": name, "request": body}, None)


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    """Return the facts of the lines with a message, but for those of every line."""
    common = vars(logging.makeLogRecord({})).keys() | {"message", "taskName", "_aws"}
    lines = [vars(one) for one in caplog.records if one.getMessage() == message]
    return [{name: value for name, value in line.items() if name not in common} for line in lines]


def fill(bucket: Bucket, *shards: bytes, **changes: Any) -> None:
    """Put shards into a bucket, with the card that `make dataset` writes."""
    entries = []
    for number, content in enumerate(shards):
        bucket.objects[f"{PREFIX}{number}.safetensors"] = content
        entry = {"sha256": f"{number}" * 64, "crc32": bytes([number] * 4)}
        entries.append(ShardEntry(name=f"{number}.safetensors", num_rows=5, size_bytes=len(content), **entry))
    fields = {"num_rows": 5 * len(shards), "shards": tuple(entries), "arrays": {}, **changes}
    card = DatasetCard(name="tiny", partition="10MB", seed=0, provenance="", **fields)
    bucket.objects[f"{PREFIX}dataset.json"] = contract.encode(card)


def tasks_in(bucket: Bucket) -> list[RankTask]:
    return contract.decode(bucket.objects[MANIFEST], list[RankTask])


# ------------------------------------------------------------------------------------- Initialize: the dataset


def test_of_a_dataset_with_a_card_only_that_and_one_header_are_read_and_numpy_is_not_loaded(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inference.block", None)
    shards = [make_shard_bytes(5, **make_arrays(5, seed=seed)) for seed in range(3)]
    fill(bucket, *shards)

    planned = plan(world_size=3)

    first = f"{PREFIX}0.safetensors"
    assert sorted(bucket.asked[1:3]) == [
        ("read", first, 0, 2**14, f'"{first}"'),
        ("read", f"{PREFIX}dataset.json"),
    ]
    assert [what for what, *_ in bucket.asked] == ["list", "read", "read", "write", "write"]
    assert (planned["num_samples"], planned["request"]["world_size"]) == (15, 3)
    found = [(rows.key, rows.sha256, rows.size_bytes, task.bands) for task in tasks_in(bucket) for rows in task.rows]
    assert found == [
        (f"{PREFIX}{number}.safetensors", f"{number}" * 64, len(shards[number]), None) for number in range(3)
    ]


def test_shards_without_a_card_are_counted_as_they_were_listed_and_have_no_checksums(bucket: Bucket) -> None:
    bucket.objects = {f"{PREFIX}{number}.safetensors": SHARD for number in range(2)}

    planned = plan(allow_copies=True)

    assert planned["num_samples"] == 10
    reads = [(one[1], one[4]) for one in bucket.asked if len(one) == 5]
    assert set(reads) == {(f"{PREFIX}{number}.safetensors", f'"{PREFIX}{number}.safetensors"') for number in range(2)}
    assert [rows.sha256 for task in tasks_in(bucket) for rows in task.rows] == [None, None]
    assert "checksum" in " ".join(planned["notes"])


def test_the_data_may_be_in_another_bucket_than_the_results(bucket: Bucket) -> None:
    fill(settings.object_store("data"), SHARD)

    assert plan(data_bucket="data")["num_samples"] == 5
    assert list(bucket.objects) == [MANIFEST, "runs/run-a/plan.json"]


def test_files_beside_the_shards_are_none_of_the_card(bucket: Bucket) -> None:
    fill(bucket, SHARD)
    bucket.objects[f"{PREFIX}readme.txt"] = b"hello"

    assert plan()["num_samples"] == 5


def test_a_shard_without_a_byte_is_refused_by_name(bucket: Bucket) -> None:
    fill(bucket, b"", SHARD)

    with pytest.raises(ShardFormatError, match=r"0\.safetensors"):
        plan()


def test_a_card_that_cannot_be_read_is_named(bucket: Bucket) -> None:
    fill(bucket, SHARD)
    bucket.objects[f"{PREFIX}dataset.json"] = b"{}"

    with pytest.raises(InvalidRequestError, match=f"{PREFIX}dataset.json"):
        plan()


def test_a_dataset_in_other_bands_than_the_models_is_refused_and_one_in_more_is_read_by_name(bucket: Bucket) -> None:
    fill(bucket, make_shard_bytes(5), bands=tuple("griz"))
    with pytest.raises(ModelError, match="u is missing"):
        plan()

    fill(bucket, SHARD, bands=tuple("zirgu"))
    plan()
    assert {task.bands for task in tasks_in(bucket)} == {tuple("zirgu")}


def test_data_unlike_what_the_model_was_trained_on_are_noted(bucket: Bucket) -> None:
    fill(bucket, SHARD, dereddened=False)

    assert "corrected for Galactic extinction" in " ".join(plan()["notes"])


def test_a_bucket_that_is_empty_and_yet_answers_is_no_bucket(bucket: Bucket) -> None:
    bucket.read = lambda key: b"<html>Log in"  # type: ignore[method-assign]

    with pytest.raises(StorageUnavailableError, match=f"s3://results/{PREFIX} is empty, and yet .*dataset.json is"):
        plan()


# ------------------------------------------------------------------------------------ Initialize: the manifest


def test_a_small_manifest_is_written_at_once_and_again_by_a_retry(bucket: Bucket) -> None:
    fill(bucket, SHARD)
    for _ in range(2):
        plan(world_size=2)

    writes = [one for one in bucket.asked if one[:2] == ("write", MANIFEST)]
    assert len(writes) == 2
    assert {task.rank for task in tasks_in(bucket)} == {0, 1}


@pytest.mark.parametrize("spare_bytes", [0, 1, 1000])
def test_of_a_large_manifest_the_first_rank_claims_the_path_and_all_follow_in_parts(
    spare_bytes: int, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, SHARD)
    plan(world_size=4)
    whole = bucket.objects.pop(MANIFEST)
    first, *_ = tasks_in_text = json.loads(whole)
    size_bytes = len(tasks_in_text) * len(contract.encode(contract.decode(first, RankTask)))
    monkeypatch.setattr(initialize, "LARGE_BYTES", size_bytes - spare_bytes)
    bucket.asked.clear()

    plan(world_size=4)

    claim, parts = [one for one in bucket.asked if one[1] == MANIFEST]
    assert [task.rank for task in contract.decode(claim[2], list[RankTask])] == [0]
    assert parts == ("write in parts", MANIFEST, size_bytes)
    assert bucket.objects[MANIFEST] == whole


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        (b'[\n{"run_id": "run-b", "rank": 0},\n{"run_id', "run run-b"),
        (b'{"run_id": "run-b"}', "run run-b"),
        (b'[{"rank": 0}]', "another run"),
        (b"[1, 2]", "another run"),
        (b"not ours", "another run"),
        (b"\xff\xfe", "another run"),
    ],
)
def test_a_path_with_the_manifest_of_another_run_is_taken(content: bytes, owner: str, bucket: Bucket) -> None:
    fill(bucket, SHARD)
    bucket.objects[MANIFEST] = content

    with pytest.raises(ResultPathTakenError, match=f"{MANIFEST} belongs to {owner}, whose results"):
        plan()
    assert bucket.objects[MANIFEST] == content


# ---------------------------------------------------------------------------------------- Initialize: the plan


@pytest.mark.parametrize(("asked", "deployed", "planned"), [(None, None, 10_000), (None, "7", 7), (3, "7", 3)])
def test_as_many_ranks_at_the_same_time_as_asked_for_deployed_or_possible(
    asked: int | None, deployed: str | None, planned: int, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, SHARD)
    if deployed:
        monkeypatch.setenv("INFER_MAX_CONCURRENCY", deployed)

    assert plan(max_concurrency=asked)["max_concurrency"] == planned


@pytest.mark.usefixtures("bucket")
def test_what_a_rank_may_use_is_what_was_deployed_or_the_version_with_that_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployed = Limits(memory_mb=1769, timeout_s=900, qualifier="$LATEST")
    assert settings.infer_limits(None) == deployed

    monkeypatch.setenv("INFER_STARTS_PER_S", "2.5")
    monkeypatch.setenv("INFER_MAX_CONCURRENCY", "7")
    larger = msgspec.structs.replace(deployed, memory_mb=3008, qualifier="memory-3008", starts_per_s=2.5)
    assert settings.infer_limits(3008) == msgspec.structs.replace(larger, max_concurrency=7)
    assert settings.infer_limits(3008, 3) == msgspec.structs.replace(larger, max_concurrency=3)

    monkeypatch.setenv("INFER_TIMEOUT_S", "")
    with pytest.raises(settings.SettingMissingError, match="no environment variable INFER_TIMEOUT_S; deploy it again"):
        settings.infer_limits(None)


def test_a_rank_is_planned_for_what_the_deployed_model_needs(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, SHARD)
    monkeypatch.setenv("MODEL_FOLDER", str(write_model(tmp_path / "large", process_memory_mb=3000).folder))

    with pytest.raises(PlanError, match="memory"):
        plan()


@pytest.mark.parametrize("asked", [None, "there:1"])
def test_ranks_wait_for_each_other_as_long_as_the_deployed_model_takes(
    asked: str | None, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, SHARD)
    waits_s = []

    def with_comm(tasks: Any, endpoint: str | None, meet_by_s: float) -> Any:
        assert endpoint == asked
        waits_s.append(meet_by_s - time.time())
        return tasks

    monkeypatch.setattr(talking, "with_comm", with_comm)
    for rows_per_s in (100.0, 0.1):
        folder = write_model(tmp_path / f"{rows_per_s:g}", rows_per_s=rows_per_s).folder
        monkeypatch.setenv("MODEL_FOLDER", str(folder))
        plan(fmi_enabled=True, rendezvous_endpoint=asked)

    assert 0 < waits_s[0] < waits_s[1] - 40


def test_the_plan_is_stored_as_it_is_returned(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    fill(bucket, SHARD)

    with caplog.at_level("INFO", logger="handlers"):
        planned = plan(world_size=2)

    assert json.loads(bucket.objects["runs/run-a/plan.json"]) == json.loads(json.dumps(planned))
    assert planned["started_at_s"] <= planned["planned_at_s"]
    assert planned["manifest_key"] == planned["items_key"] == MANIFEST
    assert said(caplog, "run planned") == [{"run_id": "run-a", "function_name": "photo-z", "ranks_planned": 2}]


# ------------------------------------------------------------------------------- Initialize: going on with a run


def resume(bucket: Bucket, name: str = "again", *, tasks: list[RankTask], **asked: Any) -> dict[str, Any]:
    pending = "runs/run-a/pending/1.json"
    bucket.objects[pending] = contract.encode(tasks)
    request = {"bucket": "results", "pending_key": pending, **asked}
    return initialize.handler({"execution_name": name, "request": request}, None)


@pytest.mark.parametrize(("asked", "first", "resumed"), [(None, None, 10_000), (None, 3, 3), (2, 3, 2)])
def test_a_run_goes_on_with_the_ranks_it_lacks_and_its_plan_says_so(
    asked: int | None, first: int | None, resumed: int, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    fill(bucket, SHARD)
    before = plan(world_size=3, max_concurrency=first)
    left = tasks_in(bucket)[1:]

    resume(bucket, "first", tasks=left)
    with caplog.at_level("INFO", logger="handlers"):
        after = [resume(bucket, "second", tasks=left[1:], max_concurrency=asked) for _ in range(2)][-1]

    assert (after["run_id"], after["items_key"]) == ("run-a", "runs/run-a/pending/1.json")
    assert after["max_concurrency"] == resumed
    assert [tuple(one.values()) for one in after["resumptions"]] == [("first", 2), ("second", 1)]
    assert before["planned_at_s"] < after["started_at_s"] <= after["planned_at_s"]
    assert json.loads(bucket.objects["runs/run-a/plan.json"]) == json.loads(json.dumps(after))
    assert said(caplog, "run resumed") == [{"run_id": "run-a", "num_ranks": 1}] * 2


def test_a_plan_that_was_copied_from_another_run_is_not_gone_on_with(bucket: Bucket) -> None:
    fill(bucket, SHARD)
    plan("run-b")
    bucket.objects["runs/run-a/plan.json"] = bucket.objects["runs/run-b/plan.json"]

    with pytest.raises(ManifestError, match="is the plan of s3://results/runs/run-b/: it was changed, or copied"):
        resume(bucket, tasks=[])


@pytest.mark.parametrize(("broken", "named"), [("plan.json", "run-a/plan.json"), ("pending", "The request")])
def test_a_resumption_that_cannot_be_read_is_named(broken: str, named: str, bucket: Bucket) -> None:
    fill(bucket, SHARD)
    plan()
    bucket.objects["runs/run-a/plan.json"] = b"{}"

    with pytest.raises(InvalidRequestError, match=named):
        resume(bucket, tasks=[], **({"world_size": 3} if broken == "pending" else {}))


# ------------------------------------------------------------------------------------------------------- Infer


def infer_one(task: RankTask, attempt: int = 0) -> dict[str, Any]:
    event = {"task": json.loads(contract.encode(task)), "attempt": attempt, "entered_at": "2026-01-01T00:00:00Z"}
    return infer.handler(event, SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 900_000))


@pytest.fixture
def two_ranks(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> list[RankTask]:
    """Plan two ranks, and have them predict with a stand-in in a process that has just started."""
    monkeypatch.setattr(model, "engine", lambda *_name, **_mode: FakeEngine())
    monkeypatch.setattr(invocation, "_num_invocations", 0)
    bucket.objects[f"{PREFIX}0.safetensors"] = make_shard_bytes(6)
    plan(world_size=2)
    return tasks_in(bucket)


def test_a_rank_writes_its_predictions_then_its_record_and_returns_where(
    bucket: Bucket, two_ranks: list[RankTask]
) -> None:
    bucket.asked.clear()

    returned = infer_one(two_ranks[1])

    assert returned == {"rank": 1, "record_key": "runs/run-a/ranks/00001.json"}
    written = [key for what, key, *_ in bucket.asked if what == "write"]
    assert written == ["runs/run-a/predictions/00001.npz", "runs/run-a/ranks/00001.json"]


def test_of_the_ranks_of_a_process_the_first_is_cold_and_each_counts_its_own_requests(
    bucket: Bucket, two_ranks: list[RankTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.invocation.init_s", lambda: 0.25)
    task, records = two_ranks[0], []
    for attempt in (0, 1):
        infer_one(task, attempt)
        records.append(contract.decode(bucket.objects[task.record_key], RankRecord))

    first, second = records
    assert [one.cold_start for one in (first, second)] == [True, False]
    assert [one.attempt for one in (first, second)] == [0, 1]
    assert [one.clock.init for one in (first, second)] == [0.25, 0.0]
    assert first.clock.queue > 0
    assert first.s3_num_requests == second.s3_num_requests > 0
    assert (first.image_digest, first.code_version, first.request_id) == ("local", "test", "request")
    assert first.function_memory_mb == 1769


def test_a_rank_says_which_it_is_at_its_start_and_what_it_did_at_its_end(
    bucket: Bucket, two_ranks: list[RankTask], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="handlers"):
        infer_one(two_ranks[1], 2)

    record = contract.decode(bucket.objects[two_ranks[1].record_key], RankRecord)
    assert said(caplog, "rank started") == [{"run_id": "run-a", "rank": 1, "attempt": 2}]
    (facts,) = said(caplog, "rank inferred")
    assert 0 <= facts.pop("record_write_s") < record.clock.total + 10
    assert facts == {
        "run_id": "run-a",
        "rank": 1,
        "function_name": "photo-z",
        "rows": 3,
        "rows_per_s": record.sample_persec,
        "inference_s": record.clock.inference,
        "download_s": record.clock.download,
        "peak_memory_bytes": record.peak_memory_bytes,
        "cold_starts": 1,
    }


def test_a_function_that_is_asked_looks_for_a_rendezvous_server_and_infers_nothing() -> None:
    with running() as server:
        host, port = server.address
        said = infer.handler({"check": "rendezvous", "host": host, "port": port}, None)

    assert (said["status"], said["server"]) == ("OK", (host, port))


@pytest.mark.parametrize("is_written", [True, False])
def test_a_rank_that_met_the_others_adds_its_report_to_the_record_if_it_can(
    is_written: bool,
    bucket: Bucket,
    two_ranks: list[RankTask],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = CommReport(
        status="failed", why="no one came", arrived_at_s=1.0, meeting_s=0.5, barrier_s=0.25, total_s=1.0
    )
    until_s = []

    def talk(task: RankTask, record: RankRecord, store: object, *, latest_s: float) -> CommReport:
        until_s.append(latest_s)
        if not is_written:
            monkeypatch.setattr(bucket, "write", refuse)
        return report

    def refuse(key: str, content: bytes) -> str:
        raise StorageUnavailableError("S3 answered 503")

    monkeypatch.setattr(comm, "talk", talk)
    meeting = CommTask(endpoint="127.0.0.1:1", token="run-a.1.key", meet_by_s=2.0)
    began_s = time.time()
    with caplog.at_level("INFO", logger="handlers"):
        infer_one(msgspec.structs.replace(two_ranks[1], comm=meeting))

    record = contract.decode(bucket.objects[two_ranks[1].record_key], RankRecord)
    assert record.comm == (report if is_written else None)
    # The function has 900 s left, and keeps some for itself.
    assert began_s + 800 < until_s[0] < time.time() + 900
    facts = {"run_id": "run-a", "rank": 1, "status": "failed", "why": "no one came"}
    assert said(caplog, "ranks met") == [facts | {"meeting_s": 0.5, "barrier_s": 0.25}]
    unwritten = [one for one in caplog.records if one.getMessage() == "report of the meeting not written"]
    assert [vars(one)["rank"] for one in unwritten] == ([] if is_written else [1])


# --------------------------------------------------------------------------------------------------- Summarize


@pytest.fixture
def inferred(bucket: Bucket, two_ranks: list[RankTask]) -> dict[str, Any]:
    """Have both ranks done; return the plan."""
    for task in two_ranks:
        infer_one(task)
    bucket.asked.clear()
    return json.loads(bucket.objects["runs/run-a/plan.json"])


def test_a_run_is_summarized_and_it_is_said_of_how_many_ranks(
    bucket: Bucket, inferred: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="handlers"):
        result = summarize.handler(inferred, None)

    assert result == {
        "run_id": "run-a",
        "complete": True,
        "summary_key": "runs/run-a/summary.json",
        "combined_key": "runs/run-a/combined_data.json",
    }
    facts = {"run_id": "run-a", "num_records": 2, "function_name": "photo-z", "ranks_lost": 0}
    assert said(caplog, "run summarized") == [facts]
    assert not [one for one in bucket.asked if one[0] == "read at most"]
    summary = contract.decode(bucket.objects["runs/run-a/summary.json"], RunSummary)
    assert summary.num_samples == 6


def test_a_record_that_the_listing_lacks_is_asked_for_by_its_name(
    bucket: Bucket, inferred: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_folder = bucket.list_folder

    def list_late(prefix: str) -> Folder:
        found = list_folder(prefix)
        return Folder([info for info in found.objects if not info.key.endswith("ranks/00001.json")], [])

    monkeypatch.setattr(bucket, "list_folder", list_late)
    with caplog.at_level("INFO", logger="handlers"):
        assert summarize.handler(inferred, None)["complete"]

    assert [key for what, key, *_ in bucket.asked if what == "read at most"] == ["runs/run-a/ranks/00001.json"]
    assert said(caplog, "asked for by name") == [{"num_objects": 1}]


@pytest.mark.parametrize(("spare_bytes", "error"), [(0, "TimeoutError"), (1, "MissingRecord")])
def test_a_note_as_large_as_a_state_can_make_it_is_read_and_no_larger_one(
    spare_bytes: int, error: str, bucket: Bucket, inferred: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    del bucket.objects["runs/run-a/ranks/00001.json"]
    note = {"run_id": "run-a", "rank": 1, "error": "TimeoutError", "cause": "It took too long."}
    key = "runs/run-a/failures/00001.json"
    bucket.objects[key] = json.dumps(note).encode().ljust(2**19 + spare_bytes)

    with caplog.at_level("INFO", logger="handlers"), pytest.raises(IncompleteRunError):
        summarize.handler(inferred, None)

    summary = contract.decode(bucket.objects["runs/run-a/summary.json"], RunSummary)
    assert [(one.rank, one.error) for one in summary.lost_ranks] == [(1, error)]
    # It is known to have failed: no record of it is looked for.
    assert not [one for one in bucket.asked if one[0] == "read at most"]
    assert said(caplog, "object larger than it can be") == [{"key": key, "size_bytes": 2**19 + 1}] * spare_bytes
    assert any(key in note for note in summary.notes) == bool(spare_bytes)


def test_objects_of_no_rank_are_named(bucket: Bucket, inferred: dict[str, Any]) -> None:
    bucket.objects["runs/run-a/ranks/00009.json"] = b"{}"

    assert summarize.handler(inferred, None)["complete"]
    summary = contract.decode(bucket.objects["runs/run-a/summary.json"], RunSummary)
    assert any("ranks/00009.json" in note for note in summary.notes)


@pytest.mark.parametrize("is_changed", [False, True])
def test_predictions_with_another_entity_tag_are_proved_by_their_content(
    is_changed: bool, bucket: Bucket, inferred: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "runs/run-a/predictions/00001.npz"
    list_folder = bucket.list_folder

    def list_with_other_tags(prefix: str) -> Folder:
        found = list_folder(prefix)
        return Folder([info._replace(etag="other") if info.key == key else info for info in found.objects], [])

    monkeypatch.setattr(bucket, "list_folder", list_with_other_tags)
    if is_changed:
        content = bytearray(bucket.objects[key])
        content[-100] ^= 1
        bucket.objects[key] = bytes(content)
        with pytest.raises(IncompleteRunError):
            summarize.handler(inferred, None)
    else:
        assert summarize.handler(inferred, None)["complete"]

    assert [asked for what, asked, *_ in bucket.asked if what == "read at most"] == [key]
    summary = contract.decode(bucket.objects["runs/run-a/summary.json"], RunSummary)
    assert [one.rank for one in summary.lost_ranks] == [1] * is_changed
