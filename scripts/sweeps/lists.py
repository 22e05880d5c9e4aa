"""The lists of a sweep as a user gives them: behind make, or in a YAML file; every mistake named."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.command.errors import UsageError
from scripts.command.variables import read_text
from scripts.runs.variables import TARGETS, read_request_value
from scripts.sweeps.plan import LISTS, SweepPlan

MIN_MEMORY_MB, MAX_MEMORY_MB = 128, 10_240
MAX_REPEAT = 1000
MAX_RUNS = 10_000

AS_IN_RUN = ("WORLD", "BATCH", "FILES", "ENGINE", "PRECISION", "PROFILE")
"""Variables whose every element is one of `make run`."""

KEYS = (*LISTS, "repeat", "seed", "tolerate", "target")
"""Of the YAML file: the variables in small letters."""

VARIABLES = tuple(key.upper() for key in KEYS if key != "target")
"""What makes a sweep another one."""


def read_plan(given: Mapping[str, str]) -> SweepPlan:
    """Return the sweep that the variables and, for what they leave out, the file behind SWEEP ask for.

    Raises
    ------
    UsageError
        If a value is none of its variable, twice in its list, or a key of the file unknown.
    """
    source = given.get("SWEEP", "").strip()
    asked: dict[str, tuple[str, list[Any]]] = {}
    for key, value in (_read_file(source) if source else {}).items():
        asked[key] = (f"SWEEP={source}: {key}", _elements(value))
    for name in (key.upper() for key in KEYS):
        if given.get(name, "").strip():
            asked[name.lower()] = (name, _elements(given[name]))
    plan = SweepPlan(**{key: _parse(key, words, values) for key, (words, values) in asked.items()})
    if not any(getattr(plan, name) for name in LISTS) and plan.repeat == 1:
        raise UsageError(
            "A sweep needs a list, such as WORLD=1,2,4,8 BATCH=32,256 REPEAT=3, or SWEEP=file.yaml; `make` shows all."
        )
    if len(plan.settings) * plan.repeat > MAX_RUNS:
        raise UsageError(f"That is {len(plan.settings) * plan.repeat:,} runs; a sweep has at most {MAX_RUNS:,}.")
    return plan


def _read_file(source: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(read_text("SWEEP", Path(source)))
    except yaml.YAMLError as error:
        raise UsageError(f"SWEEP={source} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(document, dict):
        raise UsageError(f"SWEEP={source} holds no keys; a sweep is written as `world: [1, 2, 4]`, one key a line.")
    for key in document:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key).lower(), KEYS, n=1, cutoff=0.6)
            meant = f" Did you mean `{close[0]}`?" if close else ""
            raise UsageError(f"SWEEP={source} has the unknown key `{key}`.{meant} Known are {', '.join(KEYS)}.")
    return document


def _elements(value: object) -> list[Any]:
    """Return the elements of a list, or of a text with commas."""
    if isinstance(value, list):
        return value
    return value.split(",") if isinstance(value, str) else [value]


def _parse(key: str, words: str, elements: Sequence[object]) -> Any:
    values = [_element(key, words, element) for element in elements]
    if len(set(values)) < len(values):
        twice = next(value for number, value in enumerate(values) if value in values[:number])
        raise UsageError(f"{words} names {twice} twice.")
    if key in LISTS:
        return tuple(values)
    if len(values) != 1:
        raise UsageError(f"{words} is one value, not {len(values)}.")
    return values[0]


def _element(key: str, words: str, element: object) -> Any:
    text = str(element).strip()
    name = key.upper()
    if name in AS_IN_RUN:
        return read_request_value(name, text, words=words)
    convert, expects = OTHERS[key]
    try:
        return convert(text)
    except ValueError as error:
        raise UsageError(f"{words}={text} is not valid: {name} is {expects}.") from error


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise ValueError(text)
        return value

    return convert


def _number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if not low <= (value := float(text)) <= high:
            raise ValueError(text)
        return value

    return convert


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _target(text: str) -> str:
    if text not in TARGETS:
        raise ValueError(text)
    return text


OTHERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "memory": (_whole(MIN_MEMORY_MB, MAX_MEMORY_MB), f"whole megabytes from {MIN_MEMORY_MB} to {MAX_MEMORY_MB}"),
    "shard_mb": (_whole(1, 10_000), "a largest size of shards in whole megabytes from 1, such as 25"),
    "data": (_name, "datasets under datasets/, such as sdss or sdss/10MB"),
    "repeat": (_whole(1, MAX_REPEAT), f"a whole number from 1 to {MAX_REPEAT}"),
    "seed": (_whole(0, 2**63 - 1), "a whole number from 0"),
    "tolerate": (_number(0, 100), "a percentage from 0 to 100"),
    "target": (_target, " or ".join(TARGETS)),
}
"""Variables that `make run` does not have, or has not as a list: how each is read, and what it must be."""
