"""Every kind of line that Lambda, its emulator or our loggers write."""

import json
import time
from typing import Any

import pytest

from scripts.runs.logs.lines import LogEvent, parse, seconds

ID = "8b9a5829-5529-4efa-89d8-3958ece6a439"
REPORT = (
    f"REPORT RequestId: {ID}\tDuration: 20047.19 ms\tBilled Duration: 21312 ms\tMemory Size: 1769 MB\t"
    "Max Memory Used: 436 MB\tInit Duration: 1264.63 ms\t"
)
NUMBERS = {"duration_ms": 20047.19, "billed_ms": 21312, "memory_mb": 1769, "max_memory_mb": 436, "init_ms": 1264.63}
TRACE = "\nXRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 557abcec3ee5a047\tSampled: true"


def line(message: str | dict[str, Any], **event: Any) -> Any:
    return parse(LogEvent("stream", message if isinstance(message, str) else json.dumps(message), **event))


def platform(kind: str, **record: Any) -> dict[str, Any]:
    return {"time": "2026-01-02T03:04:05.678Z", "type": f"platform.{kind}", "record": {"requestId": ID, **record}}


@pytest.mark.parametrize("message", [REPORT, REPORT + TRACE + "\n"], ids=["plain", "traced"])
def test_a_report_in_text_gives_its_five_numbers(message: str) -> None:
    found = line(message)

    assert (found.kind, found.request_id, found.status) == ("report", ID, "")
    assert found.numbers == NUMBERS


def test_a_report_in_json_gives_the_same_numbers() -> None:
    metrics = {
        "durationMs": 20047.19,
        "billedDurationMs": 21312,
        "memorySizeMB": 1769,
        "maxMemoryUsedMB": 436,
        "initDurationMs": 1264.63,
    }

    found = line(platform("report", metrics=metrics, status="success"))

    assert (found.kind, found.request_id, found.status) == ("report", ID, "")
    assert found.numbers == NUMBERS
    assert found.time_s == 1767323045.678


def test_a_warm_report_has_no_init() -> None:
    warm = (
        f"REPORT RequestId: {ID}\tDuration: 3.46 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 5 MB"
    )

    assert line(warm).numbers == {"duration_ms": 3.46, "billed_ms": 4, "memory_mb": 128, "max_memory_mb": 5}


def test_an_exception_in_text_keeps_its_class_and_its_first_line() -> None:
    found = line("[ERROR] ShardFormatError: d/0 is cut off\nTraceback (most recent call last):\n  File")

    assert found.fields == {"errorType": "ShardFormatError", "errorMessage": "d/0 is cut off"}


def test_a_line_of_lambdas_text_logger_keeps_its_level_its_words_and_its_time() -> None:
    found = line(f"[INFO]\t2026-01-02T03:04:05.678Z\t{ID}\trank inferred")

    assert (found.fields, found.time_s) == ({"level": "INFO", "message": "rank inferred"}, 1767323045.678)


def test_what_killed_an_invocation_is_kept_as_it_was_said() -> None:
    said = f"RequestId: {ID} Error: Runtime exited with error: signal: killed"

    assert line(said).fields == {"errorMessage": said}


def test_a_line_of_json_that_is_no_text_is_read_all_the_same() -> None:
    assert line('{"level": "INFO", "message": "\udcff"}').fields["message"] == "?"


@pytest.mark.parametrize("message", [REPORT + "\tStatus: timeout", platform("report", metrics={}, status="timeout")])
def test_a_report_says_when_it_is_no_success(message: Any) -> None:
    assert line(message).status == "timeout"


@pytest.mark.parametrize(
    ("message", "kind", "request_id"),
    [
        (f"START RequestId: {ID} Version: $LATEST", "start", ID),
        (platform("start", version="$LATEST"), "start", ID),
        (f"END RequestId: {ID}", "end", ID),
        ("INIT_START Runtime Version: python:3.11.v77\tRuntime Version ARN: arn:aws:lambda", "init", ""),
        ("INIT_REPORT Init Duration: 9999.81 ms\tPhase: init\tStatus: timeout", "init", ""),
        ({"type": "platform.initStart", "record": {"phase": "init"}}, "init", ""),
        (platform("runtimeDone", status="success"), "runtime", ID),
        ({"timestamp": "2026-01-02T03:04:05Z", "level": "INFO", "message": "hi", "requestId": ID}, "ours", ID),
        ({"level": "INFO", "message": "hi", "requestId": ID, "_aws": {"CloudWatchMetrics": []}}, "ours", ID),
        ({"_aws": {"CloudWatchMetrics": []}, "rows": 3, "requestId": ID}, "metrics", ID),
        ({"errorType": "PlanError", "errorMessage": "no", "requestId": ID, "level": "ERROR"}, "error", ID),
        ({"errorType": "PlanError"}, "error", ""),
        ({"errorMessage": "no"}, "error", ""),
        ({"level": "INFO", "message": "hi", "AWSRequestId": ID}, "ours", ID),
        ({"level": "INFO", "requestId": ID}, "unknown", ID),
        ({"message": "hi", "requestId": ID}, "unknown", ID),
        ({"type": "platform.start", "requestId": ID}, "unknown", ID),
        ({"type": "mine", "record": {"requestId": ID}}, "unknown", ""),
        (f"[INFO]\t2026-01-02T03:04:05.678Z\t{ID}\trank inferred", "text", ID),
        (f"RequestId: {ID} Error: Runtime exited with error: signal: killed", "error", ID),
        (f"2026-01-02T03:04:05.678Z {ID} Task timed out after 3.00 seconds", "error", ID),
        ("[ERROR] ValueError: no\nTraceback (most recent call last):\n  File", "error", ""),
        ("something a library printed", "unknown", ""),
        ("{ broken json", "unknown", ""),
        ("[1, 2]", "unknown", ""),
        ("\x00\ufffd", "unknown", ""),
        ("", "unknown", ""),
    ],
)
def test_a_line_is_known_by_its_kind_and_its_invocation(message: Any, kind: str, request_id: str) -> None:
    found = line(message)

    assert (found.kind, found.request_id) == (kind, request_id)


def test_the_time_of_the_event_wins_over_what_the_line_says() -> None:
    ours = {"timestamp": "2026-01-02T03:04:05Z", "level": "INFO", "message": "hi"}

    assert line(ours).time_s == 1767323045
    assert line(ours, time_s=5.0).time_s == 5.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1767323045678, 1767323045.678), ("1767323045678", 1767323045.678), ("2026-01-02 03:04:05.678", 1767323045.678)],
)
def test_times_are_read_as_the_console_and_insights_write_them(value: object, expected: float) -> None:
    assert seconds(value) == expected


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        read = [seconds(f"2026-01-02 03:04:05{zone}") for zone in ("", "+00:00", "+02:00")]
    time.tzset()

    assert read == [1767323045.0, 1767323045.0, 1767323045.0 - 7200]


def test_no_time_is_no_error() -> None:
    assert seconds("yesterday") is None
    assert seconds(None) is None
