"""What the stages say to each other: every payload, every object key, and the published names of both."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from inference.errors import InvalidRequestError

SAMPLE_PREFIX = "datasets/sdss/10MB/"
"""The dataset `make dataset` builds without arguments: real SDSS galaxies that training never saw."""

DATASET_KEY = "dataset.json"
TABLE_KEY = "table.parquet"
TABLE_CSV_KEY = "table.csv"
CLEANING_KEY = "cleaning.json"
TABLE_KEYS = (TABLE_KEY, TABLE_CSV_KEY, CLEANING_KEY)
"""Beside the shards: one cleaned row per galaxy, and what cleaning found."""

MANIFEST_KEY = "manifest.json"
NonEmpty = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = float


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all payloads: immutable, unknown keys refused."""


# ------------------------------------------------------------------------------------- the dataset


class ShardEntry(Payload, frozen=True, kw_only=True):
    """One shard file of a dataset."""

    name: NonEmpty
    """File name inside the dataset's folder, e.g. ``0.safetensors``."""

    num_rows: Count
    """Galaxies in the shard."""

    size_bytes: Count
    """Size of the file [bytes]."""

    sha256: str
    """Checksum of the whole file, hexadecimal."""


class DatasetCard(Payload, frozen=True, kw_only=True):
    """``dataset.json``: what lies in a dataset's folder and where it came from."""

    name: NonEmpty
    """Name of the dataset."""

    partition: NonEmpty
    """Folder of this partition, e.g. ``10MB``: shards are at most this large."""

    num_rows: Count
    """Galaxies over all shards."""

    shards: tuple[ShardEntry, ...]
    """The shards in natural order."""

    arrays: dict[str, str]
    """Array name to shape, dtype and unit, in words."""

    seed: int
    """Seed of everything random in it."""

    provenance: str
    """Where the galaxies come from, in words."""


# ------------------------------------------------------------------------------------- the request

Engine = Literal["auto", "openvino", "onnxruntime", "torch"]
Precision = Literal["fp32", "bf16", "int8"]


class RunRequest(Payload, frozen=True, kw_only=True):
    """The input of one execution of the state machine. Only ``bucket`` is required."""

    bucket: NonEmpty
    """Bucket the results are written to, and the data read from unless `data_bucket` says otherwise."""

    data_bucket: str | None = None
    """Bucket the shards are read from; `bucket` when absent."""

    data_prefix: NonEmpty = SAMPLE_PREFIX
    """Folder of the shards. ``10MB`` and ``10MB/`` mean the same and never match ``100MB/``."""

    world_size: Positive | None = None
    """Number of ranks; the number of shards when absent."""

    file_limit: Positive | None = None
    """Use only the first n shards in natural order (2 before 10); all when absent."""

    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 256
    """Galaxies per batch as reported in the metrics; never changes a prediction."""

    result_path: str | None = None
    """Where the results go; ``runs/<execution name>/`` when absent."""

    profile: bool = False
    """Run the inference loop under torch's profiler, as the published runs did."""

    engine: Engine = "auto"
    """Library that computes the redshifts; ``auto`` takes the fastest that is present. Torch replaces a missing one."""

    precision: Precision = "fp32"
    """Precision of the products; another one is refused where it was not found accurate enough."""

    tolerated_failure_percentage: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Share of ranks that may be lost before the run counts as failed [percent]."""


PUBLISHED_ALIASES = {"bucket_name": "bucket", "dataset_path": "data_prefix"}
"""Keys of published payloads that mean one of ours under another name."""

PUBLISHED_WITHOUT_MEANING = {
    "object_type": "shards are recognised by their file name",
    "S3_object_name": "the code is in the image and never fetched",
    "script": "the code is in the image and never fetched",
    "inference_script": "the code is in the image and never fetched",
    "model_path": "the weights are in the image",
    "data_path": "every rank streams its rows from data_prefix",
    "data_map": "rows are dealt by the plan",
    "data_size": "the size follows from data_prefix and file_limit",
    "unique_id": "the execution's name identifies the run",
    "rendezvous_endpoint": "ranks do not talk to each other",
    "fmi_enabled": "ranks do not talk to each other",
}
"""Keys of published payloads that are accepted, ignored and named in the run's notes, with the reason."""


