"""What a reader of a sweep should take from it: the fastest, cheapest, balanced setting, and what limits comparison."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from scripts.sweeps.journal import Journal
from scripts.sweeps.rows import RunRow
from scripts.sweeps.statistics import Recommendation, SettingStatistics, Statistic

COLD_SHARE_DIFFERENCE = 0.25
"""Settings whose shares of cold ranks differ by more were not measured under equal conditions."""

RESTLESS = 0.25
"""Repeats that differ by more than this share of their median were not measured on a quiet machine."""

PROVENANCE = {"weights_sha256": "weights", "code_version": "versions of the code", "image_digest": "images"}


def recommend(settings: Sequence[SettingStatistics], *, repeat: int) -> tuple[Recommendation, ...]:
    """Choose among the settings that predicted something; none if no setting did.

    Notes
    -----
    Time and price count per galaxy, so that settings over different amounts of data compare. Balanced is the
    smallest product of both: halving the time is worth doubling the price.
    """
    usable = [one for one in settings if one.end_to_end_s and one.list_price_usd and one.num_samples]
    if not usable:
        return ()
    fastest = min(usable, key=_seconds)
    cheapest = min(usable, key=_usd)
    balanced = min(usable, key=lambda one: _seconds(one) * _usd(one))
    slowest = max(usable, key=_seconds)
    return (
        Recommendation(goal="fastest", setting=fastest.setting, why=_why_fastest(fastest, slowest, usable, repeat)),
        Recommendation(goal="cheapest", setting=cheapest.setting, why=_why_cheapest(cheapest, fastest, usable, repeat)),
        Recommendation(goal="balanced", setting=balanced.setting, why=_why_balanced(balanced, fastest, cheapest)),
    )


def _why_fastest(
    fastest: SettingStatistics, slowest: SettingStatistics, usable: Sequence[SettingStatistics], repeat: int
) -> str:
    ratio = _seconds(slowest) / _seconds(fastest)
    tied = _tied(fastest, usable, repeat, lambda one: one.end_to_end_s)
    return f"{_numbers(fastest)}: {ratio:.2f} times as fast as the slowest, {slowest.setting}{tied}."


def _why_cheapest(
    cheapest: SettingStatistics, fastest: SettingStatistics, usable: Sequence[SettingStatistics], repeat: int
) -> str:
    tied = _tied(cheapest, usable, repeat, lambda one: one.list_price_usd)
    if cheapest is fastest:
        return f"{_numbers(cheapest)}: the fastest, too{tied}."
    saved = 1 - _usd(cheapest) / _usd(fastest)
    slower = _seconds(cheapest) / _seconds(fastest) - 1
    return f"{_numbers(cheapest)}: {saved:.0%} cheaper than the fastest and {slower:.0%} slower{tied}."


def _why_balanced(balanced: SettingStatistics, fastest: SettingStatistics, cheapest: SettingStatistics) -> str:
    if balanced is fastest or balanced is cheapest:
        which = "fastest" if balanced is fastest else "cheapest"
        return f"{_numbers(balanced)}: the smallest product of time and price is the {which} one's."
    slower, dearer = _seconds(balanced) / _seconds(fastest) - 1, _usd(balanced) / _usd(cheapest) - 1
    return (
        f"{_numbers(balanced)}: the smallest product of time and price, {slower:.0%} slower than the fastest and "
        f"{dearer:.0%} dearer than the cheapest."
    )


def _tied(
    best: SettingStatistics,
    usable: Sequence[SettingStatistics],
    repeat: int,
    measure: Callable[[SettingStatistics], Statistic | None],
) -> str:
    """Name settings whose interval overlaps the best one's: the repeats do not separate them."""
    top = measure(best)
    if repeat == 1 or top is None:
        return ""
    tied = [
        one.setting
        for one in usable
        if one is not best and one.num_samples == best.num_samples and (other := measure(one)) and other.low <= top.high
    ]
    if not tied:
        return ""
    more = f" and {len(tied) - 2} more" if len(tied) > 2 else ""
    return f"; not distinguishable from {', '.join(tied[:2])}{more}, whose intervals overlap"


