"""Part 1b: what starting costs: the import of each stage, and each engine from nothing to its first prediction.

Run as a program per measurement. The files it reads are in the page cache after the first round.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

STAGES = ("initialize", "summarize", "infer")


def main(program: str, started_at_s: float) -> dict[str, Any]:
    """Import a stage, or load an engine as Infer would and predict one galaxy."""
    if program in STAGES:
        importlib.import_module(f"handlers.{program}")
    else:
        _predict_first(program)
    from scripts.benchmarks.rank import peak_memory_mb

    return {
        "program": program,
        "cpu_s": time.process_time(),
        "wall_s": time.time() - started_at_s,
        "peak_memory_mb": peak_memory_mb(),
        "installed_mb": None if program in STAGES else installed_mb(program),
    }


def installed_mb(distribution: str) -> float:
    """Return the size of the files that a package installed [MB]."""
    from importlib import metadata

    paths = (Path(file.locate()) for file in metadata.files(distribution) or [])
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def _predict_first(name: str) -> None:
    import numpy as np

    from inference import engines
    from inference.checkpoints import CHECKPOINT
    from inference.predict import predict_redshift

    # What the worker imports counts as well.
    importlib.import_module("handlers.infer")
    engine = engines.load(name, CHECKPOINT, num_threads=1)
    assert engine.name.startswith(name), engine.note
    predict_redshift(engine, np.zeros((1, 5, 32, 32), np.float32), np.full((1, 5), 17.0))


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
