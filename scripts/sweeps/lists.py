"""The lists of a sweep as a user gives them: behind make, or in a YAML file; every mistake named."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from scripts.command.errors import UsageError
from scripts.command.variables import read_text, read_value
from scripts.runs.variables import RequestVariables
from scripts.sweeps.plan import LISTS, SweepPlan

MAX_RUNS = 10_000
KEYS = tuple(name for name in SweepPlan.__struct_fields__ if name != "model_sha256")
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
    asked = {key: (f"SWEEP={source}: {key}", value) for key, value in (_read_file(source) if source else {}).items()}
    asked |= {key: (key.upper(), text) for key in KEYS if (text := given.get(key.upper(), "").strip())}
    plan = SweepPlan(**{key: _read(key, words, _elements(value)) for key, (words, value) in asked.items()})
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


def _read(key: str, words: str, elements: Sequence[object]) -> Any:
    # What `make run` has too is read as there; an element of a list is one such value.
    kind = {**get_type_hints(SweepPlan, include_extras=True), **get_type_hints(RequestVariables, include_extras=True)}[
        key
    ]
    if key in LISTS and key not in RequestVariables.__struct_fields__:
        kind = get_args(kind)[0]
    values = [read_value(key.upper(), str(element).strip(), kind, words=words) for element in elements]
    if len(set(values)) < len(values):
        twice = next(value for number, value in enumerate(values) if value in values[:number])
        raise UsageError(f"{words} names {twice} twice.")
    if key in LISTS:
        return tuple(values)
    if len(values) != 1:
        raise UsageError(f"{words} is one value, not {len(values)}.")
    return values[0]
