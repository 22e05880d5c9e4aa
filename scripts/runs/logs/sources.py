"""Where log events come from: the files of a run here, what was collected from CloudWatch, an exported CSV file."""

import csv
from collections.abc import Iterator
from pathlib import Path

import msgspec

from scripts.command.errors import UsageError
from scripts.runs.logs.lines import LogEvent, seconds

SERVER_LOG = "server.log"
MESSAGE_COLUMNS = ("message", "@message")
TIME_COLUMNS = ("timestamp", "@timestamp")
STREAM_COLUMNS = ("logStreamName", "@logStream", "logStream")
MAX_FIELD_BYTES = 2**20
"""A CloudWatch event has at most 1 MB."""


class CollectedEvent(msgspec.Struct, frozen=True):
    """One line of ``logs/STAGE.jsonl``: an event as CloudWatch answered."""

    timestamp: int
    """[ms since the epoch]"""

    stream: str
    message: str


def events_of_run(folder: Path) -> Iterator[LogEvent]:
    """Yield what the workers of a run printed, as far as it is in the run's folder."""
    for path in sorted((folder / "logs").glob("*.jsonl")):
        yield from _collected(path)
    for path in sorted((folder / "logs").glob("*.log")):
        if path.name != SERVER_LOG:
            yield from _printed(path)


def events_of_export(path: Path) -> Iterator[LogEvent]:
    """Yield the events of a file exported from the CloudWatch console or from Logs Insights.

    Raises
    ------
    UsageError
        If the file cannot be read or has no column of messages.
    """
    csv.field_size_limit(MAX_FIELD_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or ())
            message, time, stream = (
                _column(columns, names) for names in (MESSAGE_COLUMNS, TIME_COLUMNS, STREAM_COLUMNS)
            )
            if not message:
                found = ", ".join(columns[:5]) or "nothing"
                raise UsageError(
                    f"FILE={path}: a log export has the column message or @message; this file has {found}."
                )
            events = [
                LogEvent(row.get(stream) or path.name, (row[message] or "").rstrip("\r\n"), seconds(row.get(time)))
                for row in table
                if row[message]
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"FILE={path} cannot be read: {error}.") from error
    # The console exports the newest first when it shows them so; events of one millisecond keep their order.
    if events and (events[0].time_s or 0.0) > (events[-1].time_s or 0.0):
        events.reverse()
    return iter(sorted(events, key=lambda event: event.time_s or 0.0))


def _collected(path: Path) -> Iterator[LogEvent]:
    for line in path.read_bytes().splitlines():
        try:
            event = msgspec.json.decode(line, type=CollectedEvent)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield LogEvent(path.name, line.decode(errors="replace"), stage=path.stem)
        else:
            yield LogEvent(event.stream, event.message.rstrip("\n"), event.timestamp / 1000, path.stem)


def _printed(path: Path) -> Iterator[LogEvent]:
    stage = path.stem.rpartition("-")[0]
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip():
            yield LogEvent(path.stem, line, stage=stage)


def _column(columns: list[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in columns), "")
