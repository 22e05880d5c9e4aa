"""``docs/forecast.md``: the model of a run, judged on published runs, as a page with a plot."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from scripts.command.whole_file import write_whole
from scripts.forecasts.constants import Array, Constant, Constants, Fitted
from scripts.forecasts.fit import Prediction, predict
from scripts.forecasts.judge import Score, linear_regression, mean_of_others, score
from scripts.forecasts.planner import Choice, describe
from scripts.forecasts.published import Runs
from scripts.forecasts.simulate import quantiles
from scripts.forecasts.system import Forecast
from scripts.reports.figures.forecast import Predicted, draw_predicted
from scripts.reports.figures.output import as_png
from scripts.reports.figures.settings import Offer, draw_front

PAGE = "forecast.md"
TEMPLATE = Path(__file__).with_name("templates") / PAGE
PLOTS = {"map": "forecast-map.png", "end_to_end": "forecast-end-to-end.png"}

HEADLINE = ((25, 517, 28.08, 55.95), (50, 259, 29.80, 44.89), (75, 173, 39.57, 49.35), (100, 130, 51.10, 59.24))
"""Published table at 12.6 GB: shard size [MB], ranks, Map and end to end [s]. Its 50 MB are in no fit."""

HEADLINE_GB = 12.6

SCORE_COLUMNS = (
    "",
    "Map: median error",
    "within 90 %",
    "within 50 %",
    "end to end: median error",
    "within 90 %",
    "within 50 %",
)
MEASURED_COLUMNS = ("Map [s]", "forecast", "end to end [s]", "forecast")
CELL_COLUMNS = ("shards", "data", "batch", "ranks", *MEASURED_COLUMNS)
HEADLINE_COLUMNS = ("shards", "ranks", *MEASURED_COLUMNS)
PARAMETER_COLUMNS = ("", "before", "after", "what was believed before, and why")

REMARKS = {
    (
        100.0,
        983.0,
    ): "100 MB, 983 GB: 59 s in the Map, as if 1,000 children were dispatched a second and not 100, and no "
    "record was left. The 7,865 ranks of 768 GB took 138 s and more.",
    (100.0, 100.0): "100 MB, 100 GB: 983 records were kept, and yet the run took 7 s besides the Map, where 1,000 "
    "records take 50 s everywhere else.",
    (25.0, 1.0): "25 MB, 1 GB, batch 512: a quarter faster than every other cell of these shards; why is not known.",
    (200.0, 1.0): "200 MB, one run: a rank takes less than in proportion to its shard there.",
}
"""What is known of cells that the model misses."""

WORDS = {
    "before": "start of the execution and Initialize",
    "dispatch": "until it is dispatched",
    "room": "waits for an environment",
    "start": "starts it",
    "work": "downloads, computes, writes",
    "tail": "lingers",
    "after": "Summarize",
}
"""Steps of a run in words."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Everything that the page says of the published runs."""

    runs: Runs
    constants: Constants
    fitted: Fitted
    """On all of the runs."""

    unseen: Prediction
    """Every cell by a fit to the others."""


def write_page(found: Judgement, best: Forecast, folder: Path) -> list[Path]:
    """Write the page and its plots: the same runs give the same bytes.

    Parameters
    ----------
    found : Judgement
        How the model does on published runs.
    best : Forecast
        Of our own system at the same data.
    folder : Path
        Of the page; it exists.
    """
    for name, title, measured, predicted in (
        ("map", "Map", found.runs.map_s, found.unseen.map_s),
        ("end_to_end", "end to end", found.runs.end_to_end_s, found.unseen.end_to_end_s),
    ):
        drawing = draw_predicted(list(_groups(found.runs, measured, predicted)), what=title)
        as_png(drawing, folder / PLOTS[name], title="Every cell, forecast by the others")
    write_whole(folder / PAGE, _text(found, best).encode())
    return [folder / PAGE, *(folder / name for name in PLOTS.values())]