def parse_request(raw: object) -> tuple[RunRequest, tuple[str, ...]]:
    """Read a RunRequest, or a payload as the class reports published it.

    Parameters
    ----------
    raw : object
        Decoded JSON. Numbers and booleans may be strings (``"8"``, ``"true"``).

    Returns
    -------
    request : RunRequest
    notes : tuple of str
        One sentence per key that was ignored or read under another name.

    Raises
    ------
    InvalidRequestError
        If a key is unknown or missing, or a value has the wrong type or range; the message names the key.
    """
    if not isinstance(raw, dict):
        raise InvalidRequestError(f"A request is a JSON object, not {type(raw).__name__}. Only `bucket` is required.")
    known: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in raw.items():
        if key in PUBLISHED_WITHOUT_MEANING:
            notes.append(f"`{key}` was ignored: {PUBLISHED_WITHOUT_MEANING[key]}.")
        elif key in PUBLISHED_ALIASES and PUBLISHED_ALIASES[key] in raw:
            notes.append(f"`{key}` was ignored: `{PUBLISHED_ALIASES[key]}` is given too.")
        elif key in PUBLISHED_ALIASES:
            known[PUBLISHED_ALIASES[key]] = value
            notes.append(f"`{key}` was read as `{PUBLISHED_ALIASES[key]}`.")
        else:
            known[key] = value
    return _convert(known), tuple(notes)


def _convert(known: dict[str, Any]) -> RunRequest:
    try:
        return msgspec.convert(known, RunRequest, strict=False)
    except msgspec.ValidationError as error:
        accepted = ", ".join(RunRequest.__struct_fields__)
        raise InvalidRequestError(
            f"The request is not valid: {error}. A RunRequest has the keys {accepted}."
        ) from error


def with_defaults(request: RunRequest, *, run_id: str, num_shards: int) -> RunRequest:
    """Return `request` with every default filled in and its prefixes ending in ``/``."""
    return msgspec.structs.replace(
        request,
        data_bucket=request.data_bucket or request.bucket,
        data_prefix=as_prefix(request.data_prefix),
        world_size=request.world_size or num_shards,
        result_path=run_prefix(request, run_id=run_id),
    )


def run_prefix(request: RunRequest, *, run_id: str) -> str:
    """Return where a run stores its results, ending in ``/``."""
    return as_prefix(request.result_path or f"runs/{run_id}")


def as_prefix(path: str) -> str:
    """Return `path` as a folder: no leading slash, exactly one trailing one, so that run 1 never lists run 10."""
    return path.strip("/") + "/"


# --------------------------------------------------------------------------- the run and its ranks


class RowRange(Payload, frozen=True, kw_only=True):
    """Consecutive rows of one shard."""

    key: NonEmpty
    """Object key of the shard in the data bucket."""

    start_row: Count
    """First row, counted from 0."""

    stop_row: Positive
    """One past the last row."""

    etag: str | None = None
    """Entity tag of the object when the plan was made; a different one later means the shard was replaced."""

    sha256: str | None = None
    """Checksum of the whole shard as its ``dataset.json`` states it, where there is one."""

    @property
    def num_rows(self) -> int:
        """Number of rows in the range."""
        return self.stop_row - self.start_row


class RankTask(Payload, frozen=True, kw_only=True):
    """The work of one Map iteration: the rows of one rank. One element of ``manifest.json``."""

    run_id: NonEmpty
    """Name of the execution; every record repeats it, so that a stale one is recognised."""

    bucket: NonEmpty
    """Bucket of the results."""

    data_bucket: NonEmpty
    """Bucket of the shards."""

    run_prefix: NonEmpty
    """Where the run stores its results, ending in ``/``."""

    rank: Count
    """Position of this worker, ``0 <= rank < world_size``."""

    world_size: Positive
    """Number of ranks of the run."""

    rows: tuple[RowRange, ...]
    """Rows to predict, in dataset order."""

    num_samples: Positive
    """Number of rows over all ranges."""

    batch_size: Positive
    """Galaxies per batch as the user asked."""

    record_key: NonEmpty
    """Object key of the rank's record, written last: its presence is the commit."""

    predictions_key: NonEmpty
    """Object key of the rank's predictions, written before the record."""

    failure_key: NonEmpty
    """Object key under which the state machine notes that the rank failed."""

    profile: bool = False
    """Measure with torch's profiler."""

    engine: Engine = "auto"
    """Library that computes the redshifts."""

    precision: Precision = "fp32"
    """Precision of the products."""


