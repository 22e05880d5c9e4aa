"""Tasks and records of runs that no one computed, in the shape and size of real ones: for what surrounds the ranks."""

import hashlib

import numpy as np

from inference import contract
from inference.clock import PhaseClock
from inference.contract import RankRecord, RankTask, RowRange
from inference.models import shipped
from inference.pipeline import Outcome, Predictions
from inference.record import Invocation, bind, make_record

INVOCATION = Invocation(
    request_id="00000000-0000-0000-0000-000000000000",
    attempt=0,
    cold_start=False,
    queue_s=0.0,
    init_s=0.0,
    function_memory_mb=1769,
    image_digest="local",
    code_version="0",
    resident_memory_bytes=2**28,
    peak_memory_bytes=2**28,
)


class NoEngine:
    """Stands for an engine in a record; predicts nothing."""

    name = "none 0"
    num_threads = 1
    weights_sha256 = "0" * 64
    num_parameters = shipped().card.num_parameters
    precision = "fp32"
    micro_batch = 1
    note: str | None = None

    def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        """Never called."""
        raise NotImplementedError


def make_tasks(run_id: str, *, world_size: int, rank_rows: int) -> list[RankTask]:
    """Return the manifest of a run with as many galaxies in every rank."""
    return [make_task(run_id, rank, world_size=world_size, rank_rows=rank_rows) for rank in range(world_size)]


def make_task(run_id: str, rank: int, *, world_size: int, rank_rows: int) -> RankTask:
    """Return one of them."""
    prefix = f"runs/{run_id}/"
    return RankTask(
        run_id=run_id,
        bucket="bench",
        data_bucket="bench",
        run_prefix=prefix,
        rank=rank,
        world_size=world_size,
        rows=(RowRange(key="d/0.safetensors", start_row=rank * rank_rows, stop_row=(rank + 1) * rank_rows),),
        num_samples=rank_rows,
        batch_size=256,
        **contract.rank_keys(prefix, rank),
    )


def make_predictions(num_rows: int, *, first_id: int = 0, seed: int = 0) -> Predictions:
    """Return labelled redshifts with a scatter of 0.01 and a flag on every seventh galaxy."""
    rng = np.random.default_rng(seed)
    object_id = np.arange(num_rows, dtype=np.int64) + first_id
    z_spec = rng.uniform(0.01, 0.4, num_rows)
    z_phot = (z_spec + rng.normal(0, 0.01, num_rows)).astype(np.float32)
    quality = (object_id % 7 == 0).astype(np.uint8)
    return Predictions(
        object_id=object_id, z_phot=z_phot, sigma=z_phot / np.float32(10), quality=quality, z_spec=z_spec
    )


def record_of(task: RankTask, predictions: Predictions) -> RankRecord:
    """Return what a rank would have recorded about these predictions."""
    clock = PhaseClock()
    with clock.phase("inference"):
        pass
    outcome, content = Outcome(predictions, ratio_95=2.0), predictions.to_npz()
    # As S3 computes it.
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    return make_record(
        task,
        outcome,
        NoEngine(),
        clock,
        INVOCATION,
        model=shipped().card,
        stored=bind(predictions, content, etag),
        request_times_s=[0.1, 0.3],
    )
