"""Fills a RankRecord: the published keys from their published definitions, and ours."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference import metrics
from inference.checksum import without_crc32
from inference.clock import PhaseClock
from inference.contract import Payload, RankClock, RankRecord, RankTask, StoredPredictions
from inference.distributions import kind
from inference.models.card import ModelCard
from inference.pipeline import Outcome, Predictions
from inference.predict import Engine
from inference.quality import Quality

MIB = 2**20


class Invocation(Payload, frozen=True, kw_only=True):
    """Facts about one invocation that only its process knows."""

    request_id: str
    """Lambda request id."""

    attempt: int
    """Earlier attempts of this rank."""

    cold_start: bool
    """True for the first invocation of the process."""

    queue_s: float
    """From the Map entering the iteration to the handler [s]."""

    init_s: float
    """Start of the process to the handler's module being ready; 0 when warm [s]."""

    function_memory_mb: int
    """Configured memory of the function [MB]."""

    image_digest: str
    """Digest of the container image."""

    code_version: str
    """Version of this code."""

    resident_memory_bytes: int
    """Memory of the process after inference [bytes]."""

    peak_memory_bytes: int
    """Highest memory of the process so far [bytes]."""


def make_record(
    task: RankTask,
    outcome: Outcome,
    engine: Engine,
    clock: PhaseClock,
    invocation: Invocation,
    *,
    model: ModelCard,
    stored: StoredPredictions,
    request_times_s: Sequence[float],
    sigma_note: str | None = None,
) -> RankRecord:
    """Describe what a rank did.

    Parameters
    ----------
    task, outcome, engine, clock, invocation
        The rank's work, its result, and where and when it ran.
    model : ModelCard
        What predicted.
    stored : StoredPredictions
        The rank's predictions as they were written.
    request_times_s : sequence of float
        Duration of every request to S3 so far [s].
    sigma_note : str, optional
        Why no sigma is known, where it is not.

    References
    ----------
    Keys and definitions of the first block: Staylor et al. 2025 (arXiv:2501.06249) and its published result files.
    """
    # T, the published loop time: what the profiler summed, or the wall time of the loop.
    loop_s = outcome.profile.cpu_time_s if outcome.profile else clock.seconds("inference")
    row_bytes = model.inputs.row_bytes
    images_mb = task.batch_size * row_bytes / MIB
    model_mb = engine.num_parameters * 4 / MIB
    process_mb = invocation.resident_memory_bytes / MIB
    predictions = outcome.predictions
    with clock.phase("record"):
        sums = metrics.accuracy_sums(
            predictions.z_phot, predictions.z_spec, predictions.sigma, ratio_95=outcome.ratio_95 or math.nan
        )
        residuals = metrics.pack_residuals(metrics.normalised_residuals(predictions.z_phot, predictions.z_spec))
    return RankRecord(
        total_cpu_time_s=loop_s,
        total_cpu_memory_mb=outcome.profile.allocated_bytes / 1e6 if outcome.profile else None,
        total_process_memory_mb=process_mb,
        library_overhead_memory_mb=process_mb - model_mb - images_mb,
        total_image_memory_mb=images_mb,
        total_model_memory_mb=model_mb,
        execution_time_s_per_batch=loop_s * task.batch_size / task.num_samples,
        num_batches=math.ceil(task.num_samples / task.batch_size),
        batch_size=task.batch_size,
        device="cpu",
        throughput_bps=row_bytes * 8 * task.num_samples / loop_s,
        sample_persec=task.num_samples / loop_s,
        result_path=task.run_prefix,
        data_path=task.rows[0].key,
        s3_num_requests=len(request_times_s),
        s3_total_time=sum(request_times_s),
        s3_avg_time=sum(request_times_s) / max(len(request_times_s), 1),
        s3_min_time=min(request_times_s, default=0.0),
        s3_max_time=max(request_times_s, default=0.0),
        run_id=task.run_id,
        rank=task.rank,
        world_size=task.world_size,
        num_samples=task.num_samples,
        attempt=invocation.attempt,
        cold_start=invocation.cold_start,
        clock=RankClock(
            queue=invocation.queue_s,
            init=invocation.init_s,
            model_load=clock.seconds("model_load"),
            download=clock.seconds("download"),
            inference=clock.seconds("inference"),
            upload=clock.seconds("upload"),
            record=clock.seconds("record"),
            total=clock.total,
        ),
        peak_memory_bytes=invocation.peak_memory_bytes,
        accuracy=sums,
        predictions_key=task.predictions_key,
        predictions=stored,
        inputs=tuple(map(without_crc32, task.rows)),
        engine=engine.name,
        precision=engine.precision,
        engine_note=engine.note,
        num_threads=engine.num_threads,
        model=model.name,
        weights_sha256=engine.weights_sha256,
        code_version=invocation.code_version,
        image_digest=invocation.image_digest,
        request_id=invocation.request_id,
        function_memory_mb=invocation.function_memory_mb,
        started_at_s=clock.started_at_s,
        num_flagged=count_flags(predictions.quality),
        ratio_95=outcome.ratio_95,
        sigma_note=sigma_note,
        bits_per_row=row_bytes * 8,
        pz=None if predictions.pz is None else kind(predictions.pz),
        residuals=residuals,
    )


def bind(predictions: Predictions, content: bytes, etag: str) -> StoredPredictions:
    """Say which predictions a record is about.

    Parameters
    ----------
    predictions : Predictions
        What the rank predicted.
    content : bytes
        The same as it was written.
    etag : str
        What S3 answered.
    """
    return StoredPredictions(
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        etag=etag,
        num_rows=len(predictions.object_id),
        first_id=int(predictions.object_id[0]),
        last_id=int(predictions.object_id[-1]),
    )


def count_flags(quality: NDArray[np.uint8]) -> dict[str, int]:
    """Return name of a flag to the galaxies that carry it, without the flags that none carries."""
    counts = {str(flag.name): int(((quality & flag) != 0).sum()) for flag in Quality}
    return {name: count for name, count in counts.items() if count}
