"""One execution of the state machine: start it, follow it to its end, stop it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.running.follow import LiveLine
from scripts.running.observe import Observer

POLL_S = 1.0
"""Shortest time between two looks at a run [s]."""

LOOK_SHARE = 5
"""A look at many ranks takes long; the pause after it is at least this many times longer."""


@dataclass(frozen=True)
class Ending:
    """How an execution ended."""

    status: str
    """``SUCCEEDED``, ``FAILED``, ``TIMED_OUT`` or ``ABORTED``."""

    error: str = ""
    """Class name of the error, empty when it succeeded."""

    message: str = ""
    """What the error said."""

    @property
    def succeeded(self) -> bool:
        """True when the state machine reached its end: complete, or within tolerance."""
        return self.status == "SUCCEEDED"


def start(states: Any, state_machine_arn: str, run_id: str, payload: dict[str, Any]) -> str:
    """Start an execution named after the run; return its ARN."""
    arn: str = states.start_execution(stateMachineArn=state_machine_arn, name=run_id, input=json.dumps(payload))[
        "executionArn"
    ]
    return arn


def follow(
    states: Any, execution_arn: str, observer: Observer, line: LiveLine, *, sleep: Callable[[float], None] = time.sleep
) -> Ending:
    """Show the run until its execution has ended."""
    while True:
        began_s = time.monotonic()
        description = states.describe_execution(executionArn=execution_arn)
        line.show(observer.look())
        if description["status"] != "RUNNING":
            return _ending(description)
        sleep(max(POLL_S, LOOK_SHARE * (time.monotonic() - began_s)))


def stop(states: Any, execution_arn: str) -> None:
    """Ask the execution to end."""
    states.stop_execution(executionArn=execution_arn, error="Interrupted", cause="The user stopped the run.")


def _ending(description: dict[str, Any]) -> Ending:
    cause = description.get("cause") or ""
    try:
        document = json.loads(cause)
    except json.JSONDecodeError:
        document = None
    # Lambda reports an exception as JSON with errorType and errorMessage; states report plain text.
    message = document.get("errorMessage", cause) if isinstance(document, dict) else cause
    return Ending(description["status"], description.get("error") or "", str(message))
