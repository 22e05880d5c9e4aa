"""One line of a function's log: what kind it is, whose invocation it belongs to, and what it states."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from inference.text import printable, printable_json

Kind = Literal["start", "end", "report", "init", "runtime", "ours", "metrics", "error", "text", "unknown"]
"""``ours``: a line of our loggers; ``runtime``: of Lambda's own, without numbers we use; ``metrics``: embedded metrics;
``error``: an exception or a timeout; ``text``: Python's text format; ``unknown``: none of these."""

REQUEST = r"(?P<request_id>[0-9a-fA-F][0-9a-fA-F-]{7,})"
START = re.compile(rf"START RequestId: {REQUEST}\b")
END = re.compile(rf"END RequestId: {REQUEST}\b")
REPORT = re.compile(rf"REPORT RequestId: {REQUEST}\b(?P<rest>.*)", re.DOTALL)
LOST = re.compile(rf"RequestId: {REQUEST} (?:Process exited|Error: )")
TIMED_OUT = re.compile(rf"\S+ {REQUEST} Task timed out")
RAISED = re.compile(r"\[ERROR\] (?P<type>[A-Za-z_][\w.]*): (?P<message>.*)", re.DOTALL)
TEXT = re.compile(rf"\[(?P<level>[A-Z]+)\]\t(?P<time>\S+Z)\t{REQUEST}\t(?P<message>.*)", re.DOTALL)
INIT = re.compile(r"(INIT_START|INIT_REPORT|EXTENSION|LOGS|TELEMETRY)\b")
REPORT_FIELDS = {
    "duration_ms": re.compile(r"(?<!Billed )(?<!Init )(?<!Restore )Duration: ([\d.]+) ms"),
    "billed_ms": re.compile(r"(?<!Restore )Billed Duration: ([\d.]+) ms"),
    "memory_mb": re.compile(r"Memory Size: (\d+) MB"),
    "max_memory_mb": re.compile(r"Max Memory Used: (\d+) MB"),
    "init_ms": re.compile(r"Init Duration: ([\d.]+) ms"),
}
REPORT_METRICS = {
    "duration_ms": "durationMs",
    "billed_ms": "billedDurationMs",
    "memory_mb": "memorySizeMB",
    "max_memory_mb": "maxMemoryUsedMB",
    "init_ms": "initDurationMs",
}
STATUS = re.compile(r"\bStatus: (\w+)")
PLATFORM_KINDS: dict[str, Kind] = {
    "platform.start": "start",
    "platform.report": "report",
    "platform.initStart": "init",
    "platform.initReport": "init",
    "platform.initRuntimeDone": "init",
}


@dataclass(frozen=True)
class LogEvent:
    """One event as CloudWatch keeps it, or one line of a file."""

    stream: str
    """Log stream, or the file's name: events of one stream are in order."""

    message: str
    """The text, without the line's end."""

    time_s: float | None = None
    """When [s since the epoch]; None where only the text may state it."""

    stage: str = ""
    """Stage of the function, where the source states it."""

    def __post_init__(self) -> None:
        # A line may be JSON, in which control characters are escaped.
        text = (
            printable_json(self.message.encode(errors="replace")).decode() if self.message[:1] == "{" else self.message
        )
        object.__setattr__(self, "message", printable(text))


@dataclass(frozen=True)
class LogLine:
    """What an event states."""

    kind: Kind
    event: LogEvent
    request_id: str = ""
    """Invocation it names; empty where it names none."""

    time_s: float | None = None
    """When [s since the epoch]."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    """Of a report: see `REPORT_FIELDS`."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of a line in JSON: its object."""

    status: str = ""
    """Of a report that is not a success: ``timeout``, ``error`` …"""


def parse(event: LogEvent) -> LogLine:
    """Read one event; one in another format is ``unknown``, never an error."""
    text = event.message.strip()
    if text.startswith("{"):
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            return LogLine("unknown", event, time_s=event.time_s)
        return _parse_json(event, document)
    return _parse_text(event, text)


def _parse_json(event: LogEvent, document: dict[str, Any]) -> LogLine:
    platform = str(document.get("type", ""))
    time_s = event.time_s or seconds(document.get("timestamp") or document.get("time"))
    if platform.startswith("platform.") and isinstance(document.get("record"), dict):
        return _parse_platform(event, platform, document["record"], time_s)
    request_id = str(document.get("requestId") or document.get("AWSRequestId") or "")
    kind: Kind = "unknown"
    if "errorType" in document or "errorMessage" in document:
        kind = "error"
    elif "message" in document and "level" in document:
        kind = "ours"  # embedded metrics may be in it
    elif "_aws" in document:
        kind = "metrics"
    return LogLine(kind, event, request_id, time_s, fields=document)


def _parse_platform(event: LogEvent, kind: str, record: dict[str, Any], time_s: float | None) -> LogLine:
    metrics = record.get("metrics")
    stated = metrics if isinstance(metrics, dict) and kind == "platform.report" else {}
    numbers = {name: float(stated[key]) for name, key in REPORT_METRICS.items() if key in stated}
    status = str(record.get("errorType") or record.get("status", "success"))
    return LogLine(
        PLATFORM_KINDS.get(kind, "runtime"),
        event,
        str(record.get("requestId", "")),
        time_s,
        numbers,
        record,
        "" if status == "success" else status,
    )


def _parse_text(event: LogEvent, text: str) -> LogLine:
    if found := REPORT.match(text):
        numbers = {name: float(hit[1]) for name, field in REPORT_FIELDS.items() if (hit := field.search(found["rest"]))}
        status = STATUS.search(found["rest"])
        return LogLine("report", event, found["request_id"], event.time_s, numbers, status=status[1] if status else "")
    for kind, pattern in (("start", START), ("end", END)):
        if found := pattern.match(text):
            return LogLine("start" if kind == "start" else "end", event, found["request_id"], event.time_s)
    if found := LOST.match(text) or TIMED_OUT.match(text):
        return LogLine("error", event, found["request_id"], event.time_s, fields={"errorMessage": text})
    if found := RAISED.match(text):
        raised = {"errorType": found["type"], "errorMessage": found["message"].partition("\n")[0]}
        return LogLine("error", event, time_s=event.time_s, fields=raised)
    if found := TEXT.match(text):
        fields = {"level": found["level"], "message": found["message"]}
        return LogLine("text", event, found["request_id"], event.time_s or seconds(found["time"]), fields=fields)
    return LogLine("init" if INIT.match(text) else "unknown", event, time_s=event.time_s)


def seconds(value: object) -> float | None:
    """Return milliseconds, or an ISO 8601 date (UTC where it names no zone), as seconds since the epoch; else None."""
    text = str(value or "").strip()
    if text.isdigit():
        return int(text) / 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
