"""The three handlers over S3, one after the other as the state machine calls them. Faults: see tests/faults."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import boto3
import numpy as np
import pytest

from handlers import infer, initialize, model, settings, storage, summarize
from handlers.storage import ObjectStore
from inference import contract, load_model
from inference.checksum import file_crc32, file_sha256
from inference.contract import DatasetCard, RankRecord, RankTask, RunSummary, ShardEntry
from inference.errors import (
    DatasetError,
    DatasetNotFoundError,
    EngineError,
    IncompleteRunError,
    InvalidRequestError,
    ManifestError,
    ModelError,
    PlanError,
    ResultPathTakenError,
    RunError,
)
from inference.pipeline import Predictions
from inference.quality import Quality
from scripts.local_aws.admission import KEY_HEADER
from scripts.simulation.cutouts import real_rows
from scripts.simulation.sdss import load_sources
from tests.factories import STAGE_VARIABLES, FakeEngine, make_arrays, make_calibration, make_shard_bytes
from tests.forked import LocalAws

BUCKET = "tests"
PREFIX = "datasets/tiny/10MB/"
LOAD_ENGINE = model.engine
"""The real one: the other tests predict with a stand-in."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("aws"), workers=1) as aws:
        yield aws


@pytest.fixture(scope="module")
def client(aws: LocalAws) -> Iterator[Any]:
    """Make the client once: it takes longer than most of the tests."""
    with contextlib.closing(boto3.client("s3", **aws.credentials)) as client:
        yield client


@pytest.fixture
def s3(aws: LocalAws, client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {**aws.environment, **STAGE_VARIABLES}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(model, "engine", lambda *_name, **_mode: FakeEngine())
    client.create_bucket(Bucket=BUCKET)
    yield client
    settings.object_store.cache_clear()
    urlopen(Request(f"{aws.endpoint_url}/moto-api/reset", headers={KEY_HEADER: aws.key}, method="POST")).close()


def upload(s3: Any, *, num_shards: int = 3, num_rows: int = 5, prefix: str = PREFIX) -> None:
    for number in range(num_shards):
        put(s3, f"{prefix}{number}.safetensors", make_shard_bytes(num_rows, **make_arrays(num_rows, seed=number)))


def put(s3: Any, key: str, content: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=content)


def get(s3: Any, key: str) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def keys(s3: Any, prefix: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def plan(name: str = "run-a", **request: Any) -> dict[str, Any]:
    body = {"bucket": BUCKET, "data_prefix": PREFIX, **request}
    return initialize.handler({"execution_name": name, "request": body}, None)


def infer_all(s3: Any, planned: dict[str, Any]) -> None:
    """Do what the Map does: one Infer per task, and a note where one fails."""
    for task in contract.decode(get(s3, planned["manifest_key"]), list[RankTask]):
        try:
            infer.handler(
                {"task": json.loads(contract.encode(task)), "attempt": 0}, SimpleNamespace(aws_request_id="request")
            )
        except RunError as error:
            note = {"run_id": task.run_id, "rank": task.rank, "error": type(error).__name__, "cause": str(error)}
            put(s3, task.failure_key, json.dumps(note).encode())


def run(s3: Any, name: str = "run-a", **request: Any) -> tuple[RunSummary, list[RankRecord]]:
    planned = plan(name, **request)
    infer_all(s3, planned)
    result = summarize.handler(planned, None)
    return (
        contract.decode(get(s3, result["summary_key"]), RunSummary),
        contract.decode(get(s3, result["combined_key"]), list[RankRecord]),
    )


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 15])
def test_any_world_size_predicts_every_galaxy_once_and_the_same(s3: Any, world_size: int) -> None:
    upload(s3)

    summary, records = run(s3, world_size=world_size)

    parts = [Predictions.from_npz(get(s3, record.predictions_key)) for record in records]
    arrays = [make_arrays(5, seed=number) for number in range(3)]
    assert summary.complete
    assert [record.rank for record in records] == list(range(world_size))
    np.testing.assert_array_equal(
        np.concatenate([part.object_id for part in parts]), np.concatenate([part["object_id"] for part in arrays])
    )
    np.testing.assert_array_equal(
        np.concatenate([part.z_phot for part in parts]),
        FakeEngine().predict(np.empty(15), np.concatenate([part["magnitudes"] for part in arrays])),
    )


