"""From the rows of a sweep to its statistics: medians, speedup, efficiency, the Pareto front, what to take."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

import msgspec
import numpy as np

from inference.intervals import bootstrap
from inference.plan import ROW_BYTES
from scripts.sweeps.advice import recommend, warnings_of
from scripts.sweeps.journal import Journal
from scripts.sweeps.rows import RunRow
from scripts.sweeps.statistics import SettingStatistics, Statistic, SweepStatistics

COLUMNS = {
    "world": "world_size",
    "batch": "batch_size",
    "data": "dataset",
    "shard_mb": "shard_mb",
    "files": "file_limit",
    "memory": "memory_mb",
    "engine": "engine",
    "precision": "precision",
    "profile": "profile",
}
"""List of a sweep to the column it sets."""

MEASURED = tuple(name for name, kind in get_type_hints(SettingStatistics).items() if kind == Statistic | None)
"""Columns with a median and an interval."""

MIN_BOOTSTRAP = 5
"""Fewest repeats of which a bootstrap says more than their smallest and largest."""

BYTES_PER_GB = 1e9


def analyse(journal: Journal, *, prices: str) -> SweepStatistics:
    """Return everything that follows from the runs that have ended.

    Parameters
    ----------
    journal : Journal
        The sweep.
    prices : str
        Which prices its rows have, in words.
    """
    plan, (rows, _) = journal.plan, journal.rows()
    every = [_setting(plan.label(setting), rows) for setting in plan.settings]
    found = _with_front(_with_speedup([one for one in every if one.num_runs or one.num_failed]))
    varied = tuple(COLUMNS[name] for name in plan.varied)
    return SweepStatistics(
        sweep=journal.folder.name,
        target=plan.target or "local",
        varied=varied,
        num_runs=len(rows),
        num_planned=len(plan.settings) * plan.repeat,
        num_failed=sum(row.state == "failed" for row in rows),
        interval=interval_in_words(plan.repeat),
        prices=prices,
        settings=tuple(found),
        recommendations=recommend(found, repeat=plan.repeat),
        warnings=tuple(warnings_of(journal, rows, varied)),
    )


def interval_in_words(repeat: int) -> str:
    """Say what the interval of a statistic is."""
    if repeat == 1:
        return "none: one run per setting"
    if repeat < MIN_BOOTSTRAP:
        return f"smallest and largest of {repeat} repeats"
    return (
        f"95 % bootstrap interval of the median over {repeat} repeats; smallest and largest where fewer than "
        f"{MIN_BOOTSTRAP} have ended"
    )


def statistic(values: Sequence[float]) -> Statistic:
    """Return the median of some repeats with the interval that `interval_in_words` names."""
    if len(values) < MIN_BOOTSTRAP:
        return Statistic(median=statistics.median(values), low=min(values), high=max(values))
    low, high = bootstrap(np.asarray(values, np.float64), lambda sets: np.median(sets, axis=-1))
    return Statistic(median=statistics.median(values), low=low, high=high)


def _setting(label: str, rows: Iterable[RunRow]) -> SettingStatistics:
    mine = [row for row in rows if row.setting == label]
    ended = [row for row in mine if row.state != "failed"]
    failed = [row for row in mine if row.state == "failed"]
    measured: dict[str, Any] = {
        name: statistic([getattr(row, name) for row in ended])
        for name in MEASURED
        if ended and all(getattr(row, name) is not None for row in ended)
    }
    rate, usd = measured.get("end_to_end_per_s"), measured.get("list_price_usd")
    if rate and usd and usd.median > 0:
        measured["performance_efficiency"] = rate.median * ROW_BYTES / BYTES_PER_GB / usd.median
    return SettingStatistics(
        setting=label,
        values={column: getattr((ended or mine)[0], column) for column in COLUMNS.values()} if mine else {},
        num_samples=round(statistics.median(row.num_samples for row in ended)) if ended else 0,
        num_runs=len(ended),
        num_failed=len(failed),
        error=f"{failed[-1].error}: {failed[-1].message}" if failed else "",
        num_cold_starts=sum(row.num_cold_starts for row in ended),
        num_ranks=sum(row.num_records for row in ended),
        **measured,
    )


def _with_speedup(settings: Sequence[SettingStatistics]) -> list[SettingStatistics]:
    """Compare every setting with its equal of the smallest world size."""

    def others(one: SettingStatistics) -> tuple[object, ...]:
        return tuple(value for column, value in one.values.items() if column != "world_size")

    def world(one: SettingStatistics) -> int:
        value = one.values["world_size"]
        assert isinstance(value, int), "a run that ended has a world size"
        return value

    measured = [one for one in settings if one.end_to_end_s]
    smallest: dict[tuple[object, ...], SettingStatistics] = {}
    for one in sorted(measured, key=world, reverse=True):
        smallest[others(one)] = one
    sizes = Counter(others(one) for one in measured)

    def compared(one: SettingStatistics) -> SettingStatistics:
        if one not in measured or sizes[others(one)] < 2:
            return one
        reference = smallest[others(one)]
        speedup = _ratio(reference.end_to_end_s, one.end_to_end_s)
        speedup_map = _ratio(reference.map_s, one.map_s)
        share = world(reference) / world(one)
        return msgspec.structs.replace(
            one,
            reference=reference.setting,
            speedup=speedup,
            speedup_map=speedup_map,
            parallel_efficiency=speedup * share,
            parallel_efficiency_map=speedup_map * share,
        )

    return [compared(one) for one in settings]


def _ratio(above: Statistic | None, below: Statistic | None) -> float:
    assert above is not None, "a run that ended has its times"
    assert below is not None, "a run that ended has its times"
    return above.median / below.median


def _with_front(settings: Sequence[SettingStatistics]) -> list[SettingStatistics]:
    """Mark the settings that no other one beats in both time and price."""
    points = {
        number: (one.num_samples, one.end_to_end_s.median, one.list_price_usd.median)
        for number, one in enumerate(settings)
        if one.end_to_end_s and one.list_price_usd
    }

    def is_beaten(number: int) -> bool:
        samples, time_s, usd = points[number]
        rivals = [(other_s, other_usd) for other, other_s, other_usd in points.values() if other == samples]
        return any(s <= time_s and u <= usd and (s, u) != (time_s, usd) for s, u in rivals)

    return [
        msgspec.structs.replace(one, is_pareto=number in points and not is_beaten(number))
        for number, one in enumerate(settings)
    ]
