"""A folder of published runs: results as ``combined_data.json``, durations as CSV, joined by what their names say."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.command.errors import UsageError
from scripts.command.variables import read_text
from scripts.runs.imported.file import Record, read_published

RESULTS = "combined_data*.json"
WHOLE_GB = 12.6
"""What the published folders called `total` hold."""

NAMES = {
    "partition_mb": ("partition_mb", "partition (MB)"),
    "data_gb": ("data_gb", "data (GB)"),
    "batch_size": ("batch_size",),
    "run": ("run",),
    "end_to_end_s": ("end_to_end_s", "total_duration (s)"),
    "map_s": ("map_s", "inference_duration (s)"),
    "records": ("records",),
    "loop_max_s": ("loop_max_s",),
}
"""Column to the names that published tables give it."""

NEEDED = ("partition_mb", "data_gb", "end_to_end_s", "map_s")


@dataclass(frozen=True, order=True)
class Setting:
    """What was run."""

    shard_mb: float
    data_gb: float
    batch_size: int

    @property
    def num_ranks(self) -> int:
        """One per shard."""
        return math.ceil(self.data_gb * 1024 / self.shard_mb)


@dataclass(frozen=True)
class Duration:
    """How long a run took, by the log of its state machine [s]."""

    end_to_end_s: float
    map_s: float
    num_records: int | None = None
    """Records that were kept, where the table counts them."""

    loop_max_s: float | None = None
    """Longest loop of a rank, where the table states it [s]."""


@dataclass(frozen=True)
class PublishedRun:
    """One run of a folder."""

    setting: Setting
    run: str
    source: str
    """File of its records, seen from the folder; empty where there is none."""

    records: Sequence[Record]
    duration: Duration | None
    """None where no table has it."""


@dataclass(frozen=True)
class Kit:
    """What is in a folder."""

    runs: Sequence[PublishedRun]
    """Sorted by setting and run."""

    left_out: Sequence[str]
    """Files that could not be used, and why, in sentences."""


def read_kit(folder: Path) -> Kit:
    """Read a folder of published runs.

    Raises
    ------
    UsageError
        If there is no such folder, or nothing in it is a published run.
    """
    if not folder.is_dir():
        raise UsageError(f"FROM={folder}: there is no such folder.")
    left_out: list[str] = []
    durations: dict[tuple[Setting, str], Duration] = {}
    for (setting, run), duration in _durations(folder, left_out):
        durations[setting, _free_name(durations, setting, run)] = duration
    runs, taken = [], set()
    for path in sorted(folder.rglob(RESULTS)):
        name = path.relative_to(folder).as_posix()
        try:
            records = read_published(path)
            setting, run = _setting(name, records), _run(name)
        except UsageError as error:
            left_out.append(str(error))
            continue
        taken.add((setting, run))
        runs.append(PublishedRun(setting, run, name, records, durations.get((setting, run))))
    runs += [PublishedRun(*key, "", (), duration) for key, duration in durations.items() if key not in taken]
    if not runs:
        why = f" {left_out[0]}" if left_out else ""
        raise UsageError(
            f"FROM={folder} holds no published run: neither {RESULTS} nor a CSV with {', '.join(NEEDED)}.{why}"
        )
    return Kit(sorted(runs, key=lambda one: (one.setting, one.run, one.source)), left_out)


def _free_name(durations: Mapping[tuple[Setting, str], Duration], setting: Setting, run: str) -> str:
    """Return the name of a run, or one for another run of that name: published tables hold two first runs."""
    name, count = run, 1
    while (setting, name) in durations:
        count += 1
        name = f"{run} ({count})"
    return name


def _setting(name: str, records: Sequence[Record]) -> Setting:
    """Read what was run from the names of the folders, and the batch size from the records."""
    shard = re.search(r"(\d+(?:\.\d+)?)\s?MB", name)
    data = re.search(r"(\d+(?:\.\d+)?)\s?GB", name)
    if not shard or not (data or "total" in name):
        raise UsageError(
            f"{name} says not what was run: name its folders as in partition-25MB/12.6GB/1/, for shards and data."
        )
    batch_sizes = {int(record["batch_size"]) for record in records if record.get("batch_size")}
    batch_size = batch_sizes.pop() if len(batch_sizes) == 1 else 0
    return Setting(float(shard[1]), float(data[1]) if data else WHOLE_GB, batch_size)


def _run(name: str) -> str:
    """Return the number of the run: the last folder that is a number, and what the file's own name adds."""
    *folders, file = name.split("/")
    numbers = [part for part in folders if part.isdigit()]
    return (numbers[-1] if numbers else "1") + file.removeprefix("combined_data").removesuffix(".json")


def _durations(folder: Path, left_out: list[str]) -> Iterator[tuple[tuple[Setting, str], Duration]]:
    for path in sorted(folder.rglob("*.csv")):
        rows = list(csv.DictReader(io.StringIO(read_text("FROM", path))))
        name = path.relative_to(folder).as_posix()
        columns = {key: next((one for one in names if rows and one in rows[0]), "") for key, names in NAMES.items()}
        if missing := [key for key in NEEDED if not columns[key]]:
            left_out.append(f"{name} has no column {missing[0]}: it is no table of durations.")
            continue
        for line, row in enumerate(rows, start=2):
            found = _duration({key: row.get(column) or "" for key, column in columns.items()})
            if found:
                yield found
            else:
                left_out.append(f"{name}, line {line}, is no run: a number is missing.")


def _duration(row: Mapping[str, str]) -> tuple[tuple[Setting, str], Duration] | None:
    try:
        shard_mb, data_gb = (float(re.sub(r"\s?[MG]B$", "", row[key])) for key in ("partition_mb", "data_gb"))
        setting = Setting(shard_mb, data_gb, int(float(row["batch_size"] or 512)))
        num_records = int(row["records"]) if row["records"] else None
        loop_max_s = float(row["loop_max_s"]) if row["loop_max_s"] else None
        duration = Duration(float(row["end_to_end_s"]), float(row["map_s"]), num_records, loop_max_s)
    except ValueError:
        return None
    is_whole = min(shard_mb, data_gb, setting.batch_size, duration.map_s, duration.end_to_end_s) > 0
    return ((setting, row["run"] or "1"), duration) if is_whole and math.isfinite(duration.end_to_end_s) else None
