"""What the variables of the data commands must be."""

from scripts.command.errors import UsageError

DEFAULT_SHARD_MB = 10
MAX_SHARD_MB = 1_024


def shard_size_mb(text: str) -> int:
    """Read SHARD_MB, the largest shard [MiB]; 10 when not given.

    Raises
    ------
    UsageError
    """
    return whole("SHARD_MB", text or str(DEFAULT_SHARD_MB), 1, MAX_SHARD_MB)


def seed_number(text: str) -> int:
    """Read SEED; 0 when not given.

    Raises
    ------
    UsageError
    """
    return whole("SEED", text or "0", 0, 2**31 - 1)


def refuse_without_source(**given: str) -> None:
    """Refuse variables that only mean something for a SOURCE.

    Raises
    ------
    UsageError
    """
    for variable, value in given.items():
        if value:
            raise UsageError(f"{variable}={value} needs a SOURCE, as in SOURCE=my.csv.")


def whole(variable: str, text: str, low: int, high: int) -> int:
    """Read a whole number within limits.

    Raises
    ------
    UsageError
    """
    digits = text.strip().replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit() or not low <= int(digits) <= high:
        raise UsageError(f"{variable}={text} is not valid: {variable} is a whole number from {low} to {high}.")
    return int(digits)
