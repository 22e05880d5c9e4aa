"""`make logs` of a run on AWS, which moto plays, and of files: what is fetched, kept, and refused."""

import io
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

import scripts.logs
import scripts.runs.logs.of_run
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.deployment.stack import Stack, StageSettings
from scripts.runs import journal
from scripts.runs.logs.cloudwatch import EARLIER_S, LATER_S
from scripts.runs.logs.invocations import Invocation, Log
from scripts.runs.logs.lines import LogEvent, LogLine
from scripts.runs.logs.show import print_lines, print_table
from scripts.runs.run_folder import open_run
from scripts.runs.variables import StackVariables
from tests.unit.test_log_invocations import START_S, cloudwatch, put, report
from tests.unit.test_run_receipt import REQUEST_IDS, write_run

__all__ = ["cloudwatch"]

GROUP = "/aws/lambda/x-infer"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloudwatch: Any) -> Path:
    """A run of three ranks in a deployment, whose CloudWatch is moto's."""
    folder = write_run(tmp_path).path
    stack = Stack(
        name="x",
        region="us-east-1",
        account_id="1",
        bucket="b",
        state_machine_arn="arn",
        function_names={"infer": "x-infer"},
        stages={"infer": StageSettings(memory_mb=1769, timeout_s=900)},
        max_concurrency=10,
    )
    entry = journal.read(folder)
    assert entry is not None
    journal.write(folder, msgspec.structs.replace(entry, target="aws", stack=stack, started_at_s=START_S))
    target = SimpleNamespace(account=SimpleNamespace(client=lambda _: cloudwatch))
    monkeypatch.setattr(scripts.runs.logs.of_run, "connect_aws", lambda _: target)
    return tmp_path


def logs(root: Path, *, rank: str = "", file: str = "", run: str = "run-a") -> None:
    asked = read_variables(scripts.logs.LogsVariables, {"RUN": run, "RANK": rank, "FILE": file})
    scripts.logs.main(asked, root=root)


def test_what_cloudwatch_has_is_fetched_and_kept(
    root: Path, cloudwatch: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:3]])
    monkeypatch.setenv("FORCE_COLOR", "1")  # numbers have the colour of the words

    logs(root)
    monkeypatch.setattr(scripts.runs.logs.of_run, "connect_aws", lambda _: pytest.fail("the log is whole"))
    logs(root)

    said = capsys.readouterr()
    assert said.err.count("collected  3 events of 3 invocations from CloudWatch") == 1
    assert said.out.count("3 invocations, 0 cold, 0 failed; billed 0.3 s") == 2
    assert (root / "runs" / "run-a" / "logs" / "infer.jsonl").exists()


def test_on_a_terminal_the_events_are_counted_while_they_come(
    root: Path, cloudwatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    status = nullcontext(SimpleNamespace(update=shown.append))
    monkeypatch.setattr(scripts.runs.logs.of_run, "Console", lambda **_: SimpleNamespace(status=lambda _: status))
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:3]])

    logs(root)

    assert shown[-1] == "CloudWatch: 3 events"


def test_what_was_logged_somewhat_before_and_after_is_of_the_run_too(root: Path, cloudwatch: Any, capsys: Any) -> None:
    end_s = START_S + open_run("run-a", StackVariables(), root=root).summary.clock.end_to_end
    times_s = (START_S - EARLIER_S - 1, START_S - EARLIER_S + 1, end_s + LATER_S - 1, end_s + LATER_S + 1)
    for number, at_s in enumerate(times_s):
        put(cloudwatch, GROUP, f"{number}", [report(REQUEST_IDS[number % 3], billed=100 * number)], at_s=at_s)

    logs(root)

    assert "2 invocations, 0 cold, 0 failed; billed 0.3 s" in capsys.readouterr().out


def test_a_log_that_came_late_is_fetched_again(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:2]])
    logs(root)
    put(cloudwatch, GROUP, "t", [report(REQUEST_IDS[2])])

    logs(root)

    assert "3 invocations" in capsys.readouterr().out


def test_what_was_kept_outlives_cloudwatchs_retention(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:2]])
    logs(root)
    cloudwatch.delete_log_group(logGroupName=GROUP)

    logs(root)

    assert capsys.readouterr().out.count("2 invocations") == 2


def test_without_a_single_line_nothing_is_written(root: Path) -> None:
    with pytest.raises(UsageError, match=r"run-a: no invocation of this run is in the log; nothing was written"):
        logs(root)
    assert not (root / "runs" / "run-a" / "logs.csv").exists()


def test_the_lines_of_one_rank_are_shown_and_no_table_is_written(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:3]])

    logs(root, rank="0")

    (line,) = capsys.readouterr().out.splitlines()
    assert "REPORT" in line
    assert not (root / "runs" / "run-a" / "logs.csv").exists()
    with pytest.raises(UsageError, match=r"RANK=9: no line is this rank's of 3; the log has ranks 0 to 2"):
        logs(root, rank="9")


