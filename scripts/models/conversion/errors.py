"""Why a checkpoint is not converted."""

from scripts.command.errors import CommandError


class ConversionError(CommandError):
    """The file is not what it should be; the message says what was found and what to do. Exit status 1."""
