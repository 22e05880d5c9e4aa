"""What was forecast against what was measured, and what a run takes as data grow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from scripts.reports.figures.canvas import COLORS, HALF, WIDE, Array, add_legend, axes_of, styled, tick_label
from scripts.reports.figures.settings import STYLES

TICKS = (10, 20, 30, 50, 100, 200, 300)


@dataclass(frozen=True)
class Predicted:
    """Cells of one shard size: arrays of shape (M,)."""

    name: str
    measured_s: Array
    """Mean of the cell's runs."""

    low_s: Array
    """Lower end of the central 90 % of the forecast."""

    median_s: Array
    high_s: Array


@styled
def draw_predicted(groups: Sequence[Predicted], *, what: str) -> Figure:
    """Draw the forecast of every cell, with its central 90 %, against the mean of its runs; the diagonal is right."""
    every = np.concatenate([[*one.measured_s, *one.low_s, *one.high_s] for one in groups])
    ends = float(every.min()) / 1.1, float(every.max()) * 1.1
    figure, axes = axes_of(
        x=ends, y=ends, x_label=f"{what}, measured [s]", y_label=f"{what}, forecast [s]", size=(HALF, HALF), top=62
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [tick for tick in TICKS if ends[0] < tick < ends[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.grid(visible=True, axis="both")
    axes.plot(ends, ends, color=COLORS["mark"], linewidth=1.2, linestyle="--")
    handles = []
    for i, one in enumerate(groups):
        color, _, marker = STYLES[i % len(STYLES)]
        axes.vlines(one.measured_s, one.low_s, one.high_s, color=COLORS[color], linewidth=1.3)
        axes.plot(one.measured_s, one.median_s, color=COLORS[color], marker=marker, markersize=7, linestyle="none")
        handles.append(Line2D([], [], color=COLORS[color], marker=marker, linestyle="none", label=one.name))
    add_legend(axes, handles)
    return figure


@dataclass(frozen=True)
class Line:
    """A quantity along another, with an interval: arrays of shape (M,)."""

    name: str
    x: Array
    low: Array
    median: Array
    high: Array


@styled
def draw_lines(lines: Sequence[Line], *, x_label: str, y_label: str) -> Figure:
    """Draw quantities along another one, both logarithmic, each with the central 90 % shaded."""
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([[*line.low, *line.high] for line in lines])
    figure, axes = axes_of(
        x=(float(x.min()) / 1.15, float(x.max()) * 1.15),
        y=(float(y.min()) / 1.3, float(y.max()) * 1.3),
        x_label=x_label,
        y_label=y_label,
        size=(WIDE, 340),
        top=48,
        left=62,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
        axis.set_minor_locator(NullLocator())
    handles = []
    for i, line in enumerate(lines):
        color, dashes, marker = STYLES[i % len(STYLES)]
        axes.fill_between(line.x, line.low, line.high, color=COLORS[color], alpha=0.15, linewidth=0)
        axes.plot(line.x, line.median, color=COLORS[color], linewidth=2, dashes=dashes or (None, None), marker=marker)
        handles.append(Line2D([], [], color=COLORS[color], linewidth=2, marker=marker, label=line.name))
    add_legend(axes, handles)
    return figure
