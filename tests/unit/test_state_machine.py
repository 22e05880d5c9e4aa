"""The state machine's file agrees with the code and with the limits of AWS."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from inference import errors
from inference.contract import NO_DEADLINE_S, RankTask, RunPlan

TERRAFORM = Path(__file__).parents[2] / "terraform"
DEFINITION = json.loads((TERRAFORM / "state_machine.asl.json").read_text())
STAGES = json.loads((TERRAFORM / "stages.json").read_text())
AWS_NAMES = {"Runtime.ExitError"}
STAGE_STATES = ("Initialize", "Infer", "InferAtLast", "Summarize")


def find(key: str, document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from find(key, value)
    elif isinstance(document, list):
        for value in document:
            yield from find(key, value)


def states() -> dict[str, dict[str, Any]]:
    return {name: state for group in find("States", DEFINITION) for name, state in group.items()}


def all_subclasses(kind: type) -> set[type]:
    return {kind, *(found for child in kind.__subclasses__() for found in all_subclasses(child))}


def test_every_retried_error_is_one_we_raise_or_one_of_aws() -> None:
    named = {name for names in find("ErrorEquals", DEFINITION) for name in names}
    ours = {name for name in named if not name.startswith(("Lambda.", "States.")) and name not in AWS_NAMES}

    assert ours <= {error.__name__ for error in all_subclasses(errors.RunError)}


def test_only_errors_documented_as_retried_are_retried() -> None:
    retried = {name for retries in find("Retry", DEFINITION) for retry in retries for name in retry["ErrorEquals"]}

    for error in all_subclasses(errors.RunError) - {errors.RunError}:
        assert (error.__name__ in retried) == ("Not retried" not in (error.__doc__ or ""))


def test_every_task_has_a_timeout_and_retries_with_full_jitter() -> None:
    tasks = {name: state for name, state in states().items() if state["Type"] == "Task"}

    assert set(tasks) == {"Initialize", "Infer", "InferAtLast", "RecordFailure", "Summarize"}
    for name, task in tasks.items():
        assert task["TimeoutSecondsPath"] == "$.deadline_s" if name == "Infer" else task["TimeoutSeconds"] > 0
        assert all(retry["JitterStrategy"] == "FULL" for retry in task["Retry"])


def retrier(state: str, error: str) -> dict[str, Any]:
    """Return the first retrier that takes an error, as Step Functions chooses it."""
    return next((retry for retry in states()[state]["Retry"] if error in retry["ErrorEquals"]), {})


def waits_s(retry: dict[str, Any]) -> list[float]:
    """Return the longest wait before each attempt [s]; full jitter takes half of them on average."""
    pauses = (retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt for attempt in range(retry["MaxAttempts"]))
    return [min(pause, retry.get("MaxDelaySeconds", pause)) for pause in pauses]


@pytest.mark.parametrize("state", STAGE_STATES)
@pytest.mark.parametrize("error", ["CodeArtifactUserPending", "ResourceNotReady", "ResourceConflict"])
def test_an_idle_function_is_waited_for_until_it_wakes(state: str, error: str) -> None:
    waits = waits_s(retrier(state, f"Lambda.{error}Exception"))

    # Each wait is drawn between 0 and its length: three minutes are below the mean by three standard deviations.
    mean_s, deviation_s = sum(waits) / 2, math.sqrt(sum(wait**2 for wait in waits) / 12)
    assert mean_s - 3 * deviation_s > 180


@pytest.mark.parametrize("state", STAGE_STATES)
def test_a_stage_that_is_killed_is_tried_once_more(state: str) -> None:
    for error in ("Lambda.Unknown", "Runtime.ExitError"):
        assert retrier(state, error)["MaxAttempts"] == 1


@pytest.mark.parametrize("state", STAGE_STATES)
def test_what_would_fail_again_in_the_same_way_is_not_paid_twice(state: str) -> None:
    assert not retrier(state, "States.Timeout") or state == "Infer"
    for error in ("Sandbox.Timedout", "Runtime.OutOfMemory", "States.ALL", "States.TaskFailed"):
        assert not retrier(state, error)


@pytest.mark.parametrize("state", STAGE_STATES)
def test_faults_of_lambda_itself_are_retried(state: str) -> None:
    for name in ("Service", "AWSLambda", "SdkClient", "ClientExecutionTimeout"):
        assert retrier(state, f"Lambda.{name}Exception")["MaxAttempts"] == 6


@pytest.mark.parametrize("state", STAGE_STATES)
def test_an_account_without_room_is_waited_for_most_of_an_hour(state: str) -> None:
    waits = waits_s(retrier(state, "Lambda.TooManyRequestsException"))

    mean_s, deviation_s = sum(waits) / 2, math.sqrt(sum(wait**2 for wait in waits) / 12)
    assert mean_s - 3 * deviation_s > 45 * 60
    assert sum(waits) <= 2 * 3600
    # The first looks are soon: most often the room is there in seconds.
    assert sum(wait / 2 for wait in waits[:6]) < 15
    # Every attempt is a transition, at 0.000025 USD: a rank that waits to the end costs a third of a cent.
    assert len(waits) * 25e-6 <= 0.003


def test_as_many_ranks_run_at_the_same_time_as_the_plan_says() -> None:
    assert states()["InferRanks"]["MaxConcurrencyPath"] == "$.max_concurrency"
    assert "max_concurrency" in RunPlan.__struct_fields__


def test_the_map_reads_what_the_plan_names_which_is_not_the_whole_manifest_of_a_resumed_run() -> None:
    assert states()["InferRanks"]["ItemReader"]["Parameters"]["Key.$"] == "$.items_key"
    assert "items_key" in RunPlan.__struct_fields__


def test_a_task_outlives_its_function() -> None:
    for name, state in states().items():
        if name.lower() in STAGES and name != "Infer":
            assert state["TimeoutSeconds"] > STAGES[name.lower()]["timeout_s"]


def test_the_map_never_fails_before_summarize() -> None:
    ranks = states()["InferRanks"]

    assert ranks["ToleratedFailurePercentage"] == 100.0
    assert [catch["Next"] for catch in ranks["Catch"]] == ["Summarize"]
    for name in ("Infer", "InferAtLast"):
        assert states()[name]["Catch"][-1] == {
            "ErrorEquals": ["States.ALL"],
            "ResultPath": "$.failure",
            "Next": "RecordFailure",
        }


def test_a_rank_that_is_slow_is_invoked_once_more_and_at_last_without_a_deadline() -> None:
    infer, last = states()["Infer"], states()["InferAtLast"]

    assert "deadline_s" in RankTask.__struct_fields__
    assert retrier("Infer", "States.Timeout")["MaxAttempts"] == 1
    assert infer["Catch"][0] == {"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": "InferAtLast"}
    assert last["TimeoutSeconds"] == NO_DEADLINE_S > STAGES["infer"]["timeout_s"]
    # The same invocation, and the same patience with Lambda: only the deadline differs, and which attempt it is.
    for key in ("Resource", "ResultSelector"):
        assert last[key] == infer[key]
    assert last["Retry"] == infer["Retry"][1:]
    event = {**infer["Parameters"]["Payload"], "attempt.$": "States.MathAdd($$.State.RetryCount, 2)"}
    assert last["Parameters"] == {**infer["Parameters"], "Payload": event}


def test_a_run_chooses_the_version_of_infer_and_never_the_function() -> None:
    infer = states()["Infer"]["Parameters"]

    assert infer["FunctionName"] == "${infer_arn}"
    assert infer["Qualifier.$"] == "$.qualifier"
    assert "qualifier" in RankTask.__struct_fields__
    assert not list(find("FunctionName.$", DEFINITION))


def test_what_ranks_return_is_never_gathered_in_the_state() -> None:
    # A failed one counts with all of its input: two hundred of them exceed the 256 KiB of a state.
    writer = states()["InferRanks"]["ResultWriter"]

    assert writer["Resource"] == "arn:aws:states:::s3:putObject"
    assert writer["Parameters"] == {"Bucket.$": "$.bucket", "Prefix.$": "States.Format('{}map', $.run_prefix)"}
    assert states()["Infer"]["ResultSelector"] == {}


def test_every_stage_names_a_handler_that_exists() -> None:
    folder = Path(handlers.__file__).parent

    for name, stage in STAGES.items():
        assert stage["handler"] == f"handlers.{name}.handler"
        assert "\ndef handler(" in (folder / f"{name}.py").read_text()


def test_stages_keep_the_limits_of_lambda() -> None:
    for stage in STAGES.values():
        assert 128 <= stage["memory_mb"] <= 10_240
        assert stage["timeout_s"] <= 900
        assert 512 <= stage["ephemeral_mb"] <= 10_240
