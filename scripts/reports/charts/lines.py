"""A quantity against a setting: medians with intervals, a line and a marker of its own for every series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.reports.charts.scale import padded
from scripts.reports.charts.svg import Frame, element, legend_lines, short

Array = NDArray[np.float64]

NUM_STYLES = 6
LOG_RATIO = 6.0
"""Values that spread over more than this factor stand on a logarithmic axis."""


@dataclass(frozen=True)
class Point:
    """One setting in a chart."""

    x: float
    y: float
    low: float
    """Lower end of the interval of `y`; equal to it where there is none."""

    high: float
    told: str
    """What the tooltip says."""


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    name: str
    """Empty when there is nothing to distinguish."""

    points: Sequence[Point]


def lines(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str,
    x_names: Mapping[float, str] | None = None,
    ideal: Callable[[Array], Array] | None = None,
) -> Markup:
    """Return the chart.

    Parameters
    ----------
    series : sequence of Series
        At most six; styles repeat after that.
    x_names : mapping, optional
        Place on the x axis to its name, for a setting that is no number.
    ideal : callable, optional
        What the y would be if everything scaled, drawn dashed.
    """
    points = [point for one in series for point in one.points]
    x = np.array(sorted({point.x for point in points}))
    names = [(f"series-{_style(i)}", one.name) for i, one in enumerate(series) if one.name]
    names += [("mark dashed", "ideal")] if ideal else []
    keys = legend_lines(names, width=420, y=28)
    reach = np.array([value for point in points for value in (point.low, point.high)])
    reach = np.concatenate([reach, ideal(x)]) if ideal else reach
    is_log = not x_names and x[0] > 0 and x[-1] / x[0] >= LOG_RATIO
    frame = Frame(
        _room(x, is_log),
        padded(reach, from_zero=True, share=0.08),
        x_label=x_label,
        y_label=y_label,
        size=(420, 270 + 16 * len(keys)),
        top=26 + 16 * len(keys),
        log="x" if is_log else "",
        x_ticks=_apart(x, is_log),
        x_names=x_names,
    )
    along = np.geomspace(x[0], x[-1], 48) if ideal else x
    marks = [frame.line(along, ideal(along), "mark dashed")] if ideal else []
    for i, one in enumerate(series):
        marks += _drawn(one, frame, _style(i), connected=x_names is None)
    return frame.draw([*keys, *marks], title=title, description=description)


def front(
    points: Sequence[tuple[Point, bool, str]], *, x_label: str, y_label: str, title: str, description: str
) -> Markup:
    """Return settings as dots, with those on the Pareto front filled, joined, and the recommended ones named.

    Parameters
    ----------
    points : sequence of (Point, bool, str)
        A setting, whether it is on the front, and its name; empty for no name.
    """
    x, y = (np.array([getattr(point, axis) for point, _, _ in points]) for axis in ("x", "y"))
    frame = Frame(
        padded(x, from_zero=True, share=0.15),
        padded(y, from_zero=True, share=0.15),
        x_label=x_label,
        y_label=y_label,
        size=(880, 340),
        left=70,
    )
    on_front = sorted((point.x, point.y) for point, is_front, _ in points if is_front)
    marks = []
    if len(on_front) > 1:
        path = "".join(
            f"{'M' if not i else 'H'}{short(frame.x.at(a))}"
            + (f" {short(frame.y.at(b))}" if not i else f"V{short(frame.y.at(b))}")
            for i, (a, b) in enumerate(on_front)
        )
        marks.append(element("path", d=path, class_="line mark dashed"))
    for point, is_front, name in points:
        at_x, at_y = frame.x.at(point.x), frame.y.at(point.y)
        css = "fill series-2" if is_front else "hollow series-1"
        marks.append(
            element(
                "g", element("title", point.told), element("circle", cx=at_x, cy=at_y, r=5.0, class_=css), class_="tip"
            )
        )
        if name:
            # Nothing lies below and left of a setting on the front.
            has_room = at_x - 7 * len(name) > frame.left
            css = "note end" if has_room else "note"
            marks.append(element("text", name, x=at_x + (-8 if has_room else 0), y=at_y + 17, class_=css))
    return frame.draw(marks, title=title, description=description)


def _style(i: int) -> int:
    return i % NUM_STYLES + 1


def _room(x: Array, is_log: bool) -> tuple[float, float]:
    if is_log:
        return float(x[0]) / 1.15, float(x[-1]) * 1.15
    room = 0.06 * float(x[-1] - x[0]) or 0.5
    return float(x[0]) - room, float(x[-1]) + room


def _apart(x: Array, is_log: bool) -> list[float]:
    """Return the measured places whose labels do not run into each other."""
    at = np.log(x) if is_log else x
    span = float(at[-1] - at[0]) or 1.0
    kept: list[int] = []
    for i in range(len(x)):
        if not kept or (at[i] - at[kept[-1]]) / span > 0.09:
            kept.append(i)
    return [float(x[i]) for i in kept]


def _drawn(one: Series, frame: Frame, style: int, *, connected: bool) -> list[Markup]:
    points = sorted(one.points, key=lambda point: point.x)
    x, y = (np.array([getattr(point, axis) for point in points]) for axis in ("x", "y"))
    marks = [frame.line(x, y, f"series-{style}")] if connected and len(points) > 1 else []
    for point in points:
        at_x, at_y = frame.x.at(point.x), frame.y.at(point.y)
        parts = [element("title", point.told)]
        if point.high > point.low:
            low, high = frame.y.at(point.low), frame.y.at(point.high)
            cap = f"M{short(at_x - 4)} "
            d = f"M{short(at_x)} {short(low)}V{short(high)}{cap}{short(low)}h8{cap}{short(high)}h8"
            parts.append(element("path", d=d, class_=f"line series-{style} thin whisker"))
        parts.append(element("path", d=marker(style, at_x, at_y), class_=f"fill series-{style}"))
        marks.append(element("g", *parts, class_="tip"))
    return marks


def marker(style: int, x: float, y: float) -> str:
    """Return the shape of a series: told apart without colour."""
    at = f"M{short(x)} {short(y)}"
    return (
        at
        + {
            1: "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
            2: "m-4 -4h8v8h-8z",
            3: "m0 -5.2l5 8.8h-10z",
            4: "m0 -5.6l5.2 5.6l-5.2 5.6l-5.2 -5.6z",
            5: "m0 5.2l5 -8.8h-10z",
            6: "m-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
        }[style]
    )
