"""Lines put together by invocation, joined to ranks, from every place a log can be in."""

import json
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from scripts.command.errors import UsageError
from scripts.deployment.stack import Stack, StageSettings
from scripts.runs.logs.cloudwatch import collect, log_groups, save
from scripts.runs.logs.invocations import read_csv, read_log, write_csv
from scripts.runs.logs.lines import LogEvent
from scripts.runs.logs.sources import events_of_export, events_of_run
from tests.unit.test_log_lines import platform

A, B, C, D, E = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "abcde")


def report(request_id: str, *, duration: float = 100.0, billed: int = 100) -> str:
    return (
        f"REPORT RequestId: {request_id}\tDuration: {duration} ms\tBilled Duration: {billed} ms\tMemory Size: 1769 MB\t"
        "Max Memory Used: 300 MB"
    )


def ours(request_id: str, message: str, **facts: Any) -> str:
    return json.dumps(
        {"level": "INFO", "message": message, "logger": "handlers.infer", "requestId": request_id, **facts}
    )


def invocation(request_id: str, *, rank: int, run_id: str = "run-a", attempt: int = 0) -> list[str]:
    return [
        f"START RequestId: {request_id} Version: $LATEST",
        ours(request_id, "rank started", run_id=run_id, rank=rank, attempt=attempt),
        f"END RequestId: {request_id}",
        report(request_id),
    ]


def events(*messages: str, stream: str = "s", stage: str = "infer") -> list[LogEvent]:
    return [LogEvent(stream, message, float(number), stage) for number, message in enumerate(messages)]


def test_invocations_are_joined_to_ranks_by_request_id() -> None:
    log = read_log(events(*invocation(A, rank=9), report(B)), rank_of={A: 3, B: 1})

    assert [(one.rank, one.request_id) for one in log.invocations] == [(1, B), (3, A)]


def test_an_attempt_that_left_no_record_is_joined_by_the_line_it_wrote() -> None:
    log = read_log(events(*invocation(A, rank=3, attempt=1), *invocation(B, rank=3)), rank_of={A: 3}, run_id="run-a")

    assert [(one.rank, one.attempt, one.request_id) for one in log.invocations] == [(3, 0, B), (3, 1, A)]


def test_invocations_come_by_rank_attempt_and_time_those_without_a_rank_last() -> None:
    started = [f"START RequestId: {name} Version: $LATEST" for name in (C, D)]
    log = read_log(
        events(*started, *invocation(A, rank=1), *invocation(B, rank=0), report(E)), rank_of={C: 0, D: 0, E: 2}
    )

    assert [(one.rank, one.request_id) for one in log.invocations] == [(0, C), (0, D), (0, B), (1, A), (2, E)]
    unknown = read_log(events(report(C), *invocation(A, rank=1)), rank_of={}).invocations
    assert [one.rank for one in unknown] == [1, None]


def test_an_invocation_has_as_many_bytes_as_cloudwatch_counts() -> None:
    start = f"START RequestId: {A} Version: 1"
    (one,) = read_log(events(start, "ü", report(A)), rank_of={}).invocations

    assert (one.num_lines, one.log_bytes) == (3, len(start) + 2 + len(report(A)) + 3 * 26)


def test_lines_without_a_name_belong_to_the_invocation_around_them() -> None:
    log = read_log(
        events(
            "INIT_START Runtime Version: x", *invocation(A, rank=0)[:2], "Traceback (most recent call last):", report(A)
        ),
        rank_of={A: 0},
    )

    assert [line.event.message[:9] for line in log.of_rank(0)] == [
        "INIT_STAR",
        "START Req",
        '{"level":',
        "Traceback",
        "REPORT Re",
    ]


def test_two_streams_do_not_mix() -> None:
    mixed = [
        *events(f"START RequestId: {A} Version: 1", stream="one"),
        *events(f"START RequestId: {B} Version: 1", stream="two"),
        *events("of a", stream="one"),
        *events("of b", stream="two"),
    ]

    log = read_log(mixed, rank_of={A: 0, B: 1})

    assert [log.of_rank(rank)[-1].event.message for rank in (0, 1)] == ["of a", "of b"]


def test_invocations_of_other_runs_are_left_out() -> None:
    log = read_log(
        events(*invocation(A, rank=0), *invocation(B, rank=0, run_id="run-b"), report(C)),
        rank_of={A: 0},
        run_id="run-a",
    )

    assert [one.request_id for one in log.invocations] == [A]


def test_lines_in_another_format_are_counted_and_named() -> None:
    log = read_log(events(*invocation(A, rank=0), "# strange", "# strange", "{ broken"), rank_of={A: 0})

    assert log.unread == {"# strange": 2, "{ broken": 1}