def rank_keys(run_prefix: str, rank: int) -> dict[str, str]:
    """Return the three object keys of a rank; a retry writes to the same ones."""
    return {
        "record_key": f"{run_prefix}ranks/{rank:05d}.json",
        "predictions_key": f"{run_prefix}predictions/{rank:05d}.npz",
        "failure_key": f"{run_prefix}failures/{rank:05d}.json",
    }


class InferEvent(Payload, frozen=True, kw_only=True):
    """What the state machine hands to one Infer invocation."""

    task: RankTask
    """The rank's element of the manifest."""

    entered_at: str | None = None
    """When the Map entered the iteration, ISO 8601: the start of the queue."""

    attempt: Count = 0
    """Earlier attempts of this rank, 0 for the first."""


class InitializeEvent(Payload, frozen=True, kw_only=True):
    """What the state machine hands to Initialize."""

    execution_name: NonEmpty
    """Name of the execution; becomes the run id."""

    request: Any
    """The execution's input, as the user wrote it: `parse_request` reads it."""


class RunPlan(Payload, frozen=True, kw_only=True):
    """What Initialize returns: keys and counts, never data."""

    run_id: NonEmpty
    """Name of the execution."""

    bucket: NonEmpty
    """Bucket of the results."""

    run_prefix: NonEmpty
    """Where the run stores its results, ending in ``/``."""

    manifest_key: NonEmpty
    """Object key of the manifest, a JSON array of RankTask."""

    request: RunRequest
    """The request with every default filled in."""

    notes: tuple[str, ...]
    """What was ignored or replaced in the request, in sentences."""

    num_samples: Positive
    """Rows over all ranks."""

    started_at_s: float
    """When Initialize was entered [s since the epoch]."""

    planned_at_s: float
    """When the manifest was written: the start of the Map [s since the epoch]."""


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

    num_within_95: Count = 0
    """Of these, galaxies within the half-width of the 95 % interval."""


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
    """``batch_size`` · 20,520 bytes [MiB]."""

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
    """164,160 bits per galaxy · num_samples / T [bit/s]."""

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

    weights_sha256: str
    """Checksum of the checkpoint file."""

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

    residuals: bytes = b""
    """dz of the labelled galaxies, little-endian float32, base64 in JSON: the part of the accuracy that no sum holds
    (a median), so that Summarize reads one object per rank. Left out of ``combined_data.json``."""


# -------------------------------------------------------------------------------------- the result


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


class LostRank(Payload, frozen=True, kw_only=True):
    """One rank that gave no valid record, and why."""

    rank: Count
    """The rank."""

    error: str
    """Class name of its error, or ``MissingRecord``, ``StaleRecord``, ``WrongRowCount``, ``DuplicateRecord``."""

    message: str
    """What happened."""

    shards: tuple[str, ...]
    """The shards the rank was to read."""


