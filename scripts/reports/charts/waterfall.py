"""When each rank was in which phase: a row per rank, or per group of ranks when there are many."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.reports.charts.scale import padded
from scripts.reports.charts.svg import Frame, element, legend, legend_width, rectangles, short
from scripts.reports.quantities import seconds

Array = NDArray[np.float64]

WIDTH = 880.0
MAX_ROWS = 128
MAX_NAMED_ROWS = 32


@dataclass(frozen=True)
class Timeline:
    """Phases of the ranks, in order of their start."""

    names: tuple[str, ...]
    """The phases in the order in which they follow each other."""

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


def waterfall(timeline: Timeline, *, title: str, description: str) -> tuple[Markup, int]:
    """Return the chart, and how many ranks share a row of it.

    Notes
    -----
    A row of several ranks shows the one of median duration; a thin line reaches from the group's first start to its
    last end.
    """
    num = len(timeline.ranks)
    share = -(-num // MAX_ROWS)
    groups = [np.arange(first, min(first + share, num)) for first in range(0, num, share)]
    pitch = 16.0 if len(groups) <= MAX_NAMED_ROWS else 3.6
    height = pitch * len(groups)
    frame = Frame(
        padded(timeline.end, from_zero=True, share=0.02),
        (0, len(groups)),
        x_label="seconds after the first rank entered the Map",
        y_label="rank" if share == 1 else f"groups of {share} ranks, in order of start",
        size=(WIDTH, height + 76),
        left=52 if pitch > 10 else 12,
        show_y=False,
    )
    rows = [_row(timeline, group, frame, frame.top + pitch * i, pitch) for i, group in enumerate(groups)]
    entries = [(f"phase-{name}", name.replace("_", " ")) for name in timeline.names]
    key = legend(entries, x=frame.right - legend_width(entries), y=12)
    return frame.draw([*rows, key], title=title, description=description), share


def _row(timeline: Timeline, group: NDArray[np.int64], frame: Frame, top: float, pitch: float) -> Markup:
    durations = timeline.lengths[group].sum(axis=1)
    median = int(group[np.argsort(durations, kind="stable")[len(group) // 2]])
    edges = frame.x(timeline.edges[median])
    height = pitch - (3 if pitch > 10 else 0.6)
    parts = [element("title", _told(timeline, group, median))]
    if len(group) > 1:
        first, last = frame.x.at(timeline.start[group].min()), frame.x.at(timeline.end[group].max())
        parts.append(element("path", d=f"M{short(first)} {short(top + height / 2)}H{short(last)}", class_="line reach"))
    for i, name in enumerate(timeline.names):
        path = rectangles(edges[i : i + 1], np.array([top]), edges[i + 1 : i + 2] - edges[i], height)
        if path:
            parts.append(element("path", d=path, class_=f"fill phase-{name}"))
    if pitch > 10:
        parts.append(
            element("text", f"{timeline.ranks[median]}", x=frame.left - 7, y=top + height - 2, class_="tick end")
        )
    return element("g", *parts, class_="tip")


def _told(timeline: Timeline, group: NDArray[np.int64], median: int) -> str:
    phases = ", ".join(
        f"{name.replace('_', ' ')} {seconds(length)}"
        for name, length in zip(timeline.names, timeline.lengths[median].tolist(), strict=True)
        if length > 0
    )
    who = f"rank {timeline.ranks[median]}"
    if len(group) > 1:
        slowest = group[np.argmax(timeline.lengths[group].sum(axis=1))]
        longest = seconds(float(timeline.lengths[slowest].sum()))
        who = f"{len(group)} ranks, slowest {timeline.ranks[slowest]} with {longest}; the median, {who}"
    return f"{who}: {phases}"


def concurrency(timeline: Timeline, *, title: str, description: str) -> Markup:
    """Return how many ranks were in each phase over time, stacked."""
    end = float(timeline.end.max())
    moments = np.linspace(0.0, end, 241)
    counts = np.array([_num_within(timeline, i, moments) for i in range(len(timeline.names))], float)  # (P, T)
    tops = np.pad(np.cumsum(counts, axis=0), ((1, 0), (0, 0)))
    frame = Frame(
        (0.0, end),
        padded(tops[-1], from_zero=True, share=0.08),
        x_label="seconds after the first rank entered the Map",
        y_label="ranks",
        size=(WIDTH, 230),
    )
    x = frame.x(moments)
    areas = []
    for i, name in enumerate(timeline.names):
        above, below = frame.y(tops[i + 1]), frame.y(tops[i])
        points = [*zip(x, above, strict=True), *zip(x[::-1], below[::-1], strict=True)]
        if counts[i].any():
            path = "M" + "L".join(f"{short(a)} {short(b)}" for a, b in points) + "z"
            areas.append(element("path", d=path, class_=f"fill phase-{name}"))
    entries = [(f"phase-{name}", name.replace("_", " ")) for name in timeline.names]
    key = legend(entries, x=frame.right - legend_width(entries), y=12)
    return frame.draw([*areas, key], title=title, description=description)


def _num_within(timeline: Timeline, phase: int, moments: Array) -> NDArray[np.int64]:
    begun = np.searchsorted(np.sort(timeline.edges[:, phase]), moments, side="right")
    over = np.searchsorted(np.sort(timeline.edges[:, phase + 1]), moments, side="right")
    return begun - over
