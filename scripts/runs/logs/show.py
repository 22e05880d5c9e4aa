"""Invocations as a table and log lines as text: 80 columns, readable without colour."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from scripts.runs.logs.invocations import Invocation, Log
from scripts.runs.logs.lines import LogLine

MAX_ROWS = 40
NUM_SLOWEST = 20
MAX_UNREAD = 3
COLUMNS = ("rank", "stage", "duration", "billed", "init", "memory [MB]", "request")
WIDTHS = (8, 11, 10, 10, 8, 15)
MAX_STATUS = 16
NOT_SHOWN = {"timestamp", "level", "message", "requestId", "logger", "_aws", "stackTrace"}
LIFE = {"start": "START", "end": "END", "report": "REPORT", "init": "INIT", "runtime": "RUNTIME"}


def print_table(console: Console, name: str, log: Log, table: Path) -> None:
    """Print one row per invocation, of many the slowest, then the sums and where the table is."""
    shown = log.invocations
    if len(shown) > MAX_ROWS:
        shown = tuple(sorted(shown, key=lambda one: -(one.duration_ms or 0.0))[:NUM_SLOWEST])
    console.print(Text(name, "bold"), soft_wrap=True)
    console.print()
    console.print(Text(_row(COLUMNS), "dim"))
    for one in shown:
        console.print(Text(_row(_cells(one)), "" if not one.status else "bold"))
    if len(shown) < len(log.invocations):
        console.print(f"  the {len(shown)} slowest of {len(log.invocations):,}")
    console.print()
    for line in _totals(log.invocations):
        console.print(f"  {line}", soft_wrap=True)
    for line in unread(log):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"  {table}", markup=False, soft_wrap=True)


def print_lines(console: Console, lines: Sequence[LogLine]) -> None:
    """Print lines in order, one each: when, of which kind, what."""
    for line in lines:
        console.print(Text(f"{_clock(line)}  {_kind(line):<8} {_words(line)}"), soft_wrap=True)


def unread(log: Log) -> list[str]:
    """Say which lines are in another format and how many."""
    total = sum(log.unread.values())
    named = ", ".join(f"{start!r} ({count})" for start, count in log.unread.most_common(MAX_UNREAD))
    lines = "line is" if total == 1 else "lines are"
    return [f"{total:,} {lines} in another format: {named}"] if total else []


def _row(cells: Sequence[str]) -> str:
    *numbers, end = cells
    return "".join(f"{cell:>{width}}" for cell, width in zip(numbers, WIDTHS, strict=True)) + f"  {end}"


def _cells(one: Invocation) -> tuple[str, ...]:
    rank = "" if one.rank is None else f"{one.rank}" + (f".{one.attempt}" if one.attempt else "")
    end = one.status[:MAX_STATUS] or one.request_id[:8]
    times = (_ms(one.duration_ms), _ms(one.billed_ms), _ms(one.init_ms, "-"))
    return (rank, one.stage, *times, f"{_mb(one.max_memory_mb)} of {_mb(one.memory_mb)}", end)


def _totals(invocations: Sequence[Invocation]) -> list[str]:
    reported = [one for one in invocations if one.billed_ms is not None]
    billed_s = sum(one.billed_ms or 0 for one in reported) / 1000
    highest = max((one.max_memory_mb or 0 for one in reported), default=0)
    failed = sum(bool(one.status) for one in invocations)
    starts = sum(one.init_ms is not None for one in invocations)
    missing = len(invocations) - len(reported)
    return [
        f"{len(invocations):,} invocations, {starts:,} cold, {failed:,} failed; billed {billed_s:,.1f} s; "
        f"at most {highest:,} MB used",
        *([f"{missing:,} have no REPORT line: they were cut off, or the log was"] if missing else []),
    ]


def _ms(value: float | None, missing: str = "?") -> str:
    return missing if value is None else f"{value / 1000:.2f} s"


def _mb(value: int | None) -> str:
    return "?" if value is None else f"{value}"


def _clock(line: LogLine) -> str:
    if line.time_s is None:
        return " " * 12
    return f"{datetime.fromtimestamp(line.time_s, UTC):%H:%M:%S.%f}"[:12]


def _kind(line: LogLine) -> str:
    return LIFE.get(line.kind) or str(line.fields.get("level") or line.kind.upper())


def _words(line: LogLine) -> str:
    """Return what the line says, without what stands before it already."""
    if line.kind == "report":
        words = ", ".join(f"{name} {value:g}" for name, value in line.numbers.items())
        return f"{words}{', ' + line.status if line.status else ''}"
    if line.kind in ("start", "end"):
        return line.request_id
    if line.kind == "error" and "errorType" in line.fields:
        return f"{line.fields['errorType']}: {line.fields.get('errorMessage', '')}"
    if line.kind in ("ours", "text"):
        facts = [f"{name}={value}" for name, value in line.fields.items() if name not in NOT_SHOWN]
        return "  ".join([str(line.fields["message"]), *facts])
    return line.event.message.strip()
