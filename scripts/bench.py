"""`make bench`: measure speed beside the published procedure; JSON and a plot under `runs/bench/`.

Programs are measured in turn, A B A B, and compared by the ratio within each pair.
"""

import json
import os
import platform
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from scripts.benchmarks import parts
from scripts.benchmarks.show import show, show_changes
from scripts.command.exit_status import told_in_one_line
from scripts.command.repository import REPOSITORY
from scripts.command.variables import yes_or_no
from scripts.command.whole_file import write_whole

OUTPUT_DIR = REPOSITORY / "runs" / "bench"

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch")


def main(
    asked: Annotated[str, typer.Option("--quick", envvar="QUICK", help="1: fewer rows, rounds and programs.")] = "",
    base: Annotated[Path | None, typer.Option(envvar="BASE", help="Earlier result to compare with.")] = None,
) -> None:
    """Measure engines, starts, a whole rank, orchestration and data; save JSON and a PNG, print tables."""
    with told_in_one_line():
        quick = yes_or_no("QUICK", asked)
    before = _read(base)
    started_at = time.strftime("%Y%m%dT%H%M%S")
    load_before = os.getloadavg()[0]
    results: dict[str, Any] = {
        "quick": quick,
        "engines": parts.measure_engines(quick=quick),
        "starts": parts.measure_starts(quick=quick),
        "rank": parts.measure_ranks(quick=quick),
        "orchestration": parts.measure_orchestration(quick=quick),
        "generator": parts.measure_data(quick=quick),
        "machine": describe_machine(load_before),
    }
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    target = OUTPUT_DIR / f"{started_at}.json"
    write_whole(target, f"{json.dumps(results, indent=2)}\n".encode())
    from scripts.benchmarks.plot import draw

    draw(results, target.with_suffix(".png"))
    console = Console()
    show(results, console)
    if before is not None:
        show_changes(before, results, console)
    print(f"{target.relative_to(REPOSITORY)} and {target.with_suffix('.png').name}")


def describe_machine(load_before: float) -> dict[str, Any]:
    """Return what a reader must know to judge the numbers."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.processor()),
        "num_cpus": os.cpu_count(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "isa_limits": {name: os.environ[name] for name in parts.AVX2 if name in os.environ},
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES if find_spec(name)},
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def _read(base: Path | None) -> dict[str, Any] | None:
    """Read an earlier result before anything is measured, so that a wrong name costs nothing."""
    if base is None or str(base) == ".":
        return None
    try:
        found: dict[str, Any] = json.loads(base.read_text())
        _ = found["engines"], found["rank"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise typer.BadParameter(f"{base} is no result of `make bench` ({error}); they lie in runs/bench/.") from error
    return found


if __name__ == "__main__":
    typer.run(main)
