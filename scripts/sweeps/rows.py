"""One run, and one rank, as a row of a sweep's tidy tables."""

from typing import Literal

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the rows: a field is a column, its type the column's, None an empty cell."""


class RunRow(Row, frozen=True, kw_only=True):
    """``runs.parquet``, ``runs.csv``: one run. What a failed run did not reach is empty."""

    # ------------------------------------------------------------------------------------- which run

    sweep: str
    """Name of the sweep."""

    setting: str
    """What varies in the sweep, as typed: ``WORLD=8 BATCH=32``. Runs with the same text are repeats of each other."""

    repeat: int
    """Number among its repeats, from 0."""

    position: int
    """Place in the order in which the sweep ran, from 0."""

    run_id: str
    """The run's folder under ``runs/``; empty when it could not be started."""

    state: Literal["complete", "incomplete", "failed"]
    """``incomplete``: ranks were lost, as many as tolerated."""

    error: str = ""
    """Class name of the error of a failed run."""

    message: str = ""
    """What it said."""

    target: str
    """``local`` or ``aws``."""

    started_at_s: float
    """When it was started [s since the epoch]."""

    # ------------------------------------------------------------------------------------- its settings

    world_size: int | None
    """Ranks; of a run that failed, the ranks asked for."""

    batch_size: int
    """Galaxies per batch."""

    dataset: str
    """Dataset and partition, ``sdss/10MB``."""

    shard_mb: int | None
    """Largest size of its shards [MiB]; empty when the partition's name does not say it."""

    file_limit: int | None
    """Only the first n shards; empty: all."""

    memory_mb: int
    """Configured memory of a rank [MB]."""

    engine: str
    """Library that was asked for."""

    precision: str
    """Precision that was asked for."""

    profile: bool
    """True under torch's profiler."""

    max_concurrency: int
    """Ranks that the target runs at the same time."""

    # ------------------------------------------------------------------------------------- how much

    num_samples: int = 0
    """Galaxies predicted."""

    data_bytes: int = 0
    """`num_samples` · 20,520: images float32 and magnitudes float64, the published size of a galaxy [bytes]."""

    num_records: int = 0
    """Ranks with a valid record."""

    num_lost_ranks: int = 0
    """Ranks without one."""

    num_cold_starts: int = 0
    """Ranks served by a fresh process."""

    num_retried_ranks: int = 0
    """Ranks that needed more than one attempt."""

    # ------------------------------------------------------------------------------------- wall time

    end_to_end_s: float | None = None
    """From Initialize to the summary [s]."""

    map_s: float | None = None
    """All ranks [s]."""

    initialize_s: float | None = None
    """Planning [s]."""

    summarize_s: float | None = None
    """Proving and merging [s]."""

    # ------------------------------------------------------------------------------------- time of the ranks

    rank_median_s: float | None = None
    """Median of a rank, init included [s]."""

    rank_p95_s: float | None = None
    """95th percentile, by linear interpolation [s]."""

    rank_max_s: float | None = None
    """The slowest rank [s]."""

    queue_s: float | None = None
    """Phases, each summed over the ranks [s]: before the handler."""

    init_s: float | None = None
    """Starting the process [s]."""

    model_load_s: float | None = None
    """Loading engine and weights [s]."""

    download_s: float | None = None
    """Waiting for rows [s]."""

    inference_s: float | None = None
    """Computing redshifts [s]."""

    upload_s: float | None = None
    """Writing predictions [s]."""

    rank_seconds: float | None = None
    """Handlers and init, summed over the ranks [s]."""

    # ------------------------------------------------------------------------------------- throughput

    sum_of_rank_rates_per_s: float | None = None
    """Each rank's own rate, added: the published definition [galaxies/s]."""

    map_wall_per_s: float | None = None
    """Galaxies over the wall time of the Map [galaxies/s]."""

    end_to_end_per_s: float | None = None
    """Galaxies over the wall time of the run [galaxies/s]."""

    sum_of_rank_rates_bit_per_s: float | None = None
    """The same three at 164,160 bits per galaxy [bit/s]."""

    map_wall_bit_per_s: float | None = None
    """See `map_wall_per_s` [bit/s]."""

    end_to_end_bit_per_s: float | None = None
    """See `end_to_end_per_s` [bit/s]."""

    # ------------------------------------------------------------------------------------- memory and cost

    peak_memory_bytes: int | None = None
    """Highest resident memory of any rank [bytes]."""

    list_price_usd: float | None = None
    """What the run costs on AWS at list prices with this memory and these times [USD]. Where `target` is ``local``,
    nothing was paid, and the times are those of this machine."""

    paid_usd: float | None = None
    """What it cost: 0 here, the list price on AWS [USD]."""

    # ------------------------------------------------------------------------------------- accuracy, provenance

    nmad: float | None = None
    """Scatter of the redshifts; empty where no galaxy has a spectroscopic one."""

    bias: float | None = None
    """Mean of dz."""

    outlier_005: float | None = None
    """Share with abs(dz) > 0.05."""

    mae: float | None = None
    """Mean of abs(z_phot - z_spec)."""

    engines_used: str = ""
    """Libraries that computed, with versions."""

    weights_sha256: str = ""
    """Checksum of the checkpoint."""

    code_version: str = ""
    """Version of the code."""

    image_digest: str = ""
    """Digest of the image."""


class RankRow(Row, frozen=True, kw_only=True):
    """``ranks.parquet``, ``ranks.csv``: one rank of one run, with the settings it ran under."""

    sweep: str
    """Name of the sweep."""

    setting: str
    """As in `RunRow`."""

    repeat: int
    """As in `RunRow`."""

    run_id: str
    """The run."""

    rank: int
    """Position of the worker."""

    world_size: int
    """Ranks of the run."""

    batch_size: int
    """Galaxies per batch."""

    dataset: str
    """Dataset and partition."""

    memory_mb: int
    """Configured memory [MB]."""

    num_samples: int
    """Galaxies predicted."""

    num_batches: int
    """ceil(num_samples / batch_size)."""

    attempt: int
    """Earlier attempts."""

    cold_start: bool
    """True when a fresh process served it."""

    started_at_s: float
    """When the handler was entered [s since the epoch]."""

    queue_s: float
    """Before the handler, a cold start included [s]."""

    init_s: float
    """Starting the process; 0 when warm [s]."""

    model_load_s: float
    """Loading engine and weights [s]."""

    download_s: float
    """Waiting for rows [s]."""

    inference_s: float
    """Computing redshifts [s]."""

    upload_s: float
    """Writing predictions [s]."""

    total_s: float
    """The handler [s]."""

    loop_s: float
    """``total_cpu_time (seconds)``: wall time of the inference loop, or the profiler's total [s]."""

    execution_time_s_per_batch: float
    """Published key [s]."""

    samples_per_s: float
    """``sample_persec`` [galaxies/s]."""

    throughput_bit_per_s: float
    """``throughput_bps`` [bit/s]."""

    process_memory_mb: float
    """``total_process_memory (MB)`` [MiB]."""

    profiled_memory_mb: float | None
    """``total_cpu_memory (MB)``, the profiler's sum of allocations [10⁶ bytes]; empty without the profiler."""

    peak_memory_bytes: int
    """Highest resident memory of the process so far [bytes]."""

    s3_num_requests: int
    """Requests to S3."""

    s3_total_s: float
    """Their summed duration [s]."""

    num_threads: int
    """Threads the engine computed with."""

    engine: str
    """Library that computed, with its version."""
