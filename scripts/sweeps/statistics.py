"""What follows from a sweep: ``statistics.json``."""

import msgspec

STATISTICS_KEY = "statistics.json"


class Statistic(msgspec.Struct, frozen=True, kw_only=True):
    """A median over repeats, with an interval."""

    median: float
    """Over the repeats."""

    low: float
    """Lower end of the interval named in `SweepStatistics.interval`."""

    high: float
    """Upper end."""


class SettingStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One setting over its repeats; what no run of it reached is null. A `Statistic` is over the column of `RunRow`."""

    setting: str
    """What varies, as typed: ``WORLD=8 BATCH=32``."""

    values: dict[str, int | float | str | bool | None]
    """Every setting by the name of its column in ``runs``: ``world_size``, ``batch_size``, ``dataset`` …"""

    num_samples: int
    """Galaxies of a run, median; 0 when none predicted."""

    num_runs: int
    """Runs that predicted, complete or as tolerated."""

    num_failed: int
    """Runs that failed: in no number here."""

    error: str = ""
    """Why the last of them did."""

    num_cold_starts: int
    """Ranks served by a fresh process, over all its runs."""

    num_ranks: int
    """Ranks with a record, over all its runs."""

    end_to_end_s: Statistic | None = None
    map_s: Statistic | None = None
    rank_median_s: Statistic | None = None
    rank_max_s: Statistic | None = None
    sum_of_rank_rates_per_s: Statistic | None = None
    map_wall_per_s: Statistic | None = None
    end_to_end_per_s: Statistic | None = None
    peak_memory_bytes: Statistic | None = None
    rank_seconds: Statistic | None = None
    list_price_usd: Statistic | None = None

    reference: str | None = None
    """The setting that `speedup` compares with: equal but for the smallest world size."""

    speedup: float | None = None
    """End-to-end time of the reference over this one's, medians."""

    speedup_map: float | None = None
    """The same of the Map's wall time."""

    parallel_efficiency: float | None = None
    """`speedup` · reference's world size / this one's."""

    parallel_efficiency_map: float | None = None
    """`speedup_map` · reference's world size / this one's."""

    performance_efficiency: float | None = None
    """End-to-end throughput over list price [(GB/s)/USD], medians, 10⁹ bytes, 20,520 bytes per galaxy."""

    is_pareto: bool = False
    """True when no other setting that predicted as many galaxies is both faster and cheaper."""


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The setting to take for one goal."""

    goal: str
    """``fastest``, ``cheapest`` or ``balanced``."""

    setting: str
    """As in `SettingStatistics`."""

    why: str
    """One sentence with the numbers."""


class SweepStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """``statistics.json``: everything that follows from ``runs``."""

    sweep: str
    """Name of the sweep."""

    target: str
    """``local`` or ``aws``."""

    varied: tuple[str, ...]
    """Columns of ``runs`` that vary: the axes of its plots."""

    num_runs: int
    """Runs with a row."""

    num_planned: int
    """Runs the sweep consists of; more than `num_runs` while it is not over."""

    num_failed: int
    """Runs that failed."""

    interval: str
    """What the intervals are, in words: ``smallest and largest of 3 repeats``."""

    prices: str
    """Which prices, in words."""

    settings: tuple[SettingStatistics, ...]
    """In the order of the lists as typed."""

    recommendations: tuple[Recommendation, ...]
    """Fastest, cheapest, balanced; empty when no run predicted anything."""

    warnings: tuple[str, ...]
    """What limits the comparison, in sentences."""