def _groups(runs: Runs, measured: Array, predicted: Array) -> Iterator[Predicted]:
    for shard_mb in sorted(set(runs.shard_mb.tolist())):
        settings = sorted({setting for setting in _settings(runs) if setting[0] == shard_mb})
        rows = [np.flatnonzero([one == setting for one in _settings(runs)]) for setting in settings]
        ends = np.array([np.quantile(predicted[i[0]], (0.05, 0.5, 0.95)) for i in rows]).T
        yield Predicted(f"{shard_mb:g} MB", np.array([measured[i].mean() for i in rows]), *ends)


def _settings(runs: Runs) -> list[tuple[float, float, float]]:
    return list(zip(runs.shard_mb.tolist(), runs.data_gb.tolist(), runs.batch_size.tolist(), strict=True))


# ----------------------------------------------------------------------------------------------- text


def _text(found: Judgement, best: Forecast) -> str:
    runs = found.runs
    end_to_end_s, headline = best.seconds["end_to_end"], _headline(found)
    return TEMPLATE.read_text(encoding="utf-8").format(
        num_runs=len(runs),
        num_cells=len(runs.cells),
        ranks=f"{runs.num_ranks.min():.0f} to {runs.num_ranks.max():,.0f}",
        data=f"{runs.data_gb.min():g} to {runs.data_gb.max():g}",
        num_inside=round(score(found.unseen.end_to_end_s, runs.end_to_end_s).inside_90 * len(runs)),
        num_map=round(score(found.unseen.map_s, runs.map_s).inside_90 * len(runs)),
        freedom=f"{np.exp(found.fitted.log_values[-1]):.1f}",
        scores=table(SCORE_COLUMNS, _scores(found)),
        cells=table(CELL_COLUMNS, _cells(found)),
        remarks=_remarks(runs),
        headline=table(HEADLINE_COLUMNS, [_headline_row(one) for one in headline]),
        ranking_published=_ranking(headline, lambda one: one.end_to_end_s),
        ranking_forecast=_ranking(headline, lambda one: one.forecast[2]),
        parameters=table(PARAMETER_COLUMNS, _parameters(found.constants.published, found.fitted)),
        our_rows=f"{best.setting.num_rows:,}",
        our_setting=describe(best.setting),
        our_s=f"{end_to_end_s[2]:.0f}",
        our_50=f"{end_to_end_s[1]:.0f} to {end_to_end_s[3]:.0f}",
        our_90=f"{end_to_end_s[0]:.0f} to {end_to_end_s[4]:.0f}",
        our_map=_interval(best.seconds["map"]),
        our_usd=f"{best.usd[2]:.3f}",
        our_usd_90=f"{best.usd[0]:.3f} to {best.usd[4]:.3f}",
        prices_of=best.bills[0].prices_of,
        source=best.source,
        last=table(("the rank that ends last", "mean [s]"), [(WORDS[k], f"{s:.1f}") for k, s in best.last.items()]),
    )


def _scores(found: Judgement) -> Iterator[Sequence[str]]:
    runs = found.runs
    rivals = {
        "this model": (found.unseen.map_s, found.unseen.end_to_end_s),
        "linear regression on ranks and shard size": linear_regression(runs),
        "mean of the other cells": mean_of_others(runs),
    }
    for name, (map_s, end_to_end_s) in rivals.items():
        yield name, *_score(score(map_s, runs.map_s)), *_score(score(end_to_end_s, runs.end_to_end_s))


def _score(found: Score) -> list[str]:
    return [_percent(found.error, 1), *(_percent(share) for share in (found.inside_90, found.inside_50))]


def _percent(share: float, num_decimals: int = 0) -> str:
    return f"{100 * share:.{num_decimals}f} %" if np.isfinite(share) else ""


def _cells(found: Judgement) -> Iterator[Sequence[str]]:
    runs, settings = found.runs, _settings(found.runs)
    for setting in sorted(set(settings)):
        which = np.flatnonzero([one == setting for one in settings])
        first = int(which[0])
        yield (
            f"{setting[0]:g} MB",
            f"{setting[1]:g} GB",
            f"{setting[2]:g}",
            f"{int(runs.num_ranks[first]):,}",
            _between(runs.map_s[which]),
            _interval(quantiles(found.unseen.map_s[first])),
            _between(runs.end_to_end_s[which]),
            _interval(quantiles(found.unseen.end_to_end_s[first])),
        )


