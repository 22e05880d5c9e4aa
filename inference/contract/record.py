"""``ranks/<rank>.json``: what one rank did, measured and counted; and the note of one that failed."""

from inference.contract.comm import CommReport
from inference.contract.payload import Count, NonEmpty, Payload, Positive, Seconds
from inference.contract.run import RowRange

BITS_PER_ROW = 164_160
"""One galaxy as published: 5·32·32 float32 and 5 float64 [bit]."""


class AccuracySums(Payload, frozen=True, kw_only=True):
    """Sums over galaxies with a spectroscopic redshift; sums of ranks add up to sums of the run."""

    num_labelled: Count = 0
    """Galaxies with a spectroscopic redshift."""

    sum_dz: float = 0.0
    """Sum of dz = (z_phot - z_spec) / (1 + z_spec)."""

    sum_abs_error: float = 0.0
    """Sum of abs(z_phot - z_spec)."""

    sum_squared_error: float = 0.0
    """Sum of (z_phot - z_spec) squared."""

    sum_z_spec: float = 0.0
    """Sum of z_spec."""

    sum_squared_z_spec: float = 0.0
    """Sum of z_spec squared."""

    num_outliers_005: Count = 0
    """Galaxies with abs(dz) > 0.05."""

    num_outliers_015: Count = 0
    """Galaxies with abs(dz) > 0.15."""

    num_with_sigma: Count = 0
    """Galaxies that also have a sigma; none where the weights have no calibration."""

    num_within_68: Count = 0
    """Of these, galaxies with abs(z_phot - z_spec) <= sigma."""

    num_within_95: Count | None = 0
    """Of these, galaxies within the half-width of the 95 % interval; null where that is not known."""


class RankClock(Payload, frozen=True, kw_only=True):
    """Where a rank's time went. The phases model_load … record add up to `total` within 2 %."""

    queue: Seconds
    """From the Map entering the iteration to the handler's first line [s]; includes a cold start."""

    init: Seconds
    """Starting the process and importing the code; 0 when warm [s]. Lambda bills it, outside the duration."""

    model_load: Seconds
    """Loading the engine and its weights; 0 when warm [s]."""

    download: Seconds
    """Waiting for rows and decoding them [s]."""

    inference: Seconds
    """Computing redshifts [s]."""

    upload: Seconds
    """Writing the predictions [s]."""

    total: Seconds
    """The handler from its first line to the record [s]. Encoding and writing the record, which reports this, come
    after: the worker's log has them as ``record_write_s``."""

    record: Seconds = 0.0
    """Describing the rank: accuracy, memory, versions [s]."""


PUBLISHED_RECORD_KEYS = {
    "total_cpu_time_s": "total_cpu_time (seconds)",
    "total_cpu_memory_mb": "total_cpu_memory (MB)",
    "total_process_memory_mb": "total_process_memory (MB)",
    "library_overhead_memory_mb": "library_overhead_memory (MB)",
    "total_image_memory_mb": "total_image_memory (MB)",
    "total_model_memory_mb": "total_model_memory (MB)",
    "execution_time_s_per_batch": "execution_time (seconds/batch)",
}
"""Our field name to the published key; the other published keys are spelled as our fields are."""


class StoredPredictions(Payload, frozen=True, kw_only=True):
    """The very predictions that a rank wrote: what is stored under its `predictions_key` must be these bytes."""

    size_bytes: Positive
    """Size of the object [bytes]."""

    sha256: str
    """Checksum of its content, hexadecimal."""

    etag: str
    """Entity tag that S3 gave it, as a listing repeats it: proves the content without reading it."""

    num_rows: Positive
    """Galaxies in it."""

    first_id: int
    """Identifier of the first one."""

    last_id: int
    """Identifier of the last one."""