class Accuracy(Payload, frozen=True, kw_only=True):
    """Accuracy over all labelled galaxies; dz = (z_phot - z_spec) / (1 + z_spec). Sources: `inference.metrics`."""

    num_labelled: Positive
    """Galaxies with a spectroscopic and a predicted redshift."""

    bias: float
    """Mean dz."""

    bias_median: float | None = None
    """Median dz; null in summaries of older versions."""

    nmad: float
    """1.48 · median(abs(dz - median(dz)))."""

    sigma_mad: float | None = None
    """1.4826 · median(abs(dz - median(dz))); null in summaries of older versions."""

    sigma_iqr: float | None = None
    """Interquartile range of dz over 1.349; null in summaries of older versions."""

    outlier_005: float
    """Fraction with abs(dz) > 0.05."""

    outlier_015: float
    """Fraction with abs(dz) > 0.15."""

    mae: float
    """Mean abs(z_phot - z_spec)."""

    mse: float
    """Mean (z_phot - z_spec) squared."""

    r2: float | None
    """Coefficient of determination; read it beside `std_z_spec`. Null when all z_spec are equal."""

    std_z_spec: float
    """Standard deviation of z_spec: the width of the sample."""

    coverage_68: float | None = None
    """Fraction with z_spec inside z_phot ± sigma; null where no sigma is known."""

    coverage_95: float | None = None
    """Fraction with z_spec inside the 95 % interval; null where no sigma is known."""


BITS_PER_ROW = 164_160
"""One galaxy as published: 5·32·32 float32 and 5 float64 [bit]."""


class Throughput(Payload, frozen=True, kw_only=True):
    """Galaxies per second by three definitions; they differ by factors, so the name is part of the number."""

    sum_of_rank_rates: float
    """Sum of every rank's `sample_persec`: the published definition [1/s]."""

    map_wall: float
    """Galaxies over the wall time of the Map [1/s]."""

    end_to_end: float
    """Galaxies over the time from Initialize to the summary [1/s]."""

    sum_of_rank_rates_bit_per_s: float = 0.0
    """`sum_of_rank_rates` at 164,160 bits per galaxy, the published ``throughput_bps`` summed [bit/s]."""

    map_wall_bit_per_s: float = 0.0
    """`map_wall` at 164,160 bits per galaxy [bit/s]."""

    end_to_end_bit_per_s: float = 0.0
    """`end_to_end` at 164,160 bits per galaxy [bit/s]."""

    def __post_init__(self) -> None:
        for name in ("sum_of_rank_rates", "map_wall", "end_to_end"):
            msgspec.structs.force_setattr(self, f"{name}_bit_per_s", getattr(self, name) * BITS_PER_ROW)


class PhaseSpread(Payload, frozen=True, kw_only=True):
    """One phase over a set of ranks."""

    sum: Seconds
    """Over all ranks of the set [s]."""

    p50: Seconds
    """Median of a rank [s]."""

    p95: Seconds
    """95th percentile, between ranks by linear interpolation [s]."""

    max: Seconds
    """Longest of any rank [s]."""


class SlowRank(Payload, frozen=True, kw_only=True):
    """One of the ranks that took longest, init included."""

    rank: Count
    """The rank."""

    num_samples: Positive
    """Galaxies it predicted."""

    attempt: Count
    """Earlier attempts, 0 for the first."""

    cold_start: bool
    """True when a fresh process served it."""

    clock: RankClock
    """Where its time went."""


class RunClock(Payload, frozen=True, kw_only=True):
    """Wall time of the run by stage, and the ranks' phases summed."""

    initialize: Seconds
    """Planning [s]."""

    map: Seconds
    """From the manifest to Summarize: all ranks [s]."""

    summarize: Seconds
    """Reading, proving and merging the records [s]."""

    end_to_end: Seconds
    """From Initialize to the summary [s]."""

    ranks: RankClock
    """Every phase summed over the ranks [s]."""

    phases: dict[str, PhaseSpread] = {}
    """Every phase of `RankClock` over all ranks. Empty, as what follows, in summaries of older versions."""

    cold: dict[str, PhaseSpread] = {}
    """The same over the ranks that a fresh process served; empty when there was none."""

    warm: dict[str, PhaseSpread] = {}
    """The same over the others."""

    slowest: tuple[SlowRank, ...] = ()
    """The five ranks that took longest, the longest first."""

    num_concurrent_ranks: Count = 0
    """Most ranks that were at work at the same time."""

    parallel_efficiency: float | None = None
    """Seconds of inference over all ranks, divided by `num_concurrent_ranks` times `map`: 1 when every worker computed
    from the manifest to Summarize. Queues, starts, transfers and stragglers lower it; workers that share a processor do
    not, since each then computes longer."""


