"""What the settings of a sweep change: a measure along an axis, and time against cost with the Pareto front."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.reports.figures.canvas import (
    COLORS,
    HALF,
    LETTER,
    LINE,
    WIDE,
    Array,
    add_legend,
    axes_of,
    padded,
    styled,
    tip,
)

STYLES: tuple[tuple[str, tuple[float, ...], str], ...] = (
    ("s1", (), "o"),
    ("s2", (6, 3), "s"),
    ("s3", (2, 3), "^"),
    ("s4", (9, 3, 2, 3), "D"),
    ("s5", (12, 4), "v"),
    ("s6", (4, 2, 1, 2), "P"),
)
"""Colour, dashes [px] and marker of each series: they differ without colours too."""

LOG_RATIO = 6.0
"""Values that spread over more than this factor stand on a logarithmic axis."""

MIN_APART = 0.09
"""Share of the axis between two of its ticks."""


@dataclass(frozen=True)
class Point:
    """One setting in a figure."""

    x: float
    y: float
    low: float
    """Lower end of the interval of `y`; equal to it where there is none."""

    high: float
    text: str
    """The point in words."""


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    name: str
    """Empty when there is nothing to distinguish."""

    points: Sequence[Point]


@styled
def draw_series(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_names: Mapping[float, str] | None = None,
    ideal: Callable[[Array], Array] | None = None,
) -> Figure:
    """Draw a measure along a setting: medians with intervals, a line and a marker of its own for every series.

    Parameters
    ----------
    series : sequence of Series
        At most as many as `STYLES`; those repeat after that.
    x_names : mapping, optional
        Place on the x axis to its name, for a setting that is not a number; such points are not connected.
    ideal : callable, optional
        What y would be if everything scaled, drawn dashed.
    """
    points = [point for one in series for point in one.points]
    x = np.array(sorted({point.x for point in points}))
    reach = np.array([value for point in points for value in (point.low, point.high)])
    handles = [_handle(i, one.name) for i, one in enumerate(series) if one.name]
    if ideal:
        reach = np.append(reach, ideal(x))
        handles.append(Line2D([], [], color=COLORS["mark"], linewidth=1.2, linestyle="--", label="ideal"))
    rooms = [44 + LETTER * len(str(handle.get_label())) for handle in handles]
    columns = len(rooms) if sum(rooms) < HALF - 20 else max(1, int((HALF - 20) / max(rooms)))
    num_lines = -(-len(handles) // max(columns, 1))
    figure, axes = axes_of(
        x=x_range(x, is_log := is_logarithmic(x) and not x_names),
        y=padded(reach, from_zero=True, share=0.08),
        x_label=x_label,
        y_label=y_label,
        size=(HALF, 270 + LINE * num_lines),
        top=26 + LINE * num_lines,
    )
    if is_log:
        axes.set_xscale("log")
    ticks = ticks_apart(x, is_log=is_log)
    axes.set_xticks(ticks, [(x_names or {}).get(tick, f"{tick:,.6g}") for tick in ticks])
    axes.set_xticks([], minor=True)
    if ideal:
        along = np.geomspace(x[0], x[-1], 48)
        axes.plot(along, ideal(along), color=COLORS["mark"], linewidth=1.2, linestyle="--")
    for i, one in enumerate(series):
        _add_series(axes, i, one, connected=x_names is None)
    if handles:
        add_legend(axes, handles, num_columns=columns, above=0)
    return figure


def is_logarithmic(x: Array) -> bool:
    """Return whether rising places spread so far that they stand on a logarithmic axis."""
    return bool(x[0] > 0 and x[-1] / x[0] >= LOG_RATIO)


def x_range(x: Array, is_log: bool) -> tuple[float, float]:
    """Return the ends of an axis with some room on both sides of rising places."""
    if is_log:
        return float(x[0]) / 1.15, float(x[-1]) * 1.15
    room = 0.06 * float(x[-1] - x[0]) or 0.5
    return float(x[0]) - room, float(x[-1]) + room


def ticks_apart(x: Array, *, is_log: bool) -> list[float]:
    """Return the measured places whose labels do not run into each other."""
    at = np.log(x) if is_log else x
    span = float(at[-1] - at[0]) or 1.0
    kept: list[int] = []
    for i in range(len(x)):
        if not kept or (at[i] - at[kept[-1]]) / span > MIN_APART:
            kept.append(i)
    return [float(x[i]) for i in kept]


def _add_series(axes: Axes, number: int, one: Series, *, connected: bool) -> None:
    name, dashes, marker = STYLES[number % len(STYLES)]
    color = COLORS[name]
    points = sorted(one.points, key=lambda point: point.x)
    if connected and len(points) > 1:
        axes.plot([p.x for p in points], [p.y for p in points], color=color, linewidth=2, dashes=dashes or (None, None))
    whiskers = np.array([(p.x, end) for p in points if p.high > p.low for end in (p.low, p.high, np.nan)])
    if len(whiskers):
        axes.plot(*whiskers.T, color=color, linewidth=1.3, marker="_", markersize=8, markeredgewidth=1.3)
    for point in points:
        axes.plot(point.x, point.y, color=color, marker=marker, markersize=8, markeredgewidth=0, gid=tip(point.text))


def _handle(number: int, label: str) -> Line2D:
    name, dashes, marker = STYLES[number % len(STYLES)]
    line = Line2D([], [], color=COLORS[name], linewidth=2, marker=marker, markersize=6, markeredgewidth=0, label=label)
    if dashes:
        line.set_dashes(dashes)
    return line


# ----------------------------------------------------------------------------------------------- time against cost


@dataclass(frozen=True)
class Offer:
    """A setting by what it takes and what it costs."""

    time_s: float
    usd: float
    is_pareto: bool
    """Whether no other setting that predicted as many galaxies is both faster and cheaper."""

    name: str
    """What it is recommended for; empty for nothing."""

    text: str
    """The setting in words."""


def front_steps(offers: Sequence[Offer]) -> tuple[Array, Array]:
    """Return the corners of the Pareto front, from the fastest to the cheapest: time [s] and price [USD].

    Between two settings the price is that of the faster one until the slower one is reached.
    """
    front = np.array(sorted((offer.time_s, offer.usd) for offer in offers if offer.is_pareto)).reshape(-1, 2)
    return np.repeat(front[:, 0], 2)[1:], np.repeat(front[:, 1], 2)[:-1]


@styled
def draw_front(offers: Sequence[Offer]) -> Figure:
    """Draw settings by time and cost: those on the Pareto front filled and joined, the recommended ones named."""
    figure, axes = axes_of(
        x=padded(np.array([offer.time_s for offer in offers]), from_zero=True, share=0.15),
        y=padded(np.array([offer.usd for offer in offers]), from_zero=True, share=0.15),
        x_label="end to end [s]",
        y_label="list price of a run [USD]",
        size=(WIDE, 340),
        left=70,
    )
    axes.plot(*front_steps(offers), color=COLORS["mark"], linewidth=1.2, linestyle="--")
    for offer in offers:
        filled, hollow = (COLORS["s2"], COLORS["s2"]), (COLORS["page"], COLORS["s1"])
        face, edge = filled if offer.is_pareto else hollow
        axes.plot(
            offer.time_s,
            offer.usd,
            marker="o",
            markersize=9,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=1.6,
            gid=tip(offer.text),
        )
        if offer.name:
            # No setting is below and left of one on the front.
            axes.annotate(offer.name, (offer.time_s, offer.usd), (-7, -17), textcoords="offset points", ha="right")
    return figure