def test_an_invocation_that_was_cut_off_is_kept_without_numbers() -> None:
    (one,) = read_log(events(*invocation(A, rank=0)[:2]), rank_of={}).invocations

    assert (one.rank, one.duration_ms, one.billed_ms) == (0, None, None)


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([report(A) + "\tStatus: timeout"], "timeout"),
        (["[ERROR] ShardFormatError: dirt", report(A)], "ShardFormatError"),
        ([ours(A, "broken", errorType="PlanError"), report(A)], "PlanError"),
        ([f"RequestId: {A} Process exited before completing request", report(A)], "error"),
        (["[ERROR] ShardFormatError: dirt", report(A) + "\tStatus: timeout"], "timeout"),
        (
            [json.dumps(platform("report", requestId=A, status="error", errorType="Runtime.ExitError"))],
            "Runtime.ExitError",
        ),
        ([json.dumps(platform("report", requestId=A, status="failure"))], "failure"),
        ([report(A)], ""),
    ],
)
def test_a_failed_invocation_says_how_it_failed(messages: list[str], status: str) -> None:
    (found,) = read_log(events(f"START RequestId: {A} Version: $LATEST", *messages), rank_of={}).invocations

    assert found.status == status


def test_a_json_log_gives_the_same_invocation_as_a_text_log() -> None:
    metrics = {"durationMs": 100.0, "billedDurationMs": 100, "memorySizeMB": 1769, "maxMemoryUsedMB": 300}
    in_json = [
        json.dumps({**platform("start"), "record": {"requestId": A}}),
        invocation(A, rank=0)[1],
        json.dumps({**platform("report"), "record": {"requestId": A, "metrics": metrics}}),
    ]

    (first,) = read_log(events(*invocation(A, rank=0)), rank_of={}).invocations
    (second,) = read_log(events(*in_json), rank_of={}).invocations

    names = ("stage", "rank", "duration_ms", "billed_ms", "memory_mb", "max_memory_mb", "init_ms", "status")
    assert [getattr(first, name) for name in names] == [getattr(second, name) for name in names]


def test_the_table_of_invocations_survives_csv(tmp_path: Path) -> None:
    invocations = read_log(events(*invocation(A, rank=0), *invocation(B, rank=1)[:2]), rank_of={}).invocations

    write_csv(tmp_path / "logs.csv", invocations)

    assert read_csv(tmp_path / "logs.csv") == list(invocations)
    assert [path.name for path in tmp_path.iterdir()] == ["logs.csv"]


def test_a_table_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "logs.csv").write_text("request_id,rank\nx,3\n")

    (one,) = read_csv(tmp_path / "logs.csv") or []

    assert (one.request_id, one.rank, one.num_lines, one.log_bytes) == ("x", 3, 0, 0)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "request_id,rank\nx,first\n"])
def test_a_csv_that_is_another_one_is_no_table_of_invocations(content: str, tmp_path: Path) -> None:
    (tmp_path / "logs.csv").write_text(content)

    assert not read_csv(tmp_path / "logs.csv")


def test_a_run_here_is_read_from_its_workers_files(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "infer-0.log").write_text("\n".join(invocation(A, rank=0)) + "\n")
    (tmp_path / "logs" / "infer-1.log").write_bytes("\n".join(invocation(B, rank=1)).encode() + b"\n\xff\xfe\n")
    (tmp_path / "logs" / "server.log").write_text("REPORT of nobody\n")
    (tmp_path / "logs" / "infer-2.log").write_text("\n \n")

    log = read_log(events_of_run(tmp_path), rank_of={}, run_id="run-a", is_all_ours=True)

    assert [(one.stage, one.rank, one.stream) for one in log.invocations] == [
        ("infer", 0, "infer-0"),
        ("infer", 1, "infer-1"),
    ]
    assert sum(log.unread.values()) == 1


def test_a_damaged_line_of_what_was_collected_is_one_in_another_format(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "infer.jsonl").write_bytes(
        b'{"timestamp": 1000, "stream": "s", "message": "hi\\n"}\ncut\n\xff\n'
    )

    found = [(event.stream, event.message, event.time_s, event.stage) for event in events_of_run(tmp_path)]

    assert found[0] == ("s", "hi", 1.0, "infer")
    assert [(stream, time_s, stage) for stream, _, time_s, stage in found[1:]] == [("infer.jsonl", None, "infer")] * 2
    assert found[1][1] == "cut"


# ------------------------------------------------------------------------------------------- exported files


@pytest.mark.parametrize("is_newest_first", [False, True])
def test_a_file_exported_from_the_console_is_read(is_newest_first: bool, tmp_path: Path) -> None:
    rows = [
        f'{1767323045000 + number},"{message.replace(chr(34), chr(34) * 2)}\n"'
        for number, message in enumerate(invocation(A, rank=4))
    ]
    path = tmp_path / "export.csv"
    path.write_text("timestamp,message\n" + "\n".join(reversed(rows) if is_newest_first else rows) + "\n")

    (one,) = read_log(events_of_export(path), rank_of={}).invocations

    assert (one.rank, one.billed_ms, one.started_at_s, one.stage) == (4, 100, 1767323045.0, "infer")


def test_an_event_of_the_greatest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(f'timestamp,message\n1,"{report(A)}"\n2,{"x" * 1_000_000}\n')

    assert [len(event.message) for event in events_of_export(path)] == [len(report(A)), 1_000_000]