def _remarks(runs: Runs) -> str:
    remarks = [f"- {REMARKS[cell]}\n" for cell in runs.cells if cell in REMARKS]
    return "Where it is wrong:\n\n" + "".join(remarks) if remarks else ""


@dataclass(frozen=True)
class Headline:
    """A line of the published table, and its forecast as quantiles."""

    shard_mb: int
    num_ranks: int
    map_s: float
    end_to_end_s: float
    map_forecast: tuple[float, ...]
    forecast: tuple[float, ...]


def _headline(found: Judgement) -> list[Headline]:
    settings, lines = _settings(found.runs), []
    num_replications = found.unseen.map_s.shape[1]
    for shard_mb, num_ranks, map_s, end_to_end_s in HEADLINE:
        setting = (float(shard_mb), HEADLINE_GB, 512.0)
        if setting in settings:
            i, there = settings.index(setting), found.unseen
        else:
            run = single_run(shard_mb, HEADLINE_GB, num_ranks)
            i, there = 0, predict(found.fitted, run, num_replications=num_replications)
        ends = quantiles(there.map_s[i]), quantiles(there.end_to_end_s[i])
        lines.append(Headline(shard_mb, num_ranks, map_s, end_to_end_s, *ends))
    return lines


def _headline_row(one: Headline) -> Sequence[str]:
    return (
        f"{one.shard_mb} MB",
        f"{one.num_ranks}",
        f"{one.map_s:.1f}",
        _interval(one.map_forecast),
        f"{one.end_to_end_s:.1f}",
        _interval(one.forecast),
    )


def _ranking(lines: Sequence[Headline], by: Callable[[Headline], float]) -> str:
    return ", ".join(str(one.shard_mb) for one in sorted(lines, key=by))


def single_run(shard_mb: float, data_gb: float, num_ranks: int, *, batch_size: int = 512) -> Runs:
    """Return a run of the published system that is not in the table, to be forecast."""
    values = (shard_mb, data_gb, batch_size, num_ranks, np.nan, np.nan)
    return Runs(*(np.array([float(value)]) for value in values))


def _parameters(prior: Mapping[str, Constant], fitted: Fitted) -> Iterator[Sequence[str]]:
    for i, name in enumerate(fitted.names):
        after, spread = np.exp(fitted.log_values[i]), fitted.log_covariance[i][i] ** 0.5
        before = prior[name]
        yield (
            f"`{name}`",
            f"{before.value:g} ± {_percent(before.spread)}",
            f"{after:.3g} ± {_percent(spread)}",
            before.source,
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a table in Markdown."""
    return "\n".join([_row(columns), "|" + "---|" * len(columns), *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _between(values: Array) -> str:
    low, high = f"{values.min():.1f}", f"{values.max():.1f}"
    return low if low == high else f"{low}-{high}"


def _interval(found: Sequence[float]) -> str:
    return f"{found[2]:.1f} ({found[0]:.1f}-{found[4]:.1f})"


def pareto(found: Choice) -> Drawing:
    """Draw the settings of a plan by time and price, the two that are recommended named."""
    names = {id(found.cheapest): "cheapest", id(found.fastest): "fastest"}
    if _are_near(found.cheapest, found.fastest):
        names = {id(found.fastest): "fastest and cheapest"}
    on_front = {id(one) for one in found.front}
    offers = [
        Offer(
            one.seconds["end_to_end"][2], one.usd[2], id(one) in on_front, names.get(id(one), ""), describe(one.setting)
        )
        for one in (*found.others, *found.front)
    ]
    return draw_front(offers)


def _are_near(one: Forecast, other: Forecast) -> bool:
    """Return whether two names would stand on each other."""
    times_s, usd = ((a, b) for a, b in zip(_place(one), _place(other), strict=True))
    return max(times_s) < 1.1 * min(times_s) and max(usd) < 1.1 * min(usd)


def _place(one: Forecast) -> tuple[float, float]:
    return one.seconds["end_to_end"][2], one.usd[2]
