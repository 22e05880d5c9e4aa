"""The state machine's own file, followed with the handlers in this process: no waits, the same retries and catches."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from handlers import infer, initialize, summarize
from inference.contract import NO_DEADLINE_S
from tests.faults.bucket import Bucket

DEFINITION = json.loads((Path(__file__).parents[2] / "terraform" / "state_machine.asl.json").read_text())
STATES: dict[str, Any] = DEFINITION["States"]
RANK_STATES: dict[str, Any] = STATES["InferRanks"]["ItemProcessor"]["States"]

Script = Callable[[str, dict[str, Any], Callable[[], Any]], Any]
"""Called instead of a handler with the state's name, the event, and what calls the handler."""


class AwsError(Exception):
    """What AWS says of a function that did not answer: ``Runtime.ExitError``, ``States.Timeout``."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(message)
        self.name = name


class StateFailed(Exception):  # noqa: N818 -- as Step Functions calls it
    """A state has failed after its last attempt."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(cause)
        self.error, self.cause = error, cause


class Machine:
    """One execution after the other over a bucket."""

    def __init__(self, bucket: Bucket, script: Script) -> None:
        self._bucket = bucket
        self._script = script

    def run(self, name: str, request: Any, *, after: dict[str, Callable[[], object]]) -> dict[str, Any]:
        """Execute; do what is to happen after a state when it has ended.

        Raises
        ------
        StateFailed
            If the execution fails.
        """
        event = {"execution_name": name, "request": request}
        plan = self._task(STATES["Initialize"], "Initialize", lambda _attempt: event, initialize.handler)
        after.get("Initialize", _nothing)()
        # Whatever happens to the Map, Summarize is next.
        with contextlib.suppress(KeyError):
            items = json.loads(self._bucket.objects[plan["items_key"]])
            for item in items:
                self._rank(item)
        after.get("InferRanks", _nothing)()
        result = self._task(STATES["Summarize"], "Summarize", lambda _attempt: plan, summarize.handler)
        after.get("Summarize", _nothing)()
        return result

    def _rank(self, task: dict[str, Any]) -> None:
        state = "Infer"
        while state in ("Infer", "InferAtLast"):
            first = 2 if state == "InferAtLast" else 0
            try:
                self._task(
                    RANK_STATES[state],
                    state,
                    lambda attempt, first=first: {"task": task, "attempt": first + attempt},  # type: ignore[misc]
                    infer.handler,
                )
            except StateFailed as failed:
                state = next(c["Next"] for c in RANK_STATES[state]["Catch"] if _takes(c, failed.error))
                if state == "RecordFailure":
                    note = {
                        "run_id": task["run_id"],
                        "rank": task["rank"],
                        "error": failed.error,
                        "cause": failed.cause,
                    }
                    self._bucket.objects[task["failure_key"]] = json.dumps(note).encode("utf-8", "surrogatepass")
            else:
                return

    def _task(self, state: dict[str, Any], name: str, event: Callable[[int], dict[str, Any]], handler: Any) -> Any:
        used = [0] * len(state["Retry"])
        while True:
            given = json.loads(json.dumps(event(sum(used))))
            try:
                return self._script(name, given, lambda given=given: handler(given, CONTEXT))
            except Exception as error:
                failed = error.name if isinstance(error, AwsError) else type(error).__name__
                retrier = next((n for n, one in enumerate(state["Retry"]) if _takes(one, failed)), None)
                if retrier is None or used[retrier] == state["Retry"][retrier]["MaxAttempts"]:
                    raise StateFailed(failed, json.dumps({"errorMessage": str(error), "errorType": failed})) from error
                used[retrier] += 1


CONTEXT = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 1000 * NO_DEADLINE_S)


def _takes(clause: dict[str, Any], error: str) -> bool:
    return error in clause["ErrorEquals"] or clause["ErrorEquals"] == ["States.ALL"]


def _nothing() -> None:
    pass
