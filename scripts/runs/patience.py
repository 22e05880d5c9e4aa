"""How long nothing of a run may change: as long as the state machine itself waits and tries again."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from inference.contract import NO_DEADLINE_S
from scripts.local_aws.deploy import DEFINITION_PATH


@cache
def longest_quiet_s() -> float:
    """Return how long the most patient state takes: all its waits before retries, and the attempt that answers [s]."""
    definition = json.loads(DEFINITION_PATH.read_text(encoding="utf-8"))
    return max(_longest_s(state) for state in _tasks(definition))


def _tasks(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for state in document["States"].values():
        if state["Type"] == "Task":
            yield state
        if state["Type"] == "Map":
            yield from _tasks(state["ItemProcessor"])


def _longest_s(state: Mapping[str, Any]) -> float:
    waits_s = sum(sum(_waits_s(retrier)) for retrier in state["Retry"])
    return waits_s + float(state.get("TimeoutSeconds", NO_DEADLINE_S))


def _waits_s(retrier: Mapping[str, Any]) -> Iterator[float]:
    for attempt in range(retrier["MaxAttempts"]):
        wait_s = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** attempt
        yield float(min(wait_s, retrier.get("MaxDelaySeconds", wait_s)))
