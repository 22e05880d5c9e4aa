"""Which setting to take: the fastest, the cheapest, the balanced one, each with the reason in a sentence."""

from collections.abc import Callable, Sequence

from scripts.sweeps.statistics import Recommendation, SettingStatistics, Statistic


def recommend(settings: Sequence[SettingStatistics], *, repeat: int) -> tuple[Recommendation, ...]:
    """Choose among the settings that predicted; none where no one did.

    Notes
    -----
    Time and price count per galaxy, so that settings over different amounts of data can be told apart. Balanced is the
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
    """Name settings whose interval overlaps the best one's: the repeats do not tell them apart."""
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
    return f"; not told apart from {', '.join(tied[:2])}{more}, whose intervals overlap"


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
