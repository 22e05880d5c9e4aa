"""How values are spread: every value as a dot where they are few, a histogram where they are many."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.reports.charts.scale import padded
from scripts.reports.charts.svg import Frame, element, legend, legend_width, line_path, short

Array = NDArray[np.float64]

MAX_DOTS = 40
SIZE = (420.0, 238.0)


def distribution(
    values: Array, *, x_label: str, what: str, title: str, description: str, marks: dict[str, float] | None = None
) -> Markup:
    """Return the spread of a quantity.

    Parameters
    ----------
    values : array, shape (N,)
        One per rank; not finite ones are left out.
    x_label : str
        Quantity and unit.
    what : str
        What one value belongs to, such as ``rank``.
    marks : dict
        Name to place of vertical lines, such as the median.
    """
    finite = np.sort(values[np.isfinite(values)])
    draw = _dots if finite.size <= MAX_DOTS else _bars
    frame, parts = draw(finite, x_label, what)
    return frame.draw([*_verticals(frame, marks or {}), *parts], title=title, description=description)


def outlines(
    samples: dict[str, Array], *, x_label: str, y_label: str, title: str, description: str, high: float | None = None
) -> Markup:
    """Return distributions of the same quantity as outlines on top of each other, the first one filled."""
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    edges = bin_edges(np.concatenate(list(finite.values())), high=high)
    counts = {name: np.histogram(values, edges)[0].astype(float) for name, values in finite.items()}
    top = padded(np.concatenate(list(counts.values())), from_zero=True, share=0.08)
    frame = Frame((edges[0], edges[-1]), top, x_label=x_label, y_label=y_label, size=(430, 400))
    x = frame.x(np.repeat(edges, 2))
    parts, entries = [], []
    for i, (name, num) in enumerate(counts.items(), start=1):
        path = line_path(x, frame.y(np.pad(np.repeat(num, 2), 1)))
        if i == 1:
            parts.append(element("path", d=path + "z", class_="fill series-1 soft"))
        parts.append(element("path", d=path, class_=f"line series-{i}"))
        entries.append((f"series-{i}", name))
    parts.append(legend(entries, x=frame.right - legend_width(entries), y=12, kind="line"))
    return frame.draw(parts, title=title, description=description)


def bin_edges(values: Array, *, high: float | None = None) -> Array:
    """Return edges of 10 to 48 equal bins over the values, by the rule of Freedman and Diaconis."""
    if not values.size:
        return np.linspace(0.0, 1.0, 11)
    low, high = float(values.min()), float(values.max()) if high is None else high
    if high <= low:
        room = abs(low) * 0.05 or 0.5
        return np.linspace(low - room, high + room, 11)
    q25, q75 = np.quantile(values, [0.25, 0.75])
    width = 2 * (q75 - q25) / values.size ** (1 / 3) or (high - low) / 30
    num = int(np.clip((high - low) / width, 10, 48))
    return np.linspace(low, high, num + 1)


def _dots(ordered: Array, x_label: str, what: str) -> tuple[Frame, list[Markup]]:
    """Return each value as a dot as high as its place among all: the steps of the cumulative distribution."""
    num = len(ordered)
    room = (0.0, float(ordered[-1]) * 1.06) if ordered[0] >= 0 and ordered[-1] > 0 else padded(ordered)
    frame = Frame(
        room, (0.0, num + 0.5), x_label=x_label, y_label=f"{what}s at or below", size=SIZE, top=46, whole_y=True
    )
    places = np.arange(1, num + 1, dtype=float)
    x, y = frame.x(ordered), frame.y(places)
    steps = element("path", d=line_path(np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]), class_="line series-1 thin")
    dots = [
        element("circle", cx=a, cy=b, r=3.5, class_="fill series-1")
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    return frame, [steps, *dots]


def _bars(finite: Array, x_label: str, what: str) -> tuple[Frame, list[Markup]]:
    edges = bin_edges(finite)
    counts = np.histogram(finite, edges)[0].astype(float)
    top = padded(counts, from_zero=True, share=0.15)
    frame = Frame(
        (edges[0], edges[-1]), top, x_label=x_label, y_label=f"{what}s per bin", size=SIZE, top=46, whole_y=True
    )
    left, right, heights = frame.x(edges[:-1]), frame.x(edges[1:]), frame.y(counts)
    path = "".join(
        f"M{short(a + 0.5)} {short(frame.bottom)}V{short(t)}H{short(b - 0.5)}V{short(frame.bottom)}z"
        for a, b, t, num in zip(left.tolist(), right.tolist(), heights.tolist(), counts.tolist(), strict=True)
        if num
    )
    return frame, [element("path", d=path, class_="fill series-1")]


def _verticals(frame: Frame, marks: dict[str, float]) -> list[Markup]:
    """Return lines with their names on top, so that no name crosses a line.

    Names stand to the right of their lines, the leftmost on top; near the end of the chart to the left, and the
    rightmost on top.
    """
    ordered = sorted(marks.items(), key=lambda mark: mark[1])
    is_left = any(frame.right - frame.x.at(value) < 7 * len(name) for name, value in ordered)
    parts = []
    for i, (name, value) in enumerate(reversed(ordered) if is_left else ordered):
        x, y = frame.x.at(value), frame.top - 18 + 14 * i
        css = "note end" if is_left else "note"
        parts.append(element("path", d=f"M{short(x)} {short(y - 8)}V{short(frame.bottom)}", class_="line mark dashed"))
        parts.append(element("text", name, x=x + (-5 if is_left else 5), y=y, class_=css))
    return parts