def test_an_export_is_joined_to_the_ranks_of_its_run(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    export.write_text(f'timestamp,message\n1,"{report(REQUEST_IDS[2])}"\n2,"{report(REQUEST_IDS[4])}"\n')

    logs(root, file=str(export))

    assert "1 invocations" in capsys.readouterr().out
    assert f",2,,{REQUEST_IDS[2]}," in (root / "runs" / "run-a" / "logs.csv").read_text()


def test_an_export_needs_no_run(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    export.write_text(f'timestamp,message\n1,"{report(REQUEST_IDS[2])}"\n2,what is this\n')

    logs(root, file=str(export), run="")

    assert "1 line is in another format: 'what is this' (1)" in capsys.readouterr().out
    assert (root / "export.invocations.csv").exists()


@pytest.mark.parametrize("rank", ["seven", "-1", "1.5"])
def test_a_rank_that_is_no_number_is_refused_by_name(rank: str, root: Path) -> None:
    with pytest.raises(UsageError, match=rf"RANK={rank} is not valid: RANK is a whole number from 0"):
        logs(root, rank=rank)


def test_many_invocations_are_shown_by_their_slowest(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    lines = [f'{number},"{report(f"{number:08d}-0", duration=float(number))}"' for number in range(100)]
    export.write_text("timestamp,message\n" + "\n".join(lines) + "\n")

    logs(root, file=str(export), run="")

    # The width of the table is ours; how long the name of the file is, the user's.
    shown = capsys.readouterr().out.replace(str(export.parent), "")
    assert "the 20 slowest of 100" in shown
    assert max(map(len, shown.splitlines()[:24])) <= 80
    assert "300 of 1769" in shown
    assert "00000099" in shown
    assert "00000001" not in shown


# ------------------------------------------------------------------------------------------------- as it is printed


def lines_of(capsys: Any) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def invocation(number: int, **known: Any) -> Invocation:
    return Invocation(request_id=f"{number:08d}-0000", **known)


def test_an_invocation_has_what_its_report_states_and_marks_for_the_rest(capsys: Any) -> None:
    whole = {"stage": "infer", "duration_ms": 1234.0, "billed_ms": 1300, "memory_mb": 1769, "max_memory_mb": 300}
    found = (
        invocation(0, rank=0, attempt=0, init_ms=66.0, **whole),
        invocation(1, rank=7, attempt=2, **whole, status="error: a long reason"),
        invocation(2, stage="summarize"),
    )
    log = Log({}, found, Counter({"what": 1200, "is": 3, "this": 2, "now": 1}))

    print_table(Console(highlight=False, width=80), "run-a", log, Path("logs.csv"))

    assert lines_of(capsys) == [
        "run-a",
        "",
        "    rank      stage  duration    billed    init    memory [MB]  request",
        "       0      infer    1.23 s    1.30 s  0.07 s    300 of 1769  00000000",
        "     7.2      infer    1.23 s    1.30 s       -    300 of 1769  error: a long re",
        "          summarize         ?         ?       -         ? of ?  00000002",
        "",
        "  3 invocations, 1 cold, 1 failed; billed 2.6 s; at most 300 MB used",
        "  1 have no REPORT line: they were cut off, or the log was",
        "  1,206 lines are in another format: 'what' (1200), 'is' (3), 'this' (2)",
        "  logs.csv",
    ]


def test_what_is_wider_than_the_screen_stays_in_one_line(capsys: Any) -> None:
    one = invocation(0, stage="infer", billed_ms=10**9, max_memory_mb=10_240)
    log = Log({}, (one,), Counter({"w" * 60: 1}))

    print_table(Console(highlight=False, width=74), "r" * 90, log, Path("t" * 90))

    shown = lines_of(capsys)
    assert shown[0] == "r" * 90
    assert shown[-3:] == [
        "  1 invocations, 0 cold, 0 failed; billed 1,000,000.0 s; at most 10,240 MB used",
        f"  1 line is in another format: '{'w' * 60}' (1)",
        f"  {'t' * 90}",
    ]


def test_an_invocation_that_failed_stands_out() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False, width=80)

    print_table(console, "run-a", Log({}, (invocation(0), invocation(1, status="timeout"))), Path("logs.csv"))

    good, failed = console.file.getvalue().splitlines()[3:5]  # type: ignore[attr-defined]
    assert "\x1b[1m" not in good
    assert failed.startswith("\x1b[1m")


@pytest.mark.parametrize(("num", "num_shown"), [(40, 40), (41, 20)])
def test_above_forty_invocations_the_slowest_are_shown(num: int, num_shown: int, capsys: Any) -> None:
    log = Log({}, tuple(invocation(number, duration_ms=float(number) or None) for number in range(num)))

    print_table(Console(highlight=False, width=80), "run-a", log, Path("logs.csv"))

    shown = lines_of(capsys)
    assert len([line for line in shown if line.endswith("-0000") or line[-8:].isdigit()]) == num_shown
    assert (f"  the 20 slowest of {num}" in shown) == (num > 40)
    assert f"  {num} invocations, 0 cold, 0 failed; billed 0.0 s; at most 0 MB used" in shown


def test_a_line_says_when_it_was_of_which_kind_and_what(capsys: Any) -> None:
    event = LogEvent("stream", "  as it came ")
    ours = {"message": "rank inferred", "level": "INFO", "timestamp": "t", "requestId": "r", "rank": 3, "rows": 2}
    lines = [
        LogLine("start", event, request_id="r-1", time_s=1_795_308_908.25),
        LogLine("report", event, numbers={"Duration": 1.5, "Billed": 2.0}, status="timeout"),
        LogLine("report", event, numbers={"Duration": 1.5}),
        LogLine("end", event, request_id="r-1"),
        LogLine("error", event, fields={"errorType": "PlanError", "errorMessage": "why"}),
        LogLine("error", event, fields={"errorType": "PlanError"}),
        LogLine("error", event),
        LogLine("ours", event, fields=ours),
        LogLine("unknown", event),
    ]

    print_lines(Console(highlight=False, width=80), lines)

    assert lines_of(capsys) == [
        "00:55:08.250  START    r-1",
        "              REPORT   Duration 1.5, Billed 2, timeout",
        "              REPORT   Duration 1.5",
        "              END      r-1",
        "              ERROR    PlanError: why",
        "              ERROR    PlanError:",
        "              ERROR    as it came",
        "              INFO     rank inferred  rank=3  rows=2",
        "              UNKNOWN  as it came",
    ]
