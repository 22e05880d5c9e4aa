"""``summary.json``: the run in one object."""

import msgspec

from inference.contract.comm import CommSummary
from inference.contract.payload import Count, NonEmpty, Payload, Positive, Seconds
from inference.contract.record import BITS_PER_ROW, RankClock
from inference.contract.request import RunRequest
from inference.contract.run import Resumption


class LostRank(Payload, frozen=True, kw_only=True):
    """One rank that gave no valid record, and why."""

    rank: Count
    """The rank."""

    error: str
    """Class name of its error, or ``MissingRecord``, ``UnreadableRecord``, ``StaleRecord``, ``DuplicateRecord``,
    ``WrongRowCount``, ``WrongRecord``, ``MissingPredictions``, ``WrongPredictions``."""

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
    """Coefficient of determination; it depends on `std_z_spec`. Null when all z_spec are equal."""

    std_z_spec: float
    """Standard deviation of z_spec: the width of the sample."""

    coverage_68: float | None = None
    """Fraction with z_spec inside z_phot ± sigma; null where no sigma is known."""

    coverage_95: float | None = None
    """Fraction with z_spec inside the 95 % interval; null where no such interval is known."""


class PzAccuracy(Payload, frozen=True, kw_only=True):
    """How good the p(z) of galaxies with a spectroscopic redshift are. Sources: `inference.pz_metrics`.

    The PIT of a galaxy is the probability that its p(z) gives to redshifts below the spectroscopic one.
    """

    num_galaxies: Positive
    """Galaxies with a spectroscopic redshift and a p(z)."""

    ks: float
    """Kolmogorov-Smirnov: largest distance of the distribution of the PIT from evenness."""

    cvm: float
    """Cramér-von Mises: N times the mean squared distance; 0.17 on average where the PIT is even."""

    ad: float
    """Anderson-Darling: the same with more weight on both ends; about 1 on average where the PIT is even."""

    crps: float
    """Mean continuous ranked probability score, in redshift."""

    cde_loss: float
    """Loss of conditional density estimation; the lower the better, and below 0 for a useful one."""

    coverage_68: float
    """Fraction with z_spec between the 16 and 84 % quantiles."""

    coverage_95: float
    """Fraction with z_spec between the 2.5 and 97.5 % quantiles."""

    pit_counts: tuple[Count, ...]
    """Galaxies in each of equal bins of the PIT, from 0 to 1."""


class Throughput(Payload, frozen=True, kw_only=True):
    """Galaxies per second by three definitions; they differ by factors, so the name is part of the number."""

    sum_of_rank_rates: float
    """Sum of every rank's `sample_persec`: the published definition [1/s]."""

    map_wall: float
    """Galaxies over the wall time of the Map; 0 where two clocks disagree about it [1/s]."""

    end_to_end: float
    """Galaxies over the time from Initialize to the summary; 0 as above [1/s]."""

    bits_per_row: Positive = BITS_PER_ROW
    """One galaxy as the model reads it [bit]."""

    sum_of_rank_rates_bit_per_s: float = 0.0
    """`sum_of_rank_rates` at `bits_per_row`, the published ``throughput_bps`` summed [bit/s]."""

    map_wall_bit_per_s: float = 0.0
    """`map_wall` at `bits_per_row` [bit/s]."""

    end_to_end_bit_per_s: float = 0.0
    """`end_to_end` at `bits_per_row` [bit/s]."""

    def __post_init__(self) -> None:
        for name in ("sum_of_rank_rates", "map_wall", "end_to_end"):
            msgspec.structs.force_setattr(self, f"{name}_bit_per_s", getattr(self, name) * self.bits_per_row)


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

    models: tuple[str, ...] = ()
    """Names of the models used; one, as above. Empty in summaries of older versions."""

    weights_sha256: tuple[str, ...]
    """Checksums of their weights; one, as above."""

    image_digests: tuple[str, ...]
    """Digests of the images used; one, as above."""

    code_versions: tuple[str, ...]
    """Versions of the code used; one, as above."""

    comm: CommSummary | None = None
    """How the ranks met; null when they were not to. ``fmi.json`` has every rank and connection."""

    resumptions: tuple[Resumption, ...] = ()
    """How often the run was resumed, and what was left to do. Times of stages are those of the last execution."""


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