def test_the_library_predicts_what_a_run_does_bit_for_bit(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = real_rows(load_sources().of("held_out"), slice(0, 75), 0)
    arrays = {name: getattr(sample, name).copy() for name in ("images", "magnitudes", "redshifts", "object_id")}
    arrays["magnitudes"][1, 0] = arrays["magnitudes"][2, 2] = arrays["images"][3, 1, 5, 5] = np.nan
    arrays["images"][4, 2, 15, 15] = np.inf
    arrays["magnitudes"][5] += 4
    put(s3, f"{PREFIX}0.safetensors", make_shard_bytes(75, **arrays))
    monkeypatch.setattr(model, "engine", LOAD_ENGINE)

    _, (record,) = run(s3)
    result = load_model().predict(arrays["images"].astype(np.float64), arrays["magnitudes"])

    expected = Predictions.from_npz(get(s3, record.predictions_key))
    assert record.engine.startswith(("native", "onnxruntime"))
    np.testing.assert_array_equal(result.redshift, expected.z_phot)
    np.testing.assert_array_equal(result.sigma, expected.sigma)
    np.testing.assert_array_equal(result.flags, expected.quality)
    seen = Quality(int(np.bitwise_or.reduce(result.flags)))
    expected_flags = Quality.IMPUTED_BAND | Quality.FILLED_PIXELS | Quality.REFUSED | Quality.OUT_OF_DOMAIN
    assert seen & expected_flags == expected_flags


def test_the_world_size_is_the_number_of_shards_unless_given(s3: Any) -> None:
    upload(s3)

    assert run(s3)[0].world_size == 3


def test_another_memory_is_another_version_of_the_same_function_and_plans_for_it(s3: Any) -> None:
    upload(s3)

    planned = {memory_mb: plan(f"run-{memory_mb}", memory_mb=memory_mb) for memory_mb in (None, 3008)}

    tasks = {key: contract.decode(get(s3, one["manifest_key"]), list[RankTask]) for key, one in planned.items()}
    assert {task.qualifier for task in tasks[None]} == {"$LATEST"}
    assert {task.qualifier for task in tasks[3008]} == {"memory-3008"}
    with pytest.raises(PlanError, match="memory"):
        plan("run-small", memory_mb=128)


@pytest.mark.parametrize("request_fields", [{"engine": "torch"}, {"engine": "onnxruntime"}, {"profile": True}])
def test_an_image_without_torch_refuses_what_needs_it_before_a_rank_starts(
    s3: Any, monkeypatch: pytest.MonkeyPatch, request_fields: dict[str, Any]
) -> None:
    upload(s3)
    monkeypatch.setattr(initialize, "find_spec", lambda name: None)

    with pytest.raises(EngineError, match="built with SLIM=1 and holds the native engine alone"):
        plan(**request_fields)
    assert plan(engine="native")["num_samples"] > 0


@pytest.mark.parametrize("memory_mb", ["live", "infer:1", 127, 10_241])
def test_a_request_cannot_name_a_version_of_its_own(s3: Any, memory_mb: object) -> None:
    upload(s3)

    with pytest.raises(InvalidRequestError, match="memory_mb"):
        plan(memory_mb=memory_mb)


def put_card(s3: Any, *entries: tuple[int, int], **changes: Any) -> None:
    """A card that says a number of rows and a size of every shard."""
    shards = tuple(
        ShardEntry(name=f"{number}.safetensors", num_rows=num_rows, size_bytes=size, sha256=f"{number}" * 64)
        for number, (num_rows, size) in enumerate(entries)
    )
    fields = {"num_rows": sum(num_rows for num_rows, _ in entries), "shards": shards, **changes}
    card = DatasetCard(name="tiny", partition="10MB", arrays={}, seed=0, provenance="", **fields)
    put(s3, f"{PREFIX}dataset.json", contract.encode(card))


def test_a_manifest_of_many_ranks_is_claimed_by_the_first_and_written_in_parts(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(s3)
    at_once = get(s3, plan(world_size=4, result_path="runs/a/")["manifest_key"])
    for module in (initialize, storage):
        monkeypatch.setattr(module, "LARGE_BYTES", 100)

    planned = [plan(world_size=4, result_path="runs/b/") for _ in range(2)]

    in_parts = get(s3, planned[1]["manifest_key"])
    assert in_parts.replace(b"runs/b/", b"runs/a/") == at_once
    assert planned[1]["manifest_sha256"] == hashlib.sha256(in_parts).hexdigest()
    with pytest.raises(ResultPathTakenError, match=r"runs/b/manifest\.json belongs to run run-a"):
        plan("run-other", world_size=4, result_path="runs/b/")
    put(s3, "runs/b/manifest.json", b"not ours")
    with pytest.raises(ResultPathTakenError, match="belongs to another run"):
        plan(world_size=4, result_path="runs/b/")


SIZE = len(make_shard_bytes(5))
"""Of a shard with five rows [bytes]."""


def test_the_card_of_a_dataset_spares_a_request_per_shard_and_gives_the_checksum(s3: Any) -> None:
    upload(s3, num_shards=4)
    put_card(s3, *[(5, SIZE)] * 4)
    store = settings.object_store(BUCKET)
    store.start_counting()

    tasks = contract.decode(get(s3, plan()["manifest_key"]), list[RankTask])

    # The listing, the card, one header, the manifest, the plan.
    assert len(store.request_times_s) == 5
    found = [(rows.key.removeprefix(PREFIX), rows.num_rows, rows.sha256) for task in tasks for rows in task.rows]
    assert found == [(f"{number}.safetensors", 5, f"{number}" * 64) for number in range(4)]


def test_shards_whose_size_says_nothing_are_counted(s3: Any) -> None:
    upload(s3, num_shards=2)
    other = make_shard_bytes(5, **make_arrays(5, seed=2), extra=np.zeros(50_000))
    put(s3, f"{PREFIX}2.safetensors", other)
    put_card(s3, (5, SIZE), (5, SIZE), (5, len(other)))

    assert plan()["num_samples"] == 15


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([(5, SIZE)] * 4, "3.safetensors is missing"),
        ([(5, SIZE)] * 2, "2.safetensors is not in dataset.json"),
        ([(5, SIZE), (5, SIZE + 1), (5, SIZE)], f"1.safetensors has {SIZE} bytes, dataset.json says {SIZE + 1}"),
        ([(4, SIZE), (5, SIZE), (5, SIZE)], "0.safetensors holds 5 galaxies, dataset.json says 4"),
        ([(5, SIZE), (5, SIZE), (6, SIZE)], "2.safetensors holds 5 galaxies, dataset.json says 6"),
        ([(4, SIZE)] * 3, "0.safetensors holds 5 galaxies, dataset.json says 4; 1.safe"),
    ],
)
def test_a_card_of_other_shards_than_there_are_is_refused(
    s3: Any, entries: list[tuple[int, int]], problem: str
) -> None:
    upload(s3)
    put_card(s3, *entries)

    with pytest.raises(DatasetError, match=f"{PREFIX} is not the dataset of its dataset.json: {problem}"):
        plan()
    assert not keys(s3, "runs/")


