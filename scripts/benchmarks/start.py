"""Part 1b: what starting costs: the import of each stage, and from nothing to the first prediction of each engine.

Run as a program per measurement. The files it reads are in the page cache after the first round.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STAGES = ("initialize", "summarize", "infer")
LIBRARY = "load_model"
"""What a program of your own calls, instead of Infer."""


def main(program: str, started_at_s: float) -> dict[str, Any]:
    """Import a stage, or predict one galaxy: with an engine loaded as Infer does, or through `load_model`."""
    if program in STAGES:
        importlib.import_module(f"handlers.{program}")
    elif program == LIBRARY:
        _predict_in_a_program()
    else:
        _predict_first(program)
    from handlers.invocation import peak_memory_bytes

    return {
        "program": program,
        "cpu_s": time.process_time(),
        "wall_s": time.time() - started_at_s,
        "peak_memory_mb": peak_memory_bytes() / 2**20,
        "installed_mb": None if program in (*STAGES, LIBRARY) else installed_mb(program),
    }


def installed_mb(engine: str) -> float:
    """Return the size of the files that the package of an engine installed [MB]; of native, libraries and weights."""
    from importlib import metadata

    if engine == "native":
        from inference.engines.native.library import FOLDER
        from inference.models import SHIPPED

        paths: Iterable[Path] = [*FOLDER.glob("*.so"), *SHIPPED.glob("*.native")]
    else:
        paths = (Path(file.locate()) for file in metadata.files(engine) or [])
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def _predict_first(name: str) -> None:
    import numpy as np

    from inference import engines
    from inference.models import shipped
    from inference.predict import predict_values

    # What the worker imports counts as well.
    importlib.import_module("handlers.infer")
    engine = engines.load(name, shipped().weights, num_threads=1)
    assert engine.name.startswith(name), engine.note
    predict_values(engine, np.zeros((1, 5, 32, 32), np.float32), np.full((1, 5), 17.0))


def _predict_in_a_program() -> None:
    import numpy as np

    from inference import load_model

    load_model().predict(np.zeros((1, 5, 32, 32), np.float32), np.full((1, 5), 17.0))


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
