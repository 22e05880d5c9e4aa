"""The parts of `make bench`: which programs run, how often, and with which threads and instructions.

Every measurement is a process of its own (`scripts/benchmarks/`), because libraries take their threads and instructions
once and peak memory belongs to a process. Programs take turns, A B A B.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inference.engines import NAMES, why_rejected
from inference.engines.native.prepare import can_prepare
from inference.models import shipped
from scripts.benchmarks.machine import AVX2, describe_machine
from scripts.benchmarks.pairs import merge_rounds
from scripts.command.repository import REPOSITORY
from scripts.local_aws.server import LocalAws

ROWS_PER_MB = 51.13
"""Galaxies per MB of shard: 5,113 in 100 MB, as published."""

BUCKET = "bench"
Lines = list[dict[str, Any]]


def measure_all(*, quick: bool) -> dict[str, Any]:
    """Measure every part; the names are those of the file that `make bench` writes."""
    load_before = os.getloadavg()[0]
    return {
        "quick": quick,
        "engines": measure_engines(quick=quick),
        "starts": measure_starts(quick=quick),
        "rank": measure_ranks(quick=quick),
        "orchestration": measure_orchestration(quick=quick),
        "generator": measure_data(quick=quick),
        "collectives": measure_collectives(quick=quick),
        "machine": describe_machine(load_before),
    }


def measure_engines(*, quick: bool) -> Lines:
    """Part 1: engines against the reference loop, by asked batch size, threads and instructions."""
    lines: Lines = []
    rounds = 2 if quick else 7
    for instructions, limits in (("native", {}),) if quick else (("native", {}), ("avx2", AVX2)):
        for num_threads in (1,) if quick else thread_counts(os.cpu_count() or 1):
            for batch_size in (32, 512) if instructions == "native" else (512,):
                num_rows = max(batch_size, 64 if quick else 128)
                asked = {"num_threads": num_threads, "batch_size": batch_size, "num_rows": num_rows, "rounds": rounds}
                found = run_program("engines", asked, limits)
                lines += [{"instructions": instructions, **line} for line in found]
    return lines


def thread_counts(num_cpus: int) -> list[int]:
    """Return 1, 2, 4, … up to the CPUs of the machine, at most the six that Lambda gives."""
    return [count for count in (1, 2, 4, 6) if count <= num_cpus]


def measure_starts(*, quick: bool) -> Lines:
    """Part 1b: from the start of a process to an imported stage, or to a first prediction."""
    from scripts.benchmarks.start import LIBRARY, STAGES

    engines = present_engines()
    programs = (engines[0], LIBRARY) if quick else (*STAGES, *engines, LIBRARY)
    rounds = [[run_fresh("start", {"program": name}) for name in programs] for _ in range(2 if quick else 7)]
    return merge_rounds(rounds, reference="torch")


def present_engines() -> list[str]:
    """Return the engines of this machine, the one that `auto` takes first."""
    return [name for name in NAMES if (can_prepare() if name == "native" else find_spec(name))]


def measure_ranks(*, quick: bool) -> Lines:
    """Part 2: a whole rank in a fresh process, from the local AWS and back, compared with the reference procedure."""
    engines = present_engines()[:1] if quick else present_engines()[::-1]
    if "native" in engines and not quick and not why_rejected(shipped(), "int8"):
        engines.append("native int8")
    lines: Lines = []
    with tempfile.TemporaryDirectory() as folder, LocalAws(log_dir=Path(folder) / "logs", workers=1) as aws:
        for shard_mb in (5,) if quick else (25, 100):
            num_rows = round(shard_mb * ROWS_PER_MB)
            ours, published = upload_shards(aws, Path(folder), num_rows)
            asked = {"num_rows": num_rows, "num_threads": 1}
            programs = [{"program": "reference", "key": published, **asked}]
            programs += [{"program": name, "key": ours, **asked} for name in engines]
            num_rounds = 1 if quick else 3
            rounds = [[run_fresh("rank", program, aws.environment) for program in programs] for _ in range(num_rounds)]
            lines += [{"shard_mb": shard_mb, **line} for line in merge_rounds(rounds, reference="reference loop")]
    return lines


def measure_orchestration(*, quick: bool) -> Lines:
    """Part 3: the state machine by number of ranks, Summarize by number of records."""
    counts = {
        "num_records": [10, 100, 1_000] if quick else [10, 100, 1_000, 10_240],
        "num_stored": [10, 100] if quick else [10, 100, 1_000, 10_240],
        "num_ranks": [30] if quick else [10, 100, 1_000],
    }
    lines: Lines = run_program("orchestration", counts)
    return lines


def measure_data(*, quick: bool) -> Lines:
    """Part 4: generator and cleaning."""
    lines: Lines = run_program("generator", {"num_rows": 256 if quick else 5120})
    return lines


def measure_collectives(*, quick: bool) -> Lines:
    """Part 5: barrier and sums of ranks that talk, next to OpenMPI and gloo."""
    rounds = 2 if quick else 7
    sizes = (2,) if quick else (2, 4, 8)
    return [line for size in sizes for line in run_program("collectives", {"num_ranks": size, "rounds": rounds})]


def upload_shards(aws: LocalAws, folder: Path, num_rows: int) -> tuple[str, str]:
    """Put real galaxies, repeated as often as needed, into S3: as our shard and as a pickled one. Returns the keys."""
    import boto3
    import numpy as np
    import torch
    from safetensors.numpy import load_file, save_file

    from scripts.data.sample import ensure_sample

    arrays = load_file(ensure_sample() / "0.safetensors")
    repeated = {name: np.resize(array, (num_rows, *array.shape[1:])) for name, array in arrays.items()}
    keys = f"{num_rows}.safetensors", f"{num_rows}.pt"
    save_file(repeated, folder / keys[0])
    torch.save({name: torch.from_numpy(array) for name, array in repeated.items()}, folder / keys[1])
    s3 = boto3.client("s3", **aws.credentials)
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=(folder / key).read_bytes())
        (folder / key).unlink()
    return keys


def run_fresh(part: str, asked: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a program that also measures its own start."""
    line: dict[str, Any] = run_program(part, {**asked, "started_at_s": time.time()}, environment or {})
    return line


def run_program(part: str, asked: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Run one program of this folder and return what it printed."""
    print(f"measuring {part} {_words(asked)} …", file=sys.stderr)
    command: Sequence[str] = [sys.executable, "-m", f"scripts.benchmarks.{part}", json.dumps(asked)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    # torch's profiler writes lines of its own.
    return json.loads(done.stdout.strip().splitlines()[-1])


def _words(asked: Mapping[str, Any]) -> str:
    return " ".join(
        str(asked[name]) for name in ("program", "num_threads", "batch_size", "key", "num_ranks") if name in asked
    )
