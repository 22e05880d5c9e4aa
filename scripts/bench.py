"""`make bench`: measure speed beside the published procedure; JSON and a plot under `runs/bench/`.

Every measurement is a process of its own (`tests/benchmarks/`), because libraries take their threads once and peak
memory belongs to a process. Programs are measured in turn, A B A B, and compared by the ratio within each pair.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
OUTPUT_DIR = ROOT / "runs" / "bench"
ROWS_PER_MB = 51.13
"""Galaxies per MB of shard: 5,113 in 100 MB, as published."""

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rows and rounds: three minutes.")] = False,
    base: Annotated[Path | None, typer.Option(envvar="BASE", help="Earlier result to compare with.")] = None,
) -> None:
    """Measure engines, a whole rank, Summarize and the generator; save JSON and a PNG, print tables."""
    before = json.loads(base.read_text()) if base and str(base) != "." else None
    started_at = time.strftime("%Y%m%dT%H%M%S")
    load_before = os.getloadavg()[0]
    results: dict[str, Any] = {
        "engines": measure_engines(quick=quick),
        "rank": measure_ranks(quick=quick),
        "orchestration": measure_orchestration(quick=quick),
        "generator": _measure("generator", {"num_rows": 256 if quick else 2048}),
    }
    results["machine"] = describe_machine(load_before)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    target = OUTPUT_DIR / f"{started_at}.json"
    target.write_text(json.dumps(results, indent=2) + "\n")
    from tests.benchmarks.plot import draw

    draw(results, target.with_suffix(".png"))
    show(results)
    if before is not None:
        show_changes(before, results)
    print(f"{target.relative_to(ROOT)} and {target.with_suffix('.png').name}")


def measure_engines(*, quick: bool) -> list[dict[str, Any]]:
    """Part 1: engines against the reference loop, by asked batch size and threads."""
    lines = []
    rounds = 2 if quick else 7
    for num_threads in (1,) if quick else (1, 2):
        if num_threads > (os.cpu_count() or 1):
            continue
        for batch_size in (32, 512):
            asked = {"batch_size": batch_size, "num_rows": max(batch_size, 128), "rounds": rounds}
            lines += _measure("engines", {"num_threads": num_threads, **asked})
    return lines


def measure_ranks(*, quick: bool) -> list[dict[str, Any]]:
    """Part 2: a whole rank in a fresh process."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for shard_mb in (10,) if quick else (25, 100):
            num_rows = round(shard_mb * ROWS_PER_MB)
            shards = make_shards(Path(folder), num_rows)
            for program in ("reference", "onnxruntime") if quick else ("reference", "torch", "onnxruntime", "openvino"):
                asked = {"program": program, "num_rows": num_rows, "num_threads": 1, **shards}
                lines.append({"shard_mb": shard_mb, **_measure("rank", asked)})
    return lines


def measure_orchestration(*, quick: bool) -> list[dict[str, Any]]:
    """Part 3: Summarize by number of records."""
    counts = [10, 100, 1_000] if quick else [10, 100, 1_000, 10_240]
    asked = {"num_records": counts, "num_stored": counts[:2] if quick else counts[:3]}
    lines: list[dict[str, Any]] = _measure("orchestration", asked)
    return lines


def make_shards(folder: Path, num_rows: int) -> dict[str, str]:
    """Write real galaxies, repeated as often as needed, as our shard and as the published one."""
    import numpy as np
    import torch
    from safetensors.numpy import load_file, save_file

    from scripts.dataset import ensure_sample

    arrays = load_file(ensure_sample() / "0.safetensors")
    repeated = {name: np.resize(array, (num_rows, *array.shape[1:])) for name, array in arrays.items()}
    ours, published = folder / f"{num_rows}.safetensors", folder / f"{num_rows}.pt"
    save_file(repeated, ours)
    torch.save({name: torch.from_numpy(array) for name, array in repeated.items()}, published)
    return {"shard": str(ours), "published_shard": str(published)}


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
        "isa_limits": {name: os.environ[name] for name in ISA_LIMITS if name in os.environ},
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES if find_spec(name)},
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def show(results: dict[str, Any]) -> None:
    """Print the four parts."""
    console = Console()
    table = Table("thr", "batch", "program", "per CPU s", "per wall s", "ratio", "pairs", "roofline", title="Engines")
    for line in results["engines"]:
        ratio = line["cpu_ratio"]
        table.add_row(
            str(line["num_threads"]),
            str(line["batch_size"]),
            line["program"].split("+")[0],
            f"{line['samples_per_cpu_s']:.0f}",
            f"{line['samples_per_wall_s']:.0f}",
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f} to {ratio['max']:.2f}",
            f"{line['roofline_share']:.0%}",
        )
    console.print(table)
    table = Table("shard", "program", "wall s", "CPU s", "peak MB", title="A whole rank in a fresh process, 1 thread")
    for line in results["rank"]:
        numbers = f"{line['wall_s']:.1f}", f"{line['cpu_s']:.1f}", f"{line['peak_memory_mb']:.0f}"
        table.add_row(f"{line['shard_mb']} MB", line["program"], *numbers)
    console.print(table)
    for line in results["orchestration"]:
        console.print(f"{line['program']}, {line['num_records']} records: {line['seconds']:.3f} s")
    for line in results["generator"]:
        console.print(f"{line['program']}: {line['rows_per_cpu_s']:.0f} rows per CPU second")


def show_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print how the ratios to the reference loop moved; rates of another moment would compare the load."""
    table = Table("threads", "batch", "program", "before", "after", "change", title="Ratio to the reference loop")

    def library(line: dict[str, Any]) -> tuple[int, int, str]:
        return line["num_threads"], line["batch_size"], line["program"].split()[0]

    earlier = {library(line): line["cpu_ratio"]["median"] for line in before["engines"]}
    for line in after["engines"]:
        if library(line) in earlier:
            old, new = earlier[library(line)], line["cpu_ratio"]["median"]
            names = (str(part) for part in library(line))
            table.add_row(*names, f"{old:.2f}", f"{new:.2f}", f"{new / old - 1:+.0%}")
    Console().print(table)


def _measure(part: str, asked: dict[str, Any]) -> Any:
    """Run one program of tests/benchmarks and return what it printed."""
    print(f"measuring {part} {asked.get('program', '')} …", file=sys.stderr)
    command = [sys.executable, "-m", f"tests.benchmarks.{part}", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    # torch's profiler writes lines of its own.
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    typer.run(main)