class RunSummary(Payload, frozen=True, kw_only=True):
    """``summary.json``: the run in one object."""

    run_id: NonEmpty
    """Name of the execution."""

    complete: bool
    """True when every rank of the manifest has exactly one valid record."""

    world_size: Positive
    """Ranks planned."""

    num_records: Count
    """Ranks with a valid record."""

    num_samples: Count
    """Galaxies predicted."""

    num_samples_planned: Positive
    """Galaxies in the manifest."""

    lost_ranks: tuple[LostRank, ...]
    """Ranks without a valid record."""

    request: RunRequest
    """The request with every default filled in."""

    notes: tuple[str, ...]
    """What was ignored, replaced or noticed, in sentences."""

    accuracy: Accuracy | None
    """Null when no galaxy has a spectroscopic redshift."""

    num_flagged: dict[str, Count] = {}
    """Name of a flag of `inference.quality.Quality` to the galaxies that carry it; one galaxy may carry several."""

    ratio_95: float | None = None
    """z_phot ± ratio_95 · sigma is to hold 95 % of the galaxies; null where no sigma is known."""

    throughput: Throughput
    """Three definitions side by side."""

    clock: RunClock
    """Wall time by stage and phase."""

    num_cold_starts: Count
    """Ranks served by a fresh process."""

    num_retried_ranks: Count
    """Ranks that needed more than one attempt."""

    retries: dict[int, int] = {}
    """Rank to its earlier attempts, where there were any; throttled ones count."""

    num_s3_requests: Count = 0
    """Requests to S3 of all ranks, the writing of the records excepted; 0 in summaries of older versions."""

    peak_memory_bytes: Count
    """Highest resident memory of any rank [bytes]."""

    function_memory_mb: Count
    """Configured memory of the Infer function [MB]."""

    rank_seconds: Seconds
    """Handler time plus init over all ranks: with `function_memory_mb`, what Lambda bills for [s]."""

    engines: tuple[str, ...]
    """Libraries that computed the redshifts, with versions; one unless the deployment changed under the run."""

    weights_sha256: tuple[str, ...]
    """Checksums of the checkpoints used; one, as above."""

    image_digests: tuple[str, ...]
    """Digests of the images used; one, as above."""

    code_versions: tuple[str, ...]
    """Versions of the code used; one, as above."""


class RunResult(Payload, frozen=True, kw_only=True):
    """What Summarize returns, and so the output of the execution."""

    run_id: NonEmpty
    """Name of the execution."""

    complete: bool
    """True when every rank has a valid record."""

    summary_key: NonEmpty
    """Object key of ``summary.json``."""

    combined_key: NonEmpty
    """Object key of ``combined_data.json``."""


SCHEMAS: tuple[type[Payload], ...] = (DatasetCard, RunRequest, RankTask, RankRecord, RunSummary)
"""Payloads whose JSON Schema is part of the documentation."""

# -------------------------------------------------------------------------------------------- JSON

T = TypeVar("T")


def encode(payload: object) -> bytes:
    """Encode a payload, or a list of them, as indented JSON with the published keys."""
    return msgspec.json.format(msgspec.json.encode(payload), indent=2)


def encode_compact(payload: object) -> bytes:
    """Encode a payload as it travels through the state machine: no white space."""
    return msgspec.json.encode(payload)


def to_builtins(payload: Payload) -> dict[str, Any]:
    """Return a payload as the dict a Lambda handler answers with."""
    document: dict[str, Any] = msgspec.to_builtins(payload)
    return document


def decode(source: bytes | str | dict[str, Any], kind: type[T]) -> T:
    """Decode JSON, or a decoded Lambda event, into `kind`.

    Raises
    ------
    InvalidRequestError
        If a key is unknown, missing or mistyped; the message names it and the payload.
    """
    try:
        if isinstance(source, dict):
            return msgspec.convert(source, kind)
        return msgspec.json.decode(source, type=kind)
    except msgspec.DecodeError as error:
        name = getattr(kind, "__name__", str(kind))
        raise InvalidRequestError(f"This is not a {name}: {error}.") from error
