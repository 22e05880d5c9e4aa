"""The faults that need real processes: the state machine in the local AWS, Lambda's runtime, killed workers."""

from dataclasses import dataclass, field
from typing import Any

RANK = 2


@dataclass(frozen=True)
class Whole:
    """One fault of rank 2 of four, or of the stages; `tests.integration.functions.faulty` makes it."""

    fault: str
    """What the name of the run begins with."""

    what: str
    """What happens."""

    end: str
    """How the run ends."""

    names: str = ""
    """What the error must name."""

    request: dict[str, Any] = field(default_factory=dict)
    """Keys of the request."""


WHOLE = (
    Whole("none", "nothing", "complete"),
    Whole("raise", "an exception that no one expected", "lost: 2 ValueError", "a bug that was not expected"),
    Whole(
        "raise",
        "the same, 25 % tolerated",
        "lost: 2 ValueError (tolerated)",
        request={"tolerated_failure_percentage": 25},
    ),
    Whole("shout", "an exception with 1 MB of text", "lost: 2 ValueError", "aaaa"),
    Whole("die", "SIGKILL, always", "lost: 2 Runtime.ExitError", "signal: killed"),
    Whole("once", "SIGKILL, once", "complete"),
    Whole("after", "SIGKILL when all is done, once", "complete"),
    Whole("segfault", "SIGSEGV, always", "lost: 2 Runtime.ExitError", "segmentation fault"),
    Whole("exit", "os._exit(0)", "lost: 2 Runtime.ExitError"),
    Whole("quit", "sys.exit(3)", "lost: 2 Runtime.ExitError", "exit status 3"),
    Whole("stages", "Initialize and Summarize killed once", "complete"),
    Whole("deaf", "two invocations do not answer by the deadline", "complete"),
    Whole("hang", "a hang, until the function's timeout", "lost: 2 Sandbox.Timedout"),
)