@pytest.mark.parametrize(
    "name", ["1 (1).safetensors", "1 copy.safetensors", "1 - Copy.safetensors", "Copy of 1.safetensors"]
)
def test_a_copy_of_a_shard_is_refused_by_name(s3: Any, name: str) -> None:
    upload(s3)
    put(s3, f"{PREFIX}{name}", get(s3, f"{PREFIX}1.safetensors"))

    with pytest.raises(
        DatasetError, match=r"holds .*1.*\.safetensors, a copy of .*1.*: its galaxies would count twice"
    ):
        plan()
    assert "their galaxies count twice" in " ".join(plan(allow_copies=True)["notes"])


def test_equal_shards_and_hidden_files_are_noted(s3: Any) -> None:
    upload(s3)
    for name in ("7.safetensors", "._1.safetensors"):
        put(s3, f"{PREFIX}{name}", get(s3, f"{PREFIX}1.safetensors"))

    planned = plan()

    assert planned["num_samples"] == 20
    assert list(planned["notes"])[:2] == [
        "._1.safetensors was ignored: a hidden file is no shard.",
        "1 shard has the content of another, as 7.safetensors of 1.safetensors: their galaxies count twice.",
    ]


def test_with_a_file_limit_only_the_first_shards_are_compared(s3: Any) -> None:
    upload(s3, num_shards=2)
    put_card(s3, *[(5, SIZE)] * 12)

    assert plan(file_limit=2)["num_samples"] == 10
    with pytest.raises(DatasetError, match=r"2\.safetensors is missing; 3.*; and 5 more"):
        plan()


