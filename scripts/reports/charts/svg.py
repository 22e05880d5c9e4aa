"""SVG elements, and a frame with axes to draw in."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from scripts.reports.charts.scale import Scale, tick_label

Array = NDArray[np.float64]


def element(name: str, *children: str | Markup, **attributes: str | float) -> Markup:
    """Return one element, its text and attributes escaped; ``class_`` is spelled so because of Python."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(short(value) if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
    )
    inside = Markup("").join(children)
    return Markup(f"<{name}{words}>{inside}</{name}>" if inside else f"<{name}{words}/>")  # noqa: S704 - escaped above


def short(value: float) -> str:
    """Return a pixel to a tenth, without the zeros that only take room."""
    return f"{value:.1f}".removesuffix(".0")


def line_path(x: Array, y: Array) -> str:
    """Return the path through points; a point that is not finite interrupts it."""
    parts, pen = [], "M"
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if not (np.isfinite(px) and np.isfinite(py)):
            pen = "M"
            continue
        parts.append(f"{pen}{short(px)} {short(py)}")
        pen = "L"
    return "".join(parts)


def rectangles(x: Array, y: Array, width: Array, height: float) -> str:
    """Return many rectangles as one path; those without width are left out."""
    return "".join(
        f"M{short(left)} {short(top)}h{short(w)}v{short(height)}h{short(-w)}z"
        for left, top, w in zip(x.tolist(), y.tolist(), width.tolist(), strict=True)
        if w >= 0.05
    )


def legend(entries: Sequence[tuple[str, str]], *, x: float, y: float, kind: str = "swatch") -> Markup:
    """Return one line of legend: class and name of each entry."""
    parts, left = [], x + (4 if kind == "line" else 0)
    for css, name in entries:
        if kind == "swatch":
            mark = element("rect", x=left, y=y - 9, width=10, height=10, class_=f"fill {css}")
        else:
            mark = element("path", d=f"M{short(left - 4)} {short(y - 4)}h16", class_=f"line {css}")
        parts += [mark, element("text", name, x=left + 16, y=y, class_="legend")]
        left += _legend_room(name)
    return Markup("").join(parts)


def legend_width(entries: Sequence[tuple[str, str]]) -> float:
    """Return how wide a line of legend is, by the usual width of its letters [px]."""
    return sum(_legend_room(name) for _, name in entries)


def _legend_room(name: str) -> float:
    return 38 + 6.6 * len(name)


def legend_lines(entries: Sequence[tuple[str, str]], *, width: float, y: float) -> list[Markup]:
    """Return a legend of lines, broken where it would leave the chart, one element per line of it."""
    rows: list[list[tuple[str, str]]] = []
    used = width
    for css, name in entries:
        room = _legend_room(name)
        if used + room > width:
            rows.append([])
            used = 0
        rows[-1].append((css, name))
        used += room
    return [legend(row, x=0, y=y + 16 * i, kind="line") for i, row in enumerate(rows)]


class Frame:
    """A chart's area with two axes.

    Parameters
    ----------
    x, y : tuple of float
        Range of each axis in data units.
    x_label, y_label : str
        Quantity and unit.
    size : tuple of float
        Width and height [px at the chart's natural size].
    log : str
        The axes that are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    x_ticks : sequence of float or None
        Where to put ticks, when round numbers are not what was measured.
    show_y, whole_y : bool
        Whether the y axis has ticks, and only at whole numbers.
    x_names : mapping, optional
        Tick to its name, for an axis that is no number.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_label: str,
        y_label: str,
        size: tuple[float, float] = (420, 300),
        log: str = "",
        left: float = 52,
        top: float = 28,
        x_ticks: Sequence[float] | None = None,
        show_y: bool = True,
        whole_y: bool = False,
        x_names: Mapping[float, str] | None = None,
    ) -> None:
        self.size, self.left, self.top = size, left, top
        self.right, self.bottom = size[0] - 12, size[1] - 42
        self.x = Scale(*x, self.left, self.right, "x" in log)
        self.y = Scale(*y, self.bottom, self.top, "y" in log)
        self._labels = x_label, y_label
        self._x_ticks = x_ticks
        self._x_names = x_names or {}
        self._show_y, self._whole_y = show_y, whole_y

    def draw(self, marks: Iterable[Markup], *, title: str, description: str) -> Markup:
        """Return the chart: grid, `marks`, axes and the words a screen reader says."""
        return picture([*self._grid(), *marks, *self._axes()], self.size, title=title, description=description)

    def line(self, x: Array, y: Array, css: str) -> Markup:
        """Return a line in data units."""
        return element("path", d=line_path(self.x(x), self.y(y)), class_=f"line {css}")

    def _grid(self) -> list[Markup]:
        across = [
            element("path", d=f"M{short(self.left)} {short(self.y.at(v))}H{short(self.right)}", class_="grid")
            for v in self._y_ticks()
        ]
        return across if self._show_y else []

    def _y_ticks(self) -> list[float]:
        num = max(3, round((self.bottom - self.top) / 48))
        wanted = (self.y.ticks(fewer) for fewer in range(num + 1, 0, -1))
        if self._whole_y:
            return next((ticks for ticks in wanted if all(tick.is_integer() for tick in ticks)), [self.y.low])
        return self.y.ticks(num)

    def _axes(self) -> list[Markup]:
        ticks = list(self._x_ticks) if self._x_ticks is not None else self.x.ticks(round((self.right - self.left) / 75))
        parts = [element("path", d=f"M{short(self.left)} {short(self.bottom)}H{short(self.right)}", class_="axis")]
        for value in ticks:
            at = self.x.at(value)
            parts.append(element("path", d=f"M{short(at)} {short(self.bottom)}v4", class_="axis"))
            parts.append(
                element(
                    "text", self._x_names.get(value, tick_label(value)), x=at, y=self.bottom + 17, class_="tick middle"
                )
            )
        if self._show_y:
            parts += [
                element("text", tick_label(v), x=self.left - 7, y=self.y.at(v) + 4, class_="tick end")
                for v in self._y_ticks()
            ]
        middle = (self.left + self.right) / 2
        x_label, y_label = self._labels
        parts.append(element("text", x_label, x=middle, y=self.bottom + 36, class_="label middle"))
        parts.append(element("text", y_label, x=0.0, y=12, class_="label"))
        return parts


def picture(parts: Iterable[Markup], size: tuple[float, float], *, title: str, description: str) -> Markup:
    """Return an SVG of a natural size with its title and description."""
    head = [element("title", title), element("desc", description)]
    width, height = size
    return element(
        "svg",
        *head,
        *parts,
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )
