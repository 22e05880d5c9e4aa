"""Part 2: one whole rank in a fresh process, by phase, beside the reference procedure.

Run as a program per measurement: peak memory belongs to a process. Rows come from a file by byte range, without S3.
"""

import io
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

STARTED_S = time.perf_counter()


class FileReader:
    """Reads a shard by byte range; see `inference.block.RangeReader`."""

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        return Path(key).read_bytes()

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        with Path(key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def by_engine(name: str, shard: str, num_rows: int, num_threads: int) -> dict[str, Any]:
    """Predict a shard as Infer does."""
    from inference import engines
    from inference.calibration import calibration_path, load_calibration
    from inference.checkpoints import CHECKPOINT
    from inference.clock import PhaseClock
    from inference.contract import RankTask, RowRange, rank_keys
    from inference.pipeline import infer_rank

    clock = PhaseClock()
    task = RankTask(
        run_id="bench",
        bucket="b",
        data_bucket="b",
        run_prefix="runs/bench/",
        rank=0,
        world_size=1,
        rows=(RowRange(key=shard, start_row=0, stop_row=num_rows),),
        num_samples=num_rows,
        batch_size=512,
        **rank_keys("runs/bench/", 0),
    )
    imported_s = time.perf_counter()
    with clock.phase("model_load"):
        engine = engines.load(name, CHECKPOINT, num_threads=num_threads)
        calibration = load_calibration(calibration_path(CHECKPOINT), engine.weights_sha256)
    outcome = infer_rank(task, FileReader(), engine, clock, calibration)
    with clock.phase("upload"):
        outcome.predictions.to_npz()
    phases = {phase: clock.seconds(phase) for phase in ("model_load", "download", "inference", "upload")}
    return {"program": engine.name, "phases_s": {"import": imported_s - STARTED_S, **phases}}


def by_reference(shard: str, num_threads: int) -> dict[str, Any]:
    """Predict a shard as published: load it whole through pickle, loop under the profiler, sum its table."""
    import torch

    from inference.model.weights import load_astromae
    from tests.benchmarks import reference_loop

    imported_s = time.perf_counter()
    torch.set_num_threads(num_threads)
    model = load_astromae()
    loaded_s = time.perf_counter()
    arrays = torch.load(io.BytesIO(Path(shard).read_bytes()), weights_only=True)
    read_s = time.perf_counter()
    reference_loop.predict(model, arrays["images"], arrays["magnitudes"].float(), batch_size=512)
    phases = {
        "import": imported_s - STARTED_S,
        "model_load": loaded_s - imported_s,
        "download": read_s - loaded_s,
        "inference": time.perf_counter() - read_s,
        "upload": 0.0,
    }
    return {"program": "reference loop", "phases_s": phases}


def peak_memory_mb() -> float:
    """Return the highest memory of this program [MB].

    Linux hands getrusage's figure on to a started program, so a small one would report the size of its parent.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    name = asked.pop("program")
    if name == "reference":
        measured = by_reference(asked["published_shard"], asked["num_threads"])
    else:
        measured = by_engine(name, asked["shard"], asked["num_rows"], asked["num_threads"])
    measured["cpu_s"] = time.process_time()
    measured["wall_s"] = time.perf_counter() - STARTED_S
    measured["peak_memory_mb"] = peak_memory_mb()
    print(json.dumps(measured))