def test_a_published_data_size_reads_the_first_galaxies(s3: Any) -> None:
    upload(s3, num_shards=60)

    planned = plan(data_size="small")

    assert planned["num_samples"] == 250
    assert planned["request"]["world_size"] == 50
    assert "`data_size` small was read as `row_limit` 250." in planned["notes"]


def put_proved_card(s3: Any, *, num_shards: int, folder: Path) -> None:
    """The card that `make dataset` would write for what is there."""
    entries = []
    for number in range(num_shards):
        path = folder / f"{number}.safetensors"
        path.write_bytes(get(s3, f"{PREFIX}{path.name}"))
        size = path.stat().st_size
        entries.append(
            ShardEntry(name=path.name, num_rows=40, size_bytes=size, sha256=file_sha256(path), crc32=file_crc32(path))
        )
    card = DatasetCard(
        name="t", partition="1MB", num_rows=40 * num_shards, shards=tuple(entries), arrays={}, seed=0, provenance=""
    )
    put(s3, f"{PREFIX}dataset.json", contract.encode(card))


@pytest.mark.parametrize("world_size", [1, 3, 7])
def test_a_flipped_bit_loses_the_ranks_that_read_it_and_no_other_result_changes(
    s3: Any, world_size: int, tmp_path: Path
) -> None:
    upload(s3, num_shards=3, num_rows=40)
    put_proved_card(s3, num_shards=3, folder=tmp_path)
    summary, _ = run(s3, "run-a", world_size=world_size)
    assert summary.complete
    assert not any("checksums" in note for note in summary.notes)
    content = bytearray(get(s3, f"{PREFIX}1.safetensors"))
    content[-40 * 20_480 // 2] ^= 1
    put(s3, f"{PREFIX}1.safetensors", bytes(content))

    planned = plan("run-b", world_size=world_size)
    infer_all(s3, planned)
    lost, found = lost_by(planned)

    assert {error for _, error in lost} == {"ShardFormatError"}
    assert "1.safetensors is not what it was: its bytes" in found.lost_ranks[0].message
    for rank in set(range(world_size)) - {rank for rank, _ in lost}:
        assert get(s3, f"runs/run-b/predictions/{rank:05d}.npz") == get(s3, f"runs/run-a/predictions/{rank:05d}.npz")


def test_the_record_repeats_the_checksum_of_the_card(s3: Any) -> None:
    upload(s3, num_shards=1, num_rows=7)
    put_card(s3, (7, len(make_shard_bytes(7))))

    _, (record,) = run(s3)

    assert [rows.sha256 for rows in record.inputs] == ["0" * 64]


def test_the_phases_of_a_rank_add_up_to_its_time(s3: Any) -> None:
    upload(s3, num_rows=50)

    _, (record,) = run(s3, world_size=1)

    clock = record.clock
    phases = clock.model_load + clock.download + clock.inference + clock.upload + clock.record
    assert phases == pytest.approx(clock.total, rel=0.02, abs=0.01)
    # Per shard its head and its images, and the predictions.
    assert record.s3_num_requests == 3 * 2 + 1


def test_the_metrics_of_a_run_add_up_to_it(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    upload(s3)

    with caplog.at_level(logging.INFO, logger="handlers"):
        summary, _ = run(s3, world_size=2)

    lines = [vars(record) for record in caplog.records if hasattr(record, "_aws")]
    assert {line["function_name"] for line in lines} == {"photo-z"}
    totals = {name: sum(line.get(name, 0) for line in lines) for name in ("ranks_planned", "rows", "ranks_lost")}
    assert totals == {"ranks_planned": 2, "rows": summary.num_samples, "ranks_lost": 0}


def test_a_published_payload_runs_and_says_what_it_ignored(s3: Any) -> None:
    upload(s3, prefix="10MB/")
    request = {"world_size": "2", "batch_size": "512", "data_prefix": "10MB", "script": "/tmp/inference.py"}

    summary, records = run(s3, **request)

    assert summary.complete
    assert records[0].batch_size == 512
    assert any("`script`" in note for note in summary.notes)


def test_10mb_never_matches_100mb(s3: Any) -> None:
    upload(s3, prefix="10MB/", num_shards=1)
    upload(s3, prefix="100MB/", num_shards=3)

    assert run(s3, data_prefix="10MB")[0].world_size == 1


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"data_prefix": "datasets/none/"}, DatasetNotFoundError, "There is nothing under datasets/none/"),
        ({"data_prefix": "datasets/text/"}, DatasetNotFoundError, "no shard"),
        ({"data_prefix": "/"}, DatasetNotFoundError, "There is nothing under /"),
        ({"data_bucket": "no-such-bucket"}, DatasetNotFoundError, "no-such-bucket does not exist"),
        ({"world_size": 16}, PlanError, "at most 15"),
        ({"world_size": 0}, InvalidRequestError, "world_size"),
        ({"script_url": "s3://x"}, InvalidRequestError, "script_url"),
    ],
)
def test_a_request_that_cannot_run_is_refused_before_anything_is_written(
    s3: Any, request_: dict[str, Any], error: type[RunError], message: str
) -> None:
    upload(s3)
    put(s3, "datasets/text/readme.txt", b"hello")

    with pytest.raises(error, match=message):
        plan(**request_)
    assert keys(s3, "runs/") == []


