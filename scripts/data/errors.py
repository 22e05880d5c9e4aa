"""The error of everything that reads a user's data."""


class SourceError(Exception):
    """The data cannot be read as galaxies. The message names the file, what was found, and what to do."""
