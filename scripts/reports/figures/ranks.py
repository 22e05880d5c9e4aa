"""Where the time and the memory of the ranks went: phases, who was in which phase when, and distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from scripts.reports.figures.canvas import (
    COLORS,
    HALF,
    LETTER,
    WIDE,
    Array,
    add_boxes,
    add_legend,
    axes_of,
    bin_edges,
    hit,
    padded,
    styled,
    swatch,
    tip,
)
from scripts.reports.quantities import percent, seconds

MAX_ROWS = 128
"""Rows of a waterfall; of more ranks, several share one."""

MAX_NAMED_ROWS = 32
MAX_DOTS = 40
"""Values that are drawn one by one; more become a histogram."""

NUM_MOMENTS = 241


# ------------------------------------------------------------------------------------------------ phases in time


@dataclass(frozen=True)
class Timeline:
    """Phases of the ranks, in order of their start."""

    names: tuple[str, ...]
    """The phases in the order in which they follow each other, by the names of their colours."""

    ranks: NDArray[np.int64]
    """Rank of each line, shape (R,)."""

    start: Array
    """When the first phase began, shape (R,) [s]."""

    lengths: Array
    """Seconds per phase, shape (R, P) [s]."""

    @cached_property
    def edges(self) -> Array:
        """Begin of each phase and the end of the last, shape (R, P + 1) [s]."""
        return self.start[:, None] + np.pad(np.cumsum(self.lengths, axis=1), ((0, 0), (1, 0)))

    @property
    def end(self) -> Array:
        """When the last phase ended, shape (R,) [s]."""
        end: Array = self.edges[:, -1]
        return end


@dataclass(frozen=True)
class WaterfallRow:
    """One row of a waterfall: the rank of median duration, and how far its group reaches."""

    line: int
    """Line of the timeline that is drawn."""

    num_ranks: int
    first: float
    """First start of the group [s]."""

    last: float
    """Last end of the group [s]."""

    text: str
    """The row in words."""


def waterfall_rows(timeline: Timeline) -> list[WaterfallRow]:
    """Return at most `MAX_ROWS` rows; each stands for equally many ranks that started one after the other."""
    num = len(timeline.ranks)
    share = -(-num // MAX_ROWS)
    groups = (np.arange(first, min(first + share, num)) for first in range(0, num, share))
    return [_row(timeline, group) for group in groups]


def _row(timeline: Timeline, group: NDArray[np.int64]) -> WaterfallRow:
    durations = timeline.lengths[group].sum(axis=1)
    median = int(group[np.argsort(durations, kind="stable")[len(group) // 2]])
    phases = ", ".join(
        f"{_spaced(name)} {seconds(length)}"
        for name, length in zip(timeline.names, timeline.lengths[median].tolist(), strict=True)
        if length > 0
    )
    who = f"rank {timeline.ranks[median]}"
    if len(group) > 1:
        slowest = int(np.argmax(durations))
        who = (
            f"{len(group)} ranks, slowest {timeline.ranks[group[slowest]]} with {seconds(float(durations[slowest]))}; "
            f"the median, {who}"
        )
    return WaterfallRow(
        median,
        len(group),
        float(timeline.start[group].min()),
        float(timeline.end[group].max()),
        f"{who}: {phases}",
    )


@styled
def draw_waterfall(timeline: Timeline, rows: Sequence[WaterfallRow]) -> Figure:
    """Draw when each rank was in which phase; of rows of several ranks, a thin line shows how far they reach."""
    share, num = rows[0].num_ranks, len(rows)
    pitch = 16.0 if num <= MAX_NAMED_ROWS else 3.6
    figure, axes = axes_of(
        x=padded(timeline.end, from_zero=True, share=0.02),
        y=(num, 0),
        x_label="seconds after the first rank entered the Map",
        y_label="rank" if share == 1 else f"groups of {share} ranks, in order of start",
        size=(WIDE, pitch * num + 76),
        left=52 if num <= MAX_NAMED_ROWS else 12,
        y_ticks=False,
    )
    middle = np.arange(0.5, num, dtype=np.float64)
    if share > 1:
        gaps = np.full(num, np.nan)
        reach = np.stack([[row.first for row in rows], [row.last for row in rows], gaps], axis=1)
        axes.plot(reach.ravel(), np.repeat(middle, 3), color=COLORS["quiet"], linewidth=1, solid_capstyle="butt")
    thick = 0.4 if pitch > 10 else 0.42
    edges = timeline.edges[[row.line for row in rows]]
    for i, name in enumerate(timeline.names):
        low, high = middle - thick, middle + thick
        add_boxes(axes, edges[:, i], edges[:, i + 1], low, high, color=COLORS[_css(name)], zorder=3)
    for i, row in enumerate(rows):
        axes.add_artist(Rectangle((row.first, i), row.last - row.first, 1, alpha=0, gid=hit(row.text)))
    if num <= MAX_NAMED_ROWS:
        axes.set_yticks(middle, [f"{timeline.ranks[row.line]}" for row in rows])
    axes.grid(visible=False)
    add_legend(axes, [swatch(_css(name), _spaced(name)) for name in timeline.names])
    return figure


def ranks_at_work(timeline: Timeline) -> tuple[Array, NDArray[np.int64]]:
    """Return moments from the start to the end [s], shape (T,), and the ranks in each phase then, shape (P, T)."""
    moments = np.linspace(0.0, float(timeline.end.max()), NUM_MOMENTS)
    num_begun = [np.searchsorted(np.sort(edge), moments, side="right") for edge in timeline.edges.T]
    return moments, -np.diff(num_begun, axis=0)


@styled
def draw_ranks_at_work(timeline: Timeline) -> Figure:
    """Draw how many ranks were in each phase over time, stacked."""
    moments, counts = ranks_at_work(timeline)
    tops = np.pad(np.cumsum(counts, axis=0), ((1, 0), (0, 0)))
    figure, axes = axes_of(
        x=(0.0, moments[-1]),
        y=padded(tops[-1].astype(float), from_zero=True, share=0.08),
        x_label="seconds after the first rank entered the Map",
        y_label="ranks",
        size=(WIDE, 230),
        whole_y=True,
    )
    for i, name in enumerate(timeline.names):
        if counts[i].any():
            along, edge = np.append(moments, moments[::-1]), np.append(tops[i + 1], tops[i][::-1])
            axes.fill(along, edge, color=COLORS[_css(name)], linewidth=0)
    add_legend(axes, [swatch(_css(name), _spaced(name)) for name in timeline.names])
    return figure


@styled
def draw_shares(parts: Mapping[str, float]) -> Figure:
    """Draw phases and their seconds as parts of one bar, with their shares below it."""
    whole = sum(parts.values()) or 1.0
    figure = Figure(figsize=(WIDE / 72, 62 / 72))
    axes = figure.add_axes((0, 34 / 62, 1, 28 / 62), xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    left = 0.0
    for name, value in parts.items():
        text = f"{_spaced(name)}: {seconds(value)}, {percent(value / whole)}"
        width = max(value / whole - 1 / WIDE, 0.5 / WIDE)
        axes.add_artist(Rectangle((left, 0), width, 1, color=COLORS[_css(name)], linewidth=0, gid=tip(text)))
        left += value / whole
    handles = [swatch(_css(name), f"{_spaced(name)} {percent(value / whole)}") for name, value in parts.items()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.15), ncols=len(parts), handlelength=0.8)
    return figure


def _css(name: str) -> str:
    return name.replace("_", "-")


def _spaced(name: str) -> str:
    return name.replace("_", " ")


# ------------------------------------------------------------------------------------------------ distributions


@styled
def draw_distribution(values: Array, *, label: str, what: str, marks: Mapping[str, float]) -> Figure:
    """Draw how values are spread: each as a dot as high as its place where they are few, a histogram of many.

    Parameters
    ----------
    values : array, shape (N,)
        One per rank; those that are not finite are left out.
    label : str
        Quantity and unit.
    what : str
        What one value belongs to, such as ``rank``.
    marks : mapping
        Name to place of vertical lines, such as the median.
    """
    finite = np.sort(values[np.isfinite(values)])
    num = len(finite)
    is_few = num <= MAX_DOTS
    if is_few:
        has_zero = finite[0] >= 0 and finite[-1] > 0
        room = (0.0, float(finite[-1]) * 1.06) if has_zero else padded(finite)
        heights = np.arange(1.0, num + 1)
        top = (0.0, num + 0.5)
    else:
        edges = bin_edges(finite)
        heights = np.histogram(finite, edges)[0].astype(float)
        room, top = (float(edges[0]), float(edges[-1])), padded(heights, from_zero=True, share=0.15)
    figure, axes = axes_of(
        x=room,
        y=top,
        x_label=label,
        y_label=f"{what}s at or below" if is_few else f"{what}s per bin",
        size=(HALF, 244),
        top=46,
        whole_y=True,
    )
    if is_few:
        axes.step(finite, heights, where="post", color=COLORS["s1"], linewidth=1)
        axes.plot(finite, heights, color=COLORS["s1"], marker="o", markersize=6, linestyle="", clip_on=False)
    else:
        add_boxes(axes, edges[:-1], edges[1:], np.zeros_like(heights), heights, color=COLORS["s1"])
    _add_marks(axes, marks)
    return figure


def _add_marks(axes: Axes, marks: Mapping[str, float]) -> None:
    """Add vertical lines whose names stand above the axes, so that no name crosses a line.

    Names stand to the right of their lines, the leftmost on top; near the end of the axis to the left, and the
    rightmost on top.
    """
    box = axes.get_window_extent()
    ordered = sorted(marks.items(), key=lambda mark: mark[1])
    is_left = any(box.x1 - axes.transData.transform((value, 0))[0] < LETTER * len(name) for name, value in ordered)
    for i, (name, value) in enumerate(reversed(ordered) if is_left else ordered):
        above = 1 + (18 - 14 * i) / box.height
        upwards = axes.get_xaxis_transform()
        axes.plot(
            [value, value],
            [0, above + 8 / box.height],
            transform=upwards,
            clip_on=False,
            color=COLORS["mark"],
            linewidth=1.2,
            linestyle="--",
        )
        offset = -5 if is_left else 5
        axes.annotate(
            name,
            (value, above),
            (offset, 0),
            xycoords=upwards,
            textcoords="offset points",
            ha="right" if is_left else "left",
            annotation_clip=False,
        )