@pytest.mark.parametrize("num_done", [0, 1, 5, 9, 10])
def test_a_run_that_is_resumed_has_the_bits_of_one_that_was_not_disturbed(s3: Any, num_done: int) -> None:
    upload(s3, num_shards=2)
    _, undisturbed = run(s3, "whole", world_size=10)
    planned = plan(world_size=10)
    tasks = contract.decode(get(s3, planned["manifest_key"]), list[RankTask])
    infer_all(s3, {"manifest_key": part(s3, planned, tasks[:num_done])})

    resumed = resume(part(s3, planned, tasks[num_done:]))
    infer_all(s3, {"manifest_key": resumed["items_key"]})
    result = contract.decode(get(s3, summarize.handler(resumed, None)["summary_key"]), RunSummary)

    assert (result.complete, [one.num_ranks for one in result.resumptions]) == (True, [10 - num_done])
    assert "Resumed by run-a-resume-1: " in " ".join(result.notes)
    for record, task in zip(undisturbed, tasks, strict=True):
        assert get(s3, record.predictions_key) == get(s3, task.predictions_key)


def part(s3: Any, planned: dict[str, Any], tasks: list[RankTask]) -> str:
    """Store the ranks that are left of a run; return their key."""
    key = f"{planned['run_prefix']}pending/1.json"
    put(s3, key, contract.encode(tasks))
    return key


def resume(pending_key: str) -> dict[str, Any]:
    asked = {"bucket": BUCKET, "pending_key": pending_key}
    return initialize.handler({"execution_name": "run-a-resume-1", "request": asked}, None)


def test_a_resumption_that_is_retried_counts_once_and_throughput_is_that_of_its_ranks(s3: Any) -> None:
    upload(s3)
    planned = plan(world_size=3)
    tasks = contract.decode(get(s3, planned["manifest_key"]), list[RankTask])
    infer_all(s3, {"manifest_key": part(s3, planned, tasks[:2])})
    pending = part(s3, planned, tasks[2:])

    resume(pending)
    resumed = resume(pending)
    infer_all(s3, {"manifest_key": pending})
    result = contract.decode(get(s3, summarize.handler(resumed, None)["summary_key"]), RunSummary)

    assert len(result.resumptions) == 1
    assert result.throughput.map_wall * result.clock.map == pytest.approx(5)
    assert result.clock.parallel_efficiency is None


def test_ranks_of_another_run_and_another_model_are_not_gone_on_with(s3: Any) -> None:
    upload(s3)
    first, second = plan("run-a"), plan("run-b")
    others = contract.decode(get(s3, second["manifest_key"]), list[RankTask])

    with pytest.raises(ManifestError, match=r"pending/1.json holds rank 0 of run run-b in s3://.*, not of run-a"):
        resume(part(s3, first, others))
    put(s3, pending := first["run_prefix"] + "pending/1.json", b'[{"rank": "none"}]')
    with pytest.raises(RunError, match=pending):
        resume(pending)
    stored = json.loads(get(s3, first["run_prefix"] + "plan.json"))
    put(
        s3,
        first["run_prefix"] + "plan.json",
        json.dumps(stored | {"request": stored["request"] | {"model": "mine"}}).encode(),
    )
    with pytest.raises(ModelError, match="for the model mine"):
        resume(part(s3, first, []))


