"""Prints what `make bench` measured, and what changed since an earlier result."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.command.errors import UsageError

Line = dict[str, Any]


def read_earlier(path: Path) -> dict[str, Any]:
    """Read an earlier result.

    Raises
    ------
    UsageError
        If the file is none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        _ = found["engines"], found["rank"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"BASE={path} is not a result of `make bench` ({error}); they are in runs/bench/.") from error
    return found


def show(results: dict[str, Any], console: Console) -> None:
    """Print the parts."""
    _show_engines(results["engines"], console)
    _show_starts(results["starts"], console)
    _show_ranks(results["rank"], console)
    table = Table("program", "number", "seconds", "ms each", "CPU s", title="Orchestration")
    for line in results["orchestration"]:
        cpu = f"{line['cpu_s']:.2f}" if "cpu_s" in line else ""
        each = f"{1e3 * line['seconds_per_rank']:.2f}"
        table.add_row(line["program"], f"{line['num_records']:,}", f"{line['seconds']:.3f}", each, cpu)
    console.print(table)
    table = Table("program", "rows per CPU second", title="Data")
    for line in results["generator"]:
        table.add_row(line["program"], f"{line['rows_per_cpu_s']:,.0f}")
    console.print(table)
    _show_collectives(results["collectives"], console)


def show_changes(before: dict[str, Any], after: dict[str, Any], console: Console) -> None:
    """Print how the ratios to the reference loop moved; rates of another moment would compare the load."""
    table = Table("what", "before", "after", "change", title="Ratio to the reference")
    earlier = _ratios(before)
    for name, new in _ratios(after).items():
        if name in earlier:
            old = earlier[name]
            table.add_row(name, f"{old:.2f}", f"{new:.2f}", f"{new / old - 1:+.0%}")
    console.print(table)


def _ratios(results: dict[str, Any]) -> dict[str, float]:
    """Return the CPU ratio of every engine, whatever its version, and of every whole rank."""
    ratios = {}
    for line in results["engines"]:
        if _name(line) == "reference loop":
            continue
        where = f"{line['num_threads']} thr, batch {line['batch_size']}, {line.get('instructions', 'native')}"
        ratios[f"{_name(line)}, {where}"] = line["cpu_ratio"]["median"]
    for line in results["rank"]:
        if "cpu_ratio" in line and _name(line) != "reference loop":
            ratios[f"{_name(line)}, whole rank, {line['shard_mb']} MB"] = line["cpu_ratio"]["median"]
    return ratios


def _show_engines(lines: list[Line], console: Console) -> None:
    for instructions in dict.fromkeys(line["instructions"] for line in lines):
        limited = instructions != "native"
        table = Table(title=f"Engines, {instructions} instructions")
        for name in ("thr", "batch", "program", "/CPU s", "ratio", "pairs", "wall", "roof"):
            table.add_column(name, no_wrap=True)
        for line in (line for line in lines if line["instructions"] == instructions):
            ratio = line["cpu_ratio"]
            table.add_row(
                str(line["num_threads"]),
                str(line["batch_size"]),
                _name(line) + ("*" if limited and _library(line) in ("onnxruntime", "openvino") else ""),
                f"{line['samples_per_cpu_s']:.0f}",
                f"{ratio['median']:.2f}",
                f"{ratio['min']:.2f}-{ratio['max']:.2f}",
                f"{line['wall_ratio']['median']:.2f}",
                f"{line['roofline_share']:.0%}",
            )
        ratios = "ratio, pairs: per CPU second, against the reference loop; wall: by the clock"
        table.caption = f"{ratios}\n* chooses its instructions by the CPU alone" if limited else ratios
        console.print(table)


def _show_starts(lines: list[Line], console: Console) -> None:
    table = Table("program", "CPU s", "wall s", "peak MB", "installed MB", title="Start of a fresh process")
    for line in lines:
        installed = f"{line['installed_mb']:.0f}" if line["installed_mb"] else ""
        seconds = f"{line['cpu_s']:.2f}", f"{line['wall_s']:.2f}"
        table.add_row(line["program"], *seconds, f"{line['peak_memory_mb']:.0f}", installed)
    console.print(table)


def _show_ranks(lines: list[Line], console: Console) -> None:
    title = "A whole rank in a fresh process, 1 thread, local AWS"
    table = Table("shard", "program", "wall s", "ratio", "CPU s", "ratio", "peak MB", title=title)
    for line in lines:
        table.add_row(
            f"{line['shard_mb']} MB",
            _name(line),
            f"{line['wall_s']:.1f}",
            f"{line['wall_ratio']['median']:.2f}",
            f"{line['cpu_s']:.1f}",
            f"{line['cpu_ratio']['median']:.2f}",
            f"{line['peak_memory_mb']:.0f}",
        )
    console.print(table)


def _show_collectives(lines: list[Line], console: Console) -> None:
    table = Table("ranks", "call", "program", "us", "ours / it", "pairs", title="Ranks that talk, over loopback")
    for line in lines:
        ratio = line["our_ratio"]
        table.add_row(
            str(line["num_ranks"]),
            line["call"],
            line["program"],
            f"{line['microseconds']:,.0f}",
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f}-{ratio['max']:.2f}",
        )
    console.print(table)


def _library(line: Line) -> str:
    return str(line["program"]).split()[0]


def _name(line: Line) -> str:
    """Return the program without its version, which the JSON has; 80 columns have no room for it."""
    name, _, version = str(line["program"]).rpartition(" ")
    return name if version[:1].isdigit() else str(line["program"])
