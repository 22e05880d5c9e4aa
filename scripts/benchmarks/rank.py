"""Part 2: one whole rank in a fresh process, from the shard in S3 to the predictions in S3, next to the reference.

Run as a program per measurement: peak memory belongs to a process. The environment points at the local AWS.
"""

import io
import itertools
import json
import sys
import time
from typing import Any

BUCKET = "bench"


def by_engine(program: str, key: str, num_rows: int, num_threads: int) -> tuple[str, dict[str, float]]:
    """Predict a shard as Infer does: rows by byte range, one block ahead, cleaned, with sigma.

    Parameters
    ----------
    program : str
        An engine, and behind it a precision unless it is fp32.

    Returns
    -------
    tuple
        Name of the program and seconds by phase.
    """
    from handlers.storage import ObjectStore
    from inference import engines
    from inference.calibration import calibration_path, load_calibration
    from inference.clock import PhaseClock
    from inference.contract import RankTask, RowRange, rank_keys
    from inference.errors import WeightsError
    from inference.models import shipped
    from inference.pipeline import infer_rank

    name, precision = [*program.split(), "fp32"][:2]
    clock = PhaseClock()
    task = RankTask(
        run_id="bench",
        bucket=BUCKET,
        data_bucket=BUCKET,
        run_prefix="runs/bench/",
        rank=0,
        world_size=1,
        rows=(RowRange(key=key, start_row=0, stop_row=num_rows),),
        num_samples=num_rows,
        batch_size=512,
        profile=False,
        engine="auto",
        precision="fp32",
        bands=None,
        **rank_keys("runs/bench/", 0),
    )
    imported_at_s = time.time()
    with clock.phase("model_load"):
        engine = engines.load(name, shipped().weights, num_threads=num_threads, precision=precision)
        try:
            calibration = load_calibration(calibration_path(shipped().weights), engine.weights_sha256)
        except WeightsError:
            calibration = None
    store = ObjectStore(BUCKET)
    outcome = infer_rank(task, store, engine, clock, shipped().card, calibration)
    with clock.phase("upload"):
        store.write(task.predictions_key, outcome.predictions.to_npz())
    phases = {phase: clock.seconds(phase) for phase in ("model_load", "download", "inference", "upload")}
    library, version = engine.name.split()
    title = engine.name if precision == "fp32" else f"{library} {precision} {version}"
    return title, {"start": imported_at_s, **phases}


def by_reference(key: str, num_threads: int) -> tuple[str, dict[str, float]]:
    """Predict a shard as published: download it whole, unpickle, loop under the profiler, write what it summed."""
    import boto3
    import torch

    from inference.model.weights import load_astromae
    from inference.models import shipped
    from scripts.benchmarks import reference_loop

    torch.set_num_threads(num_threads)
    marks = [time.time()]
    model = load_astromae(shipped().weights)
    marks.append(time.time())
    s3 = boto3.client("s3")
    content = io.BytesIO(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    arrays = torch.load(content, weights_only=True)
    marks.append(time.time())
    redshifts, total_s = reference_loop.predict(model, arrays["images"], arrays["magnitudes"].float(), batch_size=512)
    marks.append(time.time())
    record = {"total_cpu_time (seconds)": total_s, "redshifts": redshifts.tolist()}
    s3.put_object(Bucket=BUCKET, Key="runs/reference/0.json", Body=json.dumps(record).encode())
    marks.append(time.time())
    spans = (after - before for before, after in itertools.pairwise(marks))
    phases = dict(zip(("model_load", "download", "inference", "upload"), spans, strict=True))
    return "reference loop", {"start": marks[0], **phases}


def main(program: str, key: str, num_rows: int, num_threads: int, started_at_s: float) -> dict[str, Any]:
    """Measure one rank; `started_at_s` is when the caller started this process."""
    if program == "reference":
        name, phases = by_reference(key, num_threads)
    else:
        name, phases = by_engine(program, key, num_rows, num_threads)
    from handlers.invocation import peak_memory_bytes

    phases["start"] -= started_at_s
    return {
        "program": name,
        "phases_s": phases,
        "wall_s": time.time() - started_at_s,
        "cpu_s": time.process_time(),
        "peak_memory_mb": peak_memory_bytes() / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
