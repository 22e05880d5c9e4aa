"""Why a catalog is not written."""

from scripts.command.errors import CommandError


class CatalogError(CommandError):
    """The run's files do not make a catalog; the message says which and what to do. Exit status 1."""
