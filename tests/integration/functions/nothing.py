"""A function that does nothing, for measuring what surrounds it, unless its task says to fail."""

from typing import Any


class TaskRefusedError(Exception):
    """What a task with ``raise`` gets."""


def handler(event: dict[str, Any], _context: Any) -> None:
    task = event.get("task") or {}
    if task.get("raise"):
        raise TaskRefusedError(task["raise"])
