"""The invocations behind a log: lines put together by request id, and joined to the ranks of a run."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from scripts.command.whole_file import write_whole
from scripts.pricing.cost import LOG_EVENT_BYTES
from scripts.runs.logs.lines import LogEvent, LogLine, parse

STAGES = ("initialize", "infer", "summarize")


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation: a row of ``logs.csv``. What the log does not state is empty there."""

    stage: str = ""
    """``initialize``, ``infer`` or ``summarize``."""

    rank: int | None = None
    """The rank it worked for."""

    attempt: int | None = None
    """Earlier attempts of the rank."""

    request_id: str
    """Lambda's name of it."""

    started_at_s: float | None = None
    """Its first line [s since the epoch]."""

    duration_ms: float | None = None
    """The handler's time [ms]."""

    billed_ms: int | None = None
    """What Lambda bills [ms]."""

    memory_mb: int | None = None
    """Configured memory [MB]."""

    max_memory_mb: int | None = None
    """Highest memory used [MB]."""

    init_ms: float | None = None
    """Start of the process, where this was its first invocation [ms]."""

    status: str = ""
    """``timeout``, ``error`` …; empty when it succeeded."""

    num_lines: int = 0
    """Log events."""

    log_bytes: int = 0
    """Their size as CloudWatch counts it [bytes]."""

    stream: str = ""
    """Log stream."""


@dataclass(frozen=True)
class Log:
    """A log, read."""

    lines: Mapping[str, list[LogLine]]
    """Request id to its lines, in order; lines that belong to none under an empty id."""

    invocations: tuple[Invocation, ...]
    """One per request id, by rank, then by time."""

    unread: Counter[str] = field(default_factory=Counter)
    """Start of a line in another format to how many there were."""

    def of_rank(self, rank: int) -> list[LogLine]:
        """Return the lines of all attempts of a rank, in order."""
        return [line for one in self.invocations if one.rank == rank for line in self.lines[one.request_id]]


def read_log(
    events: Iterable[LogEvent], *, rank_of: Mapping[str, int], run_id: str = "", is_all_ours: bool = False
) -> Log:
    """Put the events of a run's functions together.

    Parameters
    ----------
    events : iterable of LogEvent
        Of any number of streams; those of one stream in order.
    rank_of : mapping of str to int
        Request id to rank, from the records and the failures.
    run_id : str
        The run; lines that name it, or one of its request ids, are its own. All are kept when it is empty.
    is_all_ours : bool
        True where nothing else can be in the log.
    """
    lines: dict[str, list[LogLine]] = {}
    current: dict[str, str] = {}
    before: dict[str, list[LogLine]] = {}
    for event in events:
        line = parse(event)
        stream = f"{event.stage}/{event.stream}"
        request_id = line.request_id or current.get(stream, "")
        if not request_id:
            before.setdefault(stream, []).append(line)
            continue
        # A process starts before its first invocation has a name: those lines are that invocation's.
        own = lines.setdefault(request_id, before.pop(stream, []))
        own.append(line)
        current[stream] = "" if line.kind == "report" else request_id
    lines[""] = [line for rest in before.values() for line in rest]
    if run_id and not is_all_ours:
        lines = {name: own for name, own in lines.items() if _is_own(name, own, rank_of, run_id)}
    invocations = [_invocation(request_id, own, rank_of) for request_id, own in lines.items() if request_id]
    invocations.sort(key=lambda one: (one.rank is None, one.rank or 0, one.attempt or 0, one.started_at_s or 0.0))
    unread = Counter(
        line.event.message.strip()[:60] for own in lines.values() for line in own if line.kind == "unknown"
    )
    return Log(lines, tuple(invocations), unread)


def write_csv(path: Path, invocations: Sequence[Invocation]) -> None:
    """Write one row per invocation, whole or not at all."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(Invocation.__struct_fields__)
    for one in invocations:
        table.writerow("" if value is None else value for value in msgspec.structs.astuple(one))
    write_whole(path, buffer.getvalue().encode())


def read_csv(path: Path) -> list[Invocation] | None:
    """Return what `write_csv` wrote; None where there is no such file, or it is another one."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        given = [{name: value for name, value in row.items() if value} for row in rows]
        return msgspec.convert(given, list[Invocation], strict=False)
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.ValidationError):
        return None


def _is_own(request_id: str, lines: Sequence[LogLine], rank_of: Mapping[str, int], run_id: str) -> bool:
    return request_id in rank_of or any(line.fields.get("run_id") == run_id for line in lines)


def _invocation(request_id: str, lines: Sequence[LogLine], rank_of: Mapping[str, int]) -> Invocation:
    numbers: dict[str, float] = {}
    for line in lines:
        numbers.update(line.numbers)
    stated = {name: _first(lines, name) for name in ("rank", "attempt")}
    rank = rank_of.get(request_id, stated["rank"])
    return Invocation(
        stage=next((line.event.stage for line in lines if line.event.stage), "") or _stage(lines),
        rank=rank,
        attempt=stated["attempt"],
        request_id=request_id,
        started_at_s=min((line.time_s for line in lines if line.time_s is not None), default=None),
        duration_ms=numbers.get("duration_ms"),
        billed_ms=_whole(numbers.get("billed_ms")),
        memory_mb=_whole(numbers.get("memory_mb")),
        max_memory_mb=_whole(numbers.get("max_memory_mb")),
        init_ms=numbers.get("init_ms"),
        status=_status(lines),
        num_lines=len(lines),
        log_bytes=sum(len(line.event.message.encode()) + LOG_EVENT_BYTES for line in lines),
        stream=lines[0].event.stream,
    )


def _status(lines: Sequence[LogLine]) -> str:
    stated = next((line.status for line in lines if line.kind == "report" and line.status), "")
    failed = next((line for line in lines if line.kind == "error"), None)
    return stated or (str(failed.fields.get("errorType", "error")) if failed else "")


def _first(lines: Sequence[LogLine], name: str) -> int | None:
    values = (line.fields.get(name) for line in lines)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _stage(lines: Sequence[LogLine]) -> str:
    """Return the stage whose logger wrote one of the lines."""
    loggers = [str(line.fields.get("logger", "")).rpartition("handlers.")[2] for line in lines]
    return next((name for name in loggers if name in STAGES), "")


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