def test_two_runs_over_the_same_data_keep_apart(s3: Any) -> None:
    upload(s3)
    first, second = plan("run-1"), plan("run-10", world_size=2)
    infer_all(s3, second)
    infer_all(s3, first)

    assert summarize.handler(first, None)["complete"]
    assert summarize.handler(second, None)["complete"]


def test_bad_values_cost_their_galaxies_a_flag_and_the_run_nothing(s3: Any) -> None:
    arrays = make_arrays(5)
    arrays["images"][2, 0, 0, 0] = np.nan
    arrays["magnitudes"][3, 2] = -9999.0
    put(s3, f"{PREFIX}0.safetensors", make_shard_bytes(5, **arrays))

    summary, records = run(s3)

    assert summary.complete
    assert summary.num_flagged["REFUSED"] == 1
    assert summary.num_flagged["FILLED_PIXELS"] == 1
    assert summary.accuracy is not None
    assert summary.accuracy.num_labelled == 4
    found = Predictions.from_npz(get(s3, records[0].predictions_key))
    np.testing.assert_array_equal(np.isnan(found.z_phot), [False, False, False, True, False])


def test_sigma_of_other_weights_is_never_given_and_the_run_says_why(s3: Any) -> None:
    upload(s3)

    summary, records = run(s3)

    # The stand-in engine has weights of its own, which have no calibration.
    (note,) = [note for note in summary.notes if "sigma" in note]
    assert "these are 000000000000; `make calibrate`" in note
    assert np.isnan(Predictions.from_npz(get(s3, records[0].predictions_key)).sigma).all()


def test_calibrated_weights_give_sigma_and_the_summary_its_coverage(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(s3)
    monkeypatch.setattr(model, "calibration", lambda _sha256: (make_calibration(), None))

    summary, records = run(s3)

    assert (Predictions.from_npz(get(s3, records[0].predictions_key)).sigma > 0).all()
    assert summary.ratio_95 == pytest.approx(2.5 / 1.1)
    assert summary.accuracy is not None
    assert summary.accuracy.coverage_68 is not None
    assert not [note for note in summary.notes if "sigma" in note]


def test_merging_takes_one_request_per_rank(s3: Any) -> None:
    upload(s3)
    planned = plan(world_size=15)
    infer_all(s3, planned)
    store = settings.object_store(BUCKET)
    store.start_counting()

    summarize.handler(planned, None)

    # In addition to the records: the manifest, three listings, and two results.
    assert len(store.request_times_s) == 15 + 6


def lost_by(planned: dict[str, Any]) -> tuple[list[tuple[int, str]], RunSummary]:
    """Summarize a run in which ranks are lost; return rank and error of each, and the summary."""
    with pytest.raises(IncompleteRunError):
        summarize.handler(planned, None)
    found = contract.decode(settings.object_store(BUCKET).read(planned["run_prefix"] + "summary.json"), RunSummary)
    return [(one.rank, one.error) for one in found.lost_ranks], found


def test_predictions_written_twice_are_proved_by_their_content(s3: Any) -> None:
    upload(s3)
    planned = plan(world_size=3)
    infer_all(s3, planned)
    key = planned["run_prefix"] + "predictions/00001.npz"
    multipart = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=multipart, PartNumber=1, Body=get(s3, key))
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=multipart, MultipartUpload=parts)
    assert "-1" in s3.head_object(Bucket=BUCKET, Key=key)["ETag"], "the same bytes under another entity tag"

    assert summarize.handler(planned, None)["complete"]


def test_an_object_larger_than_a_record_is_not_read(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(s3)
    planned = plan(world_size=3)
    infer_all(s3, planned)
    key = planned["run_prefix"] + "ranks/00002.json"
    put(s3, key, b"x" * 10**6)
    read: list[str] = []
    reads = ObjectStore.read
    monkeypatch.setattr(ObjectStore, "read", lambda store, key: (read.append(key), reads(store, key))[1])

    assert lost_by(planned)[0] == [(2, "UnreadableRecord")]
    assert key not in read


def test_a_folder_of_folders_is_refused_and_the_message_names_one(s3: Any) -> None:
    upload(s3)

    with pytest.raises(DatasetNotFoundError, match=r"holds 1 objects and folders \(first datasets/tiny/10MB/\) but no"):
        plan(data_prefix="datasets/tiny")
