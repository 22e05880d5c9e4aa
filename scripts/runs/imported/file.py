"""Reads ``combined_data.json`` as it was published: one object per rank, our own keys present or not."""

import json
import math
from pathlib import Path
from typing import Any

from inference.contract import PUBLISHED_RECORD_KEYS
from inference.text import printable_json
from scripts.command.errors import UsageError
from scripts.command.variables import read_text

TIME_KEY = PUBLISHED_RECORD_KEYS["total_cpu_time_s"]
NUMBERS = (
    *PUBLISHED_RECORD_KEYS.values(),
    "num_batches",
    "batch_size",
    "throughput_bps",
    "sample_persec",
    "s3_num_requests",
    "s3_total_time",
    "s3_avg_time",
    "s3_min_time",
    "s3_max_time",
)
"""Published keys that hold a number; some files hold it as a text."""

NEEDED = (TIME_KEY, "throughput_bps", "sample_persec", PUBLISHED_RECORD_KEYS["execution_time_s_per_batch"])
"""A record with none of these is not a rank's."""

Record = dict[str, Any]


def read_published(path: Path) -> list[Record]:
    """Return the records of a file, numbers as numbers, everything else as it is there.

    Raises
    ------
    UsageError
        If the file is missing, cut off, no list of records, or a number is none; the message names the record.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"FILE={path} is no file.")
    try:
        found = json.loads(printable_json(read_text("FILE", path).encode()))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"FILE={path} is not whole JSON: {error}. Fetch it again.") from error
    if not isinstance(found, list):
        raise UsageError(f"FILE={path} holds a {type(found).__name__}; combined_data.json is a list of records.")
    if not found:
        raise UsageError(f"FILE={path} holds no record.")
    return [_record(path, number, value) for number, value in enumerate(found)]


def _record(path: Path, number: int, value: object) -> Record:
    if not isinstance(value, dict):
        raise UsageError(f"FILE={path}, record {number}, is a {type(value).__name__}; a record is a JSON object.")
    if not any(value.get(key) is not None for key in NEEDED):
        raise UsageError(f"FILE={path}, record {number}, has none of the keys {', '.join(map(repr, NEEDED))}.")
    return {key: _number(path, number, key, item) if key in NUMBERS else item for key, item in value.items()}


def _number(path: Path, number: int, key: str, value: object) -> int | float | None:
    if value is None:
        return None
    found = _float(value)
    if found is not None:
        return found
    raise UsageError(f"FILE={path}, record {number}: `{key}` is {json.dumps(value)}, not a number.")


def _float(value: object) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return found if math.isfinite(found) else None
