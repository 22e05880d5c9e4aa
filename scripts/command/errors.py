"""How a command ends: its exit status, and the errors that end it in one line."""

from typing import ClassVar

COMPLETE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """The command cannot continue; the message is all its user reads: what happened, to which object, what to do."""

    status: ClassVar[int] = FAILED
    """Exit status it ends with."""


class UsageError(CommandError):
    """What was asked for cannot be done; the message names the variable."""

    status = WRONG_USAGE


class SourceError(CommandError):
    """A source of galaxies cannot be read."""
