"""Collects the log events of a run's functions from CloudWatch.

FilterLogEvents reads all streams of a group at once, is free, and comes in pages; Logs Insights costs 0.005 USD per GB
it scans, returns 10,000 rows at most, and is cheaper nowhere here. Files exported from it are read all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from scripts.command.whole_file import write_whole
from scripts.deployment.stack import Stack
from scripts.runs.logs.invocations import Log, read_log
from scripts.runs.logs.lines import LogEvent
from scripts.runs.logs.sources import CollectedEvent

EARLIER_S, LATER_S = 60.0, 300.0
"""Clocks differ, and CloudWatch takes events in late: the window of a run is this much longer at both ends [s]."""


def log_groups(stack: Stack) -> dict[str, str]:
    """Return stage to log group."""
    named = {stage: stack.log_groups.get(stage) for stage in stack.function_names}
    return {stage: named[stage] or f"/aws/lambda/{function}" for stage, function in stack.function_names.items()}


def collect(
    logs: Any,
    groups: Mapping[str, str],
    *,
    window_s: tuple[float, float],
    rank_of: Mapping[str, int],
    run_id: str,
    tick: Callable[[int], None] = lambda _: None,
) -> tuple[Log, dict[str, list[CollectedEvent]]]:
    """Read what the functions printed while a run went on, and keep what is the run's.

    Parameters
    ----------
    logs : client
        boto3's client of CloudWatch Logs.
    groups : mapping
        Stage to log group; a group that does not exist has no events.
    window_s : tuple
        Start and end of the run [s since the epoch].
    rank_of, run_id
        See `read_log`.
    tick : callable
        Called with the number of events of every page.

    Returns
    -------
    log : Log
        The invocations of the run.
    events : dict
        Stage to the run's events, in order, for `save`.
    """
    events = [event for stage, group in groups.items() for event in _events(logs, stage, group, window_s, tick)]
    log = read_log(events, rank_of=rank_of, run_id=run_id)
    kept: dict[str, list[CollectedEvent]] = {stage: [] for stage in groups}
    for lines in log.lines.values():
        for line in lines:
            event = line.event
            kept[event.stage].append(CollectedEvent(round((event.time_s or 0.0) * 1000), event.stream, event.message))
    return log, kept


def save(folder: Path, events: Mapping[str, list[CollectedEvent]]) -> int:
    """Write ``STAGE.jsonl`` for every stage, whole or not at all; return how many events there were."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, own in events.items():
        if own:
            write_whole(folder / f"{stage}.jsonl", msgspec.json.Encoder().encode_lines(own))
    return sum(map(len, events.values()))


def _events(
    logs: Any, stage: str, group: str, window_s: tuple[float, float], tick: Callable[[int], None]
) -> Iterator[LogEvent]:
    start_s, end_s = window_s
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int((start_s - EARLIER_S) * 1000), endTime=int((end_s + LATER_S) * 1000)
    )
    try:
        for page in pages:
            tick(len(page["events"]))
            for event in page["events"]:
                yield LogEvent(event["logStreamName"], event["message"].rstrip("\n"), event["timestamp"] / 1000, stage)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
