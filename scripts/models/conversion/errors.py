"""Why a checkpoint is not converted."""


class ConversionError(Exception):
    """The file is not what it should be; the message says what was found and what to do. Exit status 1."""