class RankRecord(Payload, frozen=True, kw_only=True, omit_defaults=True, rename=PUBLISHED_RECORD_KEYS):
    """``ranks/<rank>.json``: what one rank did. The first block has the published keys with their published meaning."""

    total_cpu_time_s: float
    """Wall time T of the inference loop [s]; the profiler's total when `profile` was asked for."""

    total_cpu_memory_mb: float | None
    """The profiler's sum of allocations [10⁶ bytes]; null unless `profile` was asked for."""

    total_process_memory_mb: float
    """Resident memory of the process after inference [MiB]."""

    library_overhead_memory_mb: float
    """Process minus model minus image memory [MiB]."""

    total_image_memory_mb: float
    """``batch_size`` · the bytes of a galaxy's pixels and magnitudes, 20,520 for the published network [MiB]."""

    total_model_memory_mb: float
    """Parameters · 4 bytes [MiB]."""

    execution_time_s_per_batch: float
    """T · batch_size / num_samples [s]."""

    num_batches: Positive
    """ceil(num_samples / batch_size)."""

    batch_size: Positive
    """Galaxies per batch as the user asked."""

    device: str
    """Where the network ran: ``cpu``."""

    throughput_bps: float
    """Bits of a galaxy's pixels and magnitudes, 164,160 for the published network, · num_samples / T [bit/s]."""

    sample_persec: float
    """num_samples / T [1/s]."""

    result_path: str
    """Where the run stores its results."""

    data_path: str
    """The rank's first shard."""

    s3_num_requests: Count
    """Requests to S3 before the record."""

    s3_total_time: Seconds
    """Their summed duration [s]."""

    s3_avg_time: Seconds
    """Mean duration [s]."""

    s3_min_time: Seconds
    """Shortest [s]."""

    s3_max_time: Seconds
    """Longest [s]."""

    # What follows is ours.

    run_id: NonEmpty
    """Name of the execution."""

    rank: Count
    """Position of this worker."""

    world_size: Positive
    """Number of ranks of the run."""

    num_samples: Positive
    """Galaxies predicted."""

    attempt: Count
    """Earlier attempts of this rank, 0 for the first."""

    cold_start: bool
    """True when this was the process's first invocation."""

    clock: RankClock
    """Seconds per phase."""

    peak_memory_bytes: Count
    """Highest resident memory of the process so far [bytes]."""

    accuracy: AccuracySums
    """Mergeable sums over the labelled galaxies."""

    predictions_key: NonEmpty
    """Object key of the predictions."""

    predictions: StoredPredictions | None = None
    """What is stored under it; absent in records of older versions."""

    inputs: tuple[RowRange, ...]
    """The rows read, with the etag that was enforced and the shard's checksum."""

    engine: str
    """Library that computed the redshifts, with its version."""

    precision: str = "fp32"
    """Precision it computed in."""

    engine_note: str | None = None
    """Why it is not the library that was asked for; absent when it is."""

    num_threads: Positive
    """Threads the engine computed with."""

    model: str = ""
    """Name of the model; empty in records of older versions."""

    weights_sha256: str
    """Checksum of the model's weights, or of its network as ONNX."""

    code_version: str
    """Version of this code."""

    image_digest: str
    """Digest of the container image; ``local`` outside one."""

    request_id: str
    """Lambda request id of the invocation."""

    function_memory_mb: Count
    """Configured memory of the function [MB]."""

    started_at_s: float
    """When the handler was entered [s since the epoch]."""

    num_flagged: dict[str, Count] = {}
    """Name of a flag of `inference.quality.Quality` to the galaxies that carry it, where there are any."""

    ratio_95: float | None = None
    """z_phot ± ratio_95 · sigma is to hold 95 % of the galaxies; absent where no sigma is known."""

    sigma_note: str | None = None
    """Why no sigma is known; absent where it is."""

    comm: CommReport | None = None
    """What came of the meeting with the other ranks; absent where there was none, or the rank died in it."""

    bits_per_row: Positive = BITS_PER_ROW
    """One galaxy as the model reads it: pixels and magnitudes [bit]."""

    pz: str | None = None
    """What `pz` of the predictions holds, ``mixture`` or ``quantiles`` (docs/results.md); absent where it is absent."""

    residuals: bytes = b""
    """dz of the labelled galaxies, little-endian float32, base64 in JSON: the part of the accuracy that no sum holds
    (a median), so that Summarize reads one object per rank. Left out of ``combined_data.json``."""


class RankFailure(Payload, frozen=True, kw_only=True):
    """``failures/<rank>.json``, written by the state machine itself after the last retry."""

    run_id: NonEmpty
    """Name of the execution."""

    rank: Count
    """The rank that failed."""

    error: str
    """Class name of the error."""

    cause: str
    """What the error said: Lambda's JSON with errorMessage, or plain text."""