def test_a_file_exported_from_logs_insights_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(f'@timestamp,@message,@logStream\n2026-01-02 03:04:05.678,"{report(A)}",2026/01/02/[$LATEST]1\n')

    (one,) = read_log(events_of_export(path), rank_of={A: 2}).invocations

    assert (one.rank, one.started_at_s, one.stream) == (2, 1767323045.678, "2026/01/02/[$LATEST]1")


@pytest.mark.parametrize("is_newest_first", [False, True])
def test_events_of_one_millisecond_keep_their_order(is_newest_first: bool, tmp_path: Path) -> None:
    rows = ["1,a", "2,b", "2,c"]
    path = tmp_path / "export.csv"
    path.write_text("\n".join(["timestamp,message", *(reversed(rows) if is_newest_first else rows)]))

    assert [event.message for event in events_of_export(path)] == ["a", "b", "c"]


def test_events_without_a_time_come_first(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("timestamp,message\n500,b\n,a\n600,\n")

    assert [event.message for event in events_of_export(path)] == ["a", "b"]


def test_a_file_without_messages_is_refused_with_its_first_columns(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("a,b,c,d,e,f\n")

    with pytest.raises(UsageError, match=r"this file has a, b, c, d, e\.$"):
        events_of_export(path)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00"], ids=["empty", "other columns", "no text"])
def test_a_file_that_is_no_export_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=r"FILE=.*export\.csv") as caught:
        events_of_export(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        events_of_export(tmp_path / "none.csv")


# ------------------------------------------------------------------------------------------------ CloudWatch

START_S = float(int(time.time()) - 3600)
"""CloudWatch takes no events older than 14 days."""


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "t",
        "AWS_SECRET_ACCESS_KEY": "t",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("logs")


def put(logs: Any, group: str, stream: str, messages: list[str], *, at_s: float = START_S) -> None:
    if group not in [found["logGroupName"] for found in logs.describe_log_groups()["logGroups"]]:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    sent = [{"timestamp": int(at_s * 1000) + number, "message": f"{text}\n"} for number, text in enumerate(messages)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=sent)


def collected(logs: Any, **rank_of: int) -> Any:
    groups = {"infer": "/aws/lambda/x-infer", "summarize": "/aws/lambda/x-summarize"}
    return collect(logs, groups, window_s=(START_S, START_S + 10), rank_of=rank_of, run_id="run-a")


def test_all_streams_of_the_runs_functions_are_collected(cloudwatch: Any, tmp_path: Path) -> None:
    put(cloudwatch, "/aws/lambda/x-infer", "one", [*invocation(A, rank=0), *invocation(C, rank=0, run_id="run-b")])
    put(cloudwatch, "/aws/lambda/x-infer", "two", invocation(B, rank=1))

    log, kept = collected(cloudwatch)

    assert [(one.rank, one.stage, one.stream) for one in log.invocations] == [(0, "infer", "one"), (1, "infer", "two")]
    assert save(tmp_path / "logs", kept) == 8
    again = read_log(events_of_run(tmp_path), rank_of={}, is_all_ours=True)
    assert again.invocations == log.invocations


def test_events_of_another_day_are_not_read(cloudwatch: Any) -> None:
    put(cloudwatch, "/aws/lambda/x-infer", "old", invocation(A, rank=0), at_s=START_S - 86_400)

    assert collected(cloudwatch)[0].invocations == ()


def test_a_group_that_may_not_be_read_is_not_taken_for_an_absent_one() -> None:
    class Denied:
        def get_paginator(self, _: str) -> "Denied":
            return self

        def paginate(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "FilterLogEvents")
            yield

    with pytest.raises(ClientError):
        collected(Denied())


def test_every_page_is_read() -> None:
    class Paged:
        """Answers as boto3's paginator does, one event a page."""

        def get_paginator(self, name: str) -> "Paged":
            assert name == "filter_log_events"
            return self

        def paginate(self, **_: Any) -> Any:
            for number, message in enumerate(invocation(A, rank=7)):
                yield {"events": [{"logStreamName": "s", "message": message, "timestamp": number}]}

    counts: list[int] = []
    log, _ = collect(Paged(), {"infer": "g"}, window_s=(0, 1), rank_of={}, run_id="run-a", tick=counts.append)

    assert [(one.rank, one.num_lines, one.billed_ms) for one in log.invocations] == [(7, 4, 100)]
    assert counts == [1] * 4


def test_the_log_groups_are_those_terraform_names_or_lambdas_own() -> None:
    stack = Stack(
        name="x",
        region="us-east-1",
        account_id="1",
        bucket="b",
        state_machine_arn="arn",
        function_names={"infer": "x-infer", "summarize": "x-summarize"},
        stages={"infer": StageSettings(memory_mb=1769, timeout_s=900)},
        max_concurrency=10,
        log_groups={"infer": "/mine/infer", "state_machine": "/aws/vendedlogs/x"},
    )

    assert log_groups(stack) == {"infer": "/mine/infer", "summarize": "/aws/lambda/x-summarize"}
