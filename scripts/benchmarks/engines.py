"""Part 1: engines by asked batch size against the reference loop, and how much of the machine they use.

Run as a program with the number of threads: libraries take their threads, and the instructions that the environment
limits them to, once per process.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from inference import engines
from inference.checksum import file_sha256
from inference.engines.folded import Affine, Dense
from inference.engines.native.engine import NativeEngine
from inference.engines.torch import PackedDense
from inference.errors import EngineError
from inference.model.weights import load_astromae
from inference.models import shipped
from inference.predict import Engine, predict_values
from scripts.benchmarks import reference_loop
from scripts.benchmarks.pairs import measure
from scripts.data.sample import ensure_sample

MFLOP_PER_SAMPLE = 221.5
"""Of the published network; the folded one needs 3 % less and is credited with the same work."""

REFERENCE = "reference loop"


def main(num_threads: int, batch_size: int, num_rows: int, rounds: int) -> list[dict[str, Any]]:
    """Measure every engine that is present for one asked batch size."""
    shard = load_file(ensure_sample() / "0.safetensors")
    images, magnitudes = np.resize(shard["images"], (num_rows, 5, 32, 32)), shard["magnitudes"]
    magnitudes = np.resize(magnitudes, (num_rows, 5))
    torch.set_num_threads(num_threads)
    model = load_astromae(shipped().weights)
    tensors = torch.tensor(images), torch.tensor(magnitudes, dtype=torch.float32)
    present = load_engines(num_threads)
    programs: dict[str, Callable[[], object]] = {
        REFERENCE: lambda: reference_loop.predict(model, *tensors, batch_size=batch_size)
    }
    for name, engine in present.items():
        programs[name] = partial(predict_values, engine, images, magnitudes)
    programs["fp32 GEMM"] = _gemm
    lines = measure(programs, num_rows=num_rows, reference=REFERENCE, rounds=rounds)
    _add_rooflines(lines, num_rows)
    with torch.inference_mode():
        wanted = model(tensors[0][:64], tensors[1][:64]).numpy()
    for line in lines:
        if line["program"] in present:
            found = predict_values(present[line["program"]], images[:64], magnitudes[:64])
            line["max_abs_difference"] = float(np.abs(found - wanted).max())
    return [{"num_threads": num_threads, "batch_size": batch_size, **line} for line in lines]


def load_engines(num_threads: int) -> dict[str, Engine]:
    """Load every engine that is present, and int8 where it was found accurate enough, under a name with its version."""
    weights = shipped().weights
    loaded = [(name, engines.load(name, weights, num_threads=num_threads)) for name in engines.NAMES]
    present = {engine.name: engine for name, engine in loaded if engine.name.startswith(name)}
    if "ONEDNN_MAX_CPU_ISA" in os.environ and any(name.startswith("native") for name in present):
        limited = NativeEngine(weights, file_sha256(weights), num_threads=num_threads, instructions="avx2")
        present = {limited.name if name.startswith("native") else name: one for name, one in present.items()}
        present[limited.name] = limited
    for name in ("native", "onnxruntime"):
        try:
            int8 = engines.load(name, weights, num_threads=num_threads, precision="int8")
        except EngineError as error:
            print(error, file=sys.stderr)
            continue
        library, version = int8.name.split()
        present[f"{library} int8 {version}"] = int8
    return present


def _gemm() -> None:
    """Multiply matrices as large as a CPU likes them, with oneDNN: its practical peak.

    torch's own linear goes through MKL, which computes with AVX2 on AMD whatever the CPU has.
    """
    with torch.inference_mode():
        for _ in range(GEMM_REPEATS):
            GEMM_LAYER(GEMM_ROWS)


GEMM_REPEATS = 3
GEMM_SIDE = 1536
GEMM_ROWS = torch.randn(GEMM_SIDE, GEMM_SIDE)
GEMM_LAYER = PackedDense(Dense(Affine(torch.randn(GEMM_SIDE, GEMM_SIDE), torch.zeros(GEMM_SIDE))))
GEMM_FLOP = 2 * GEMM_SIDE**3 * GEMM_REPEATS


def _add_rooflines(lines: list[dict[str, Any]], num_rows: int) -> None:
    """Turn the GEMM's time into the number of galaxies it is worth, and every rate into a share of it."""
    gemm = lines[-1]
    worth = GEMM_FLOP / (MFLOP_PER_SAMPLE * 1e6) / num_rows
    for key in ("samples_per_cpu_s", "samples_per_wall_s"):
        gemm[key] *= worth
    for key in ("cpu_ratio", "wall_ratio"):
        gemm[key] = {name: value * worth for name, value in gemm[key].items()}
    for line in lines:
        line["roofline_share"] = line["samples_per_cpu_s"] / gemm["samples_per_cpu_s"]


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
