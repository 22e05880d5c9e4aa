"""One execution of the state machine: start it, follow it to its end, stop it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from botocore.exceptions import ClientError

from inference.summary import message_of
from inference.text import printable
from scripts.command.aws_errors import is_throttled
from scripts.command.errors import CommandError
from scripts.runs.ending import Ending
from scripts.runs.observe import Progress, Watcher
from scripts.runs.patience import longest_quiet_s

POLL_S = 1.0
"""Shortest time between two looks at a run [s]."""

MAX_POLL_S = 30.0
"""Longest pause when AWS throttles [s]; each throttled look doubles it."""

LOOK_SHARE = 5
"""A look at many ranks takes long; the pause after it is at least this many times longer, but no longer than above."""


class Line(Protocol):
    """What shows how far a run is."""

    def show(self, progress: Progress) -> None:
        """Show the newest look at it."""


def execution_arn(state_machine_arn: str, run_id: str) -> str:
    """Return the ARN that the execution of a run has."""
    return f"{state_machine_arn.replace(':stateMachine:', ':execution:')}:{run_id}"


def start(states: Any, state_machine_arn: str, run_id: str, payload: dict[str, Any]) -> str:
    """Start an execution named after the run; return its ARN."""
    arn: str = states.start_execution(stateMachineArn=state_machine_arn, name=run_id, input=json.dumps(payload))[
        "executionArn"
    ]
    return arn


def follow(
    states: Any,
    execution_arn: str,
    watcher: Watcher,
    line: Line,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Ending:
    """Show the run until its execution has ended.

    Raises
    ------
    CommandError
        If nothing has changed for longer than the state machine's own retries take.
    """
    pause_s, patience_s = POLL_S, longest_quiet_s()
    seen, changed_s = None, now()
    while True:
        began_s = now()
        try:
            description = states.describe_execution(executionArn=execution_arn)
            progress = watcher.look()
            line.show(progress)
            pause_s = POLL_S
            facts = (description["status"], replace(progress, elapsed_s=0.0, rows_per_s=0.0))
            if facts != seen:
                seen, changed_s = facts, now()
        except ClientError as error:
            # The quotas of these calls are the account's: another program may have used them up.
            if not is_throttled(error):
                raise
            description, pause_s = {"status": "RUNNING"}, min(2 * pause_s, MAX_POLL_S)
        if description["status"] != "RUNNING":
            return ending(description)
        if now() - changed_s > patience_s:
            raise CommandError(
                f"Nothing of the run has changed for {patience_s / 60:.0f} minutes, longer than all attempts of a rank "
                "take: its state machine hangs, or is out of reach."
            )
        sleep(min(max(pause_s, LOOK_SHARE * (now() - began_s)), MAX_POLL_S))


def stop(states: Any, execution_arn: str) -> None:
    """Ask the execution to end."""
    states.stop_execution(executionArn=execution_arn, error="Interrupted", cause="The user stopped the run.")


def stop_children(
    states: Any, execution_arn: str, *, wait_s: float = 10.0, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Wait until no rank of a stopped execution runs any more; stop those that do; return how many those were.

    Step Functions ends the Map Run of a stopped execution by itself, within seconds: this makes sure of it.
    """
    for _ in range(int(wait_s / POLL_S)):
        running = [arn for arn, one in map_runs(states, execution_arn).items() if one["status"] == "RUNNING"]
        if not running:
            return 0
        sleep(POLL_S)
    try:
        children = [child for map_run_arn in running for child in _running_children(states, map_run_arn)]
    except ClientError as error:
        # Express children can be neither listed nor stopped; they end within five minutes.
        if error.response["Error"]["Code"] != "StateMachineTypeNotSupported":
            raise
        return 0
    for child in children:
        stop(states, child)
    return len(children)


def map_runs(states: Any, execution_arn: str) -> dict[str, Any]:
    """Return the Map Runs of an execution, by their ARN what DescribeMapRun says of each."""
    arns = [map_run["mapRunArn"] for map_run in states.list_map_runs(executionArn=execution_arn)["mapRuns"]]
    return {arn: states.describe_map_run(mapRunArn=arn) for arn in arns}


def _running_children(states: Any, map_run_arn: str) -> list[str]:
    pages = states.get_paginator("list_executions").paginate(mapRunArn=map_run_arn, statusFilter="RUNNING")
    return [child["executionArn"] for page in pages for child in page["executions"]]


def ending(description: Mapping[str, Any]) -> Ending:
    """Read from the answer of DescribeExecution how an execution ended."""
    error, cause = (description.get(name) or "" for name in ("error", "cause"))
    return Ending(description["status"], printable(error), message_of(cause))