def _numbers(one: SettingStatistics) -> str:
    assert one.end_to_end_s, "it was measured"
    assert one.list_price_usd, "it was measured"
    return f"{one.end_to_end_s.median:.2f} s end to end, {one.list_price_usd.median:.6f} USD at list price"


def _seconds(one: SettingStatistics) -> float:
    assert one.end_to_end_s, "it was measured"
    return one.end_to_end_s.median / one.num_samples


def _usd(one: SettingStatistics) -> float:
    assert one.list_price_usd, "it was measured"
    return one.list_price_usd.median / one.num_samples


# ------------------------------------------------------------------------------------------------ warnings


def warnings_of(journal: Journal, rows: Sequence[RunRow], varied: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for everything that a reader of the numbers should know.

    Parameters
    ----------
    journal : Journal
        The sweep.
    rows : sequence of RunRow
        Runs that have ended.
    varied : sequence of str
        Columns that vary.
    """
    ended = [row for row in rows if row.state != "failed"]
    num_planned = len(journal.plan.settings) * journal.plan.repeat
    if len(rows) < num_planned:
        yield f"The sweep is unfinished: {len(rows)} of {num_planned} runs have ended."
    if failed := len(rows) - len(ended):
        yield f"{failed} of {len(rows)} runs failed; no median counts them. RETRY=1 runs them again."
    if journal.plan.repeat == 1:
        yield "One run per setting: the scatter between runs is unknown. REPEAT=3 gives intervals."
    if not ended:
        return
    yield from _of_the_machine(journal, ended, varied)
    yield from _of_the_runs(ended)


def _of_the_machine(journal: Journal, ended: Sequence[RunRow], varied: Sequence[str]) -> Iterator[str]:
    at_once = max(row.max_concurrency for row in ended)
    if any((row.world_size or 0) > at_once for row in ended):
        yield f"{at_once} ranks run at the same time: a larger world size waits in turns and cannot be faster."
    if journal.plan.target == "local":
        yield "Start-up is excluded: an uncounted warm-up run goes first."
        yield "Nothing was paid: prices are what these times would cost on AWS, whose processors differ."
        if "memory_mb" in varied:
            yield "Here MEMORY sets threads and the limit; on Lambda it sets the share of a processor, too."
    if "batch_size" in varied and not any(row.profile for row in ended):
        yield "Without PROFILE=1 the loop computes in batches of its own: BATCH changes the published metrics only."


def _of_the_runs(ended: Sequence[RunRow]) -> Iterator[str]:
    shares: dict[str, list[float]] = {}
    times_s: dict[str, list[float]] = {}
    for row in ended:
        shares.setdefault(row.setting, []).append(row.num_cold_starts / max(row.num_records, 1))
        times_s.setdefault(row.setting, []).append(row.end_to_end_s or 0.0)
    spread, setting = max(
        ((max(each) - min(each)) / (statistics.median(each) or 1.0), name) for name, each in times_s.items()
    )
    if spread > RESTLESS:
        yield (
            f"Repeats of {setting} differ by {spread:.0%} of their median: the machine was busy with other work, and "
            "small differences mean nothing."
        )
    cold = [sum(each) / len(each) for each in shares.values()]
    if max(cold) - min(cold) > COLD_SHARE_DIFFERENCE:
        yield f"Between {min(cold):.0%} and {max(cold):.0%} of a setting's ranks started cold: part of the difference."
    if len({row.num_samples for row in ended}) > 1:
        yield "Settings predicted different numbers of galaxies: compare rates, not times."
    if retried := sum(row.num_retried_ranks for row in ended):
        yield f"{retried} ranks were retried; the wall time includes their first attempts."
    for column, words in PROVENANCE.items():
        if len({getattr(row, column) for row in ended}) > 1:
            yield f"The runs used different {words}: they are not repeats of the same thing."
