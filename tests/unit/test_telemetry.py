"""The log lines of the handlers are embedded metric format, as AWS specifies it, in Lambda's JSON log format."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from awslambdaric.lambda_runtime_log_utils import JsonFormatter
from msgspec import Meta

from handlers import telemetry

UNIT = (
    "^(Seconds|Microseconds|Milliseconds|Bytes|Kilobytes|Megabytes|Gigabytes|Percent|Count|Bytes/Second|Count/Second)$"
)
Name = Annotated[str, Meta(min_length=1, max_length=255)]


# The JSON schema at the end of AWS's specification (the address stands in handlers/telemetry.py), as types.
class MetricDefinition(msgspec.Struct, forbid_unknown_fields=True):
    Name: Name
    Unit: Annotated[str, Meta(pattern=UNIT)]


class MetricDirective(msgspec.Struct, forbid_unknown_fields=True):
    Namespace: Name
    Dimensions: Annotated[list[Annotated[list[Name], Meta(max_length=9)]], Meta(min_length=1)]
    Metrics: Annotated[list[MetricDefinition], Meta(min_length=1, max_length=100)]


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    Timestamp: int
    CloudWatchMetrics: list[MetricDirective]


class Root(msgspec.Struct):
    metadata: Metadata = msgspec.field(name="_aws")


def log_line(**extra: object) -> str:
    """Return what Lambda's own formatter makes of a message with `extra`."""
    record = logging.getLogger("handlers").makeRecord("handlers", logging.INFO, "f", 1, "done", (), None, extra=extra)
    return JsonFormatter().format(record)


def references(root: Root) -> Iterator[tuple[str, type]]:
    """Yield the members of the line that must be there, and what they must be."""
    for directive in root.metadata.CloudWatchMetrics:
        yield from ((name, str) for names in directive.Dimensions for name in names)
        yield from ((metric.Name, float) for metric in directive.Metrics)


def check(line: str) -> dict[str, Any]:
    """Refuse a line that is not embedded metric format."""
    members: dict[str, Any] = json.loads(line)
    for name, kind in references(msgspec.json.decode(line, type=Root)):
        assert isinstance(members[name], (int, kind)), name
    return members


def test_a_line_of_lambda_s_json_log_is_embedded_metric_format() -> None:
    members = check(log_line(run_id="a", **telemetry.embed("photo-z-infer", rows=511, rows_per_s=170.5)))

    assert members["rows"] == 511
    assert members["function_name"] == "photo-z-infer"
    assert members["message"] == "done"


def test_a_line_is_of_now_as_cloudwatch_counts_time() -> None:
    timestamp_ms = msgspec.json.decode(log_line(**telemetry.embed("f", rows=1)), type=Root).metadata.Timestamp

    # CloudWatch drops what is older than two weeks or two hours ahead.
    assert timestamp_ms == pytest.approx(time.time() * 1000, abs=60_000)


def test_every_metric_has_a_unit_of_cloudwatch() -> None:
    check(log_line(**telemetry.embed("f", **dict.fromkeys(telemetry.UNITS, 1.0))))


def test_the_function_is_the_only_dimension() -> None:
    line = log_line(rank=3, **telemetry.embed("f", rows=1))

    (directive,) = msgspec.json.decode(line, type=Root).metadata.CloudWatchMetrics
    assert directive.Dimensions == [["function_name"]]


def test_no_member_of_the_line_hides_a_metric() -> None:
    own = json.loads(log_line())

    assert not set(own) & {*telemetry.UNITS, "function_name", "_aws"}


def test_a_metric_nobody_described_is_a_bug() -> None:
    with pytest.raises(KeyError, match="galaxies"):
        telemetry.embed("f", galaxies=3)


def test_the_check_itself_refuses_a_metric_without_its_value() -> None:
    members = json.loads(log_line(**telemetry.embed("f", rows=1)))
    del members["rows"]

    with pytest.raises(KeyError, match="rows"):
        check(json.dumps(members))
