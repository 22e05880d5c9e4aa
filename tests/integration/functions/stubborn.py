"""A function that succeeds at its third attempt."""

from typing import Any


class TooEarlyError(Exception):
    """Raised in the first two attempts."""


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    if event["attempt"] < 2:
        raise TooEarlyError
    return event
