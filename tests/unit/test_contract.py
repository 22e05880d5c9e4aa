"""What the stages accept, refuse and call things."""

import json
from pathlib import Path

import msgspec
import pytest

from inference import contract
from inference.contract import RankRecord, RankTask, RunRequest
from inference.errors import InvalidRequestError
from tests.factories import make_record_for, make_request, make_task

EVENTS = Path(__file__).parents[1] / "events"
PUBLISHED_KEYS = [
    "total_cpu_time (seconds)",
    "total_cpu_memory (MB)",
    "total_process_memory (MB)",
    "library_overhead_memory (MB)",
    "total_image_memory (MB)",
    "total_model_memory (MB)",
    "execution_time (seconds/batch)",
    "num_batches",
    "batch_size",
    "device",
    "throughput_bps",
    "sample_persec",
    "result_path",
    "data_path",
    "s3_num_requests",
    "s3_total_time",
    "s3_avg_time",
    "s3_min_time",
    "s3_max_time",
]


def test_only_the_bucket_is_required() -> None:
    request, notes = contract.parse_request({"bucket": "b"})

    assert request == RunRequest(bucket="b")
    assert notes == ()
    chosen = {name: value for name, value in msgspec.structs.asdict(request).items() if value not in (None, False)}
    assert chosen == {
        "bucket": "b",
        "data_prefix": "datasets/sdss/10MB/",
        "batch_size": 256,
        "engine": "auto",
        "precision": "fp32",
        "backup": True,
    }
    assert request.tolerated_failure_percentage == 0


def test_a_published_key_is_read_under_our_name_unless_that_is_given_too() -> None:
    published, notes = contract.parse_request({"bucket_name": "b", "dataset_path": "d"})
    assert (published.bucket, published.data_prefix) == ("b", "d")
    assert notes == ("`bucket_name` was read as `bucket`.", "`dataset_path` was read as `data_prefix`.")

    both, notes = contract.parse_request({"bucket_name": "other", "bucket": "b"})
    assert (both.bucket, notes) == ("b", ("`bucket_name` was ignored: `bucket` is given too.",))


def test_numbers_and_booleans_may_be_strings() -> None:
    request, _ = contract.parse_request({"bucket": "b", "world_size": "8", "file_limit": "11", "profile": "true"})

    assert (request.world_size, request.file_limit, request.profile) == (8, 11, True)


@pytest.mark.parametrize(
    ("given", "row_limit"),
    [
        ({"data_size": "small"}, 250),
        ({"data_size": "Medium"}, 626),
        ({"data_size": "large"}, 1253),
        ({"data_size": "large", "row_limit": "9"}, 9),
        ({"data_size": "1GB"}, None),
    ],
)
def test_a_published_data_size_is_a_number_of_galaxies(given: dict[str, object], row_limit: int | None) -> None:
    request, notes = contract.parse_request({"bucket": "b", **given})

    assert request.row_limit == row_limit
    assert ("was ignored" in notes[0]) == (row_limit in (9, None))


@pytest.mark.parametrize("path", sorted(EVENTS.glob("published_*.json")), ids=lambda path: path.stem)
def test_published_payloads_are_accepted_and_every_key_without_meaning_is_named(path: Path) -> None:
    payload = json.loads(path.read_text())

    _, notes = contract.parse_request(payload)

    meaningless = set(payload) & set(contract.PUBLISHED_WITHOUT_MEANING)
    assert all(any(f"`{key}`" in note for note in notes) for key in meaningless)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wrold_size": 8}, "wrold_size"),
        ({"world_size": 0}, "world_size"),
        ({"world_size": -1}, "world_size"),
        ({"world_size": "abc"}, "world_size"),
        ({"world_size": 2.5}, "world_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"file_limit": 0}, "file_limit"),
        ({"data_prefix": ""}, "data_prefix"),
        ({"bucket": ""}, "bucket"),
        ({"engine": "tensorrt"}, "engine"),
        ({"tolerated_failure_percentage": 101}, "tolerated_failure_percentage"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        contract.parse_request({"bucket": "b", **change})


def test_the_examples_of_the_readme_are_what_the_handlers_accept() -> None:
    contract.parse_request(json.loads((EVENTS / "run_request.json").read_text()))
    contract.decode((EVENTS / "initialize_event.json").read_bytes(), contract.InitializeEvent)
    task = contract.decode((EVENTS / "rank_task.json").read_bytes(), contract.InferEvent).task

    assert sum(rows.num_rows for rows in task.rows) == task.num_samples
    assert contract.rank_keys(task.run_prefix, task.rank)["record_key"] == task.record_key


@pytest.mark.parametrize("raw", [None, [], "bucket", 3])
def test_a_request_is_an_object(raw: object) -> None:
    with pytest.raises(InvalidRequestError, match="JSON object"):
        contract.parse_request(raw)


def test_a_prefix_of_one_dataset_never_matches_another() -> None:
    assert not "100MB/0.pt".startswith(contract.as_prefix("10MB"))
    assert contract.as_prefix("/10MB//") == "10MB/"


def test_defaults_are_filled_in() -> None:
    request = make_request(data_prefix="datasets/x")
    stated = make_request(data_bucket="data", world_size=7, result_path="/mine/")

    assert (request.data_bucket, request.data_prefix, request.result_path) == ("b", "datasets/x/", "runs/run-a/")
    assert (request.world_size, stated.world_size) == (1, 7)
    assert (stated.bucket, stated.data_bucket, stated.result_path) == ("b", "data", "mine/")


def test_a_record_carries_every_published_key() -> None:
    record = json.loads(contract.encode(make_record_for(make_task())))

    assert list(record)[: len(PUBLISHED_KEYS)] == PUBLISHED_KEYS


def test_a_record_reads_back_as_it_was_written() -> None:
    record = make_record_for(make_task())

    assert contract.decode(contract.encode(record), RankRecord) == record


def test_a_task_with_an_unknown_key_is_refused() -> None:
    event = {**msgspec.to_builtins(make_task()), "code_url": "s3://x/evil.py"}

    with pytest.raises(InvalidRequestError, match="code_url"):
        contract.decode(event, RankTask)


def test_an_invocation_that_says_nothing_else_is_the_first() -> None:
    event = contract.decode({"task": msgspec.to_builtins(make_task())}, contract.InferEvent)

    assert (event.task, event.attempt, event.entered_at) == (make_task(), 0, None)


def test_keys_of_ranks_sort_as_ranks_do() -> None:
    keys = [contract.rank_keys("runs/a/", rank)["record_key"] for rank in (2, 10, 1000, 10_239)]

    assert keys == sorted(keys)
