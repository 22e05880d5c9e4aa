"""What Initialize asks of a bucket, and what it makes of the answers."""

import json
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from handlers import initialize, settings
from handlers.storage import Folder, ObjectExistsError, ObjectInfo
from inference import contract
from inference.contract import DatasetCard, RankTask, ShardEntry
from inference.errors import (
    InvalidRequestError,
    ModelError,
    ObjectMissingError,
    ResultPathTakenError,
    ShardFormatError,
    StorageUnavailableError,
)
from tests.factories import STAGE_VARIABLES, make_arrays, make_shard_bytes

PREFIX = "datasets/tiny/10MB/"
MANIFEST = "runs/run-a/manifest.json"
SHARD = make_shard_bytes(5)


class Bucket:
    """Objects in memory, and what was asked for."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[object, ...]] = []

    def list_folder(self, prefix: str) -> Folder:
        self.asked.append(("list", prefix))
        found = {key: content for key, content in self.objects.items() if key.startswith(prefix)}
        return Folder([ObjectInfo(key, len(content), f'"{key}"') for key, content in found.items()], [])

    def read(self, key: str) -> bytes:
        self.asked.append(("read", key))
        if key not in self.objects:
            raise ObjectMissingError(key)
        return self.objects[key]

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> memoryview:
        self.asked.append(("read", key, start, stop, etag))
        if stop <= start:
            raise InvalidRequestError("S3 has no empty ranges.")
        return memoryview(self.objects[key][start:stop])

    def write_new(self, key: str, content: bytes) -> None:
        if key in self.objects:
            raise ObjectExistsError(key)
        self.write(key, content)

    def write(self, key: str, content: bytes) -> None:
        self.asked.append(("write", key, content))
        self.objects[key] = content

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


# -------------------------------------------------------------------------------------------------- the dataset


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


# ---------------------------------------------------------------------------------------------- the manifest


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


# ---------------------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize(("asked", "deployed", "planned"), [(None, None, 10_000), (None, "7", 7), (3, "7", 3)])
def test_as_many_ranks_at_the_same_time_as_asked_for_deployed_or_possible(
    asked: int | None, deployed: str | None, planned: int, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, SHARD)
    if deployed:
        monkeypatch.setenv("INFER_MAX_CONCURRENCY", deployed)

    assert plan(max_concurrency=asked)["max_concurrency"] == planned


def test_the_plan_is_stored_as_it_is_returned(bucket: Bucket) -> None:
    fill(bucket, SHARD)

    planned = plan()

    assert json.loads(bucket.objects["runs/run-a/plan.json"]) == json.loads(json.dumps(planned))
    assert planned["started_at_s"] <= planned["planned_at_s"]
    assert planned["manifest_key"] == planned["items_key"] == MANIFEST
