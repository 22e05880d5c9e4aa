"""How an execution ended."""

from dataclasses import dataclass

ENDINGS = {"SUCCEEDED": "complete", "ABORTED": "stopped", "TIMED_OUT": "out of time"}


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

    @property
    def in_a_word(self) -> str:
        """What a user calls it."""
        return ENDINGS.get(self.status, self.status.lower())
