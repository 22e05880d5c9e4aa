"""A stand-in for Initialize: hands the request on, which names a manifest that already exists."""

from typing import Any


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    return {**event["request"], "seen": event}
