"""How a command ends: its exit status, and the errors that end it in one line."""

from typing import ClassVar

from inference.text import printable

COMPLETE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """The command cannot continue; the message is all its user reads: what happened, to which object, what to do."""

    status: ClassVar[int] = FAILED
    """Exit status it ends with."""

    def __init__(self, *arguments: object) -> None:
        # It may name what a stranger's file holds.
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in arguments))


class UsageError(CommandError):
    """What was asked for cannot be done; the message names the variable."""

    status = WRONG_USAGE


class SourceError(CommandError):
    """A source of galaxies cannot be read."""
