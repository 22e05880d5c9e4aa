"""Axes in the style of the report: plain, with the page's colours, sized in its pixels."""

import re
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

Array = NDArray[np.float64]

CSS = File(__file__).parents[1] / "templates" / "report.css"
COLORS = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", CSS.read_text().partition("}")[0]))
"""Colours of the light page by their names; the page replaces them by these names, so that dark ones stand in."""

HALF, WIDE = 430.0, 880.0
"""Widths of a figure [px of the page]."""

RIGHT, BOTTOM, LETTER, LINE = 12.0, 42.0, 7.0, 17.0
"""Room at the right and below the axes, of a letter and of a line of a legend [px]."""

BOXES = "boxes"
"""Id of artists whose edges are to fall on pixels."""

STYLE: Any = {
    "figure.dpi": 72,  # a point is a pixel of the page
    "font.family": "DejaVu Sans",  # what matplotlib brings: the same layout on every machine
    "font.size": 11.5,
    "axes.prop_cycle": cycler(color=[COLORS[f"s{i}"] for i in range(1, 7)]),
    "axes.edgecolor": COLORS["quiet"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLORS["ink"],
    "axes.labelpad": 5,
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["quiet"],
    "ytick.color": COLORS["quiet"],
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
    "xtick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLORS["rule"],
    "legend.frameon": False,
    "legend.borderaxespad": 0.3,
    "legend.borderpad": 0.0,
    "legend.handletextpad": 0.45,
    "legend.columnspacing": 1.1,
    "svg.fonttype": "none",
}

styled = mpl.rc_context(STYLE)
"""Decorator of whatever makes a figure."""


def axes_of(
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (HALF, 300.0),
    left: float = 52.0,
    top: float = 28.0,
    y_ticks: bool = True,
    whole_y: bool = False,
) -> tuple[Figure, Axes]:
    """Return a new figure and its axes; what the y axis shows stands above it, to be read without turning the head.

    Parameters
    ----------
    x, y : tuple of float
        Range of each axis.
    x_label, y_label : str
        Quantity and unit.
    size : tuple of float
        Width and height of the figure [px].
    left, top : float
        Room for the labels of the y axis, and for its name and the legend [px].
    y_ticks, whole_y : bool
        Whether the y axis has ticks, and only at whole numbers.
    """
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72))
    box = (left / width, BOTTOM / height, (width - left - RIGHT) / width, (height - top - BOTTOM) / height)
    axes = figure.add_axes(box, xlim=x, ylim=y)
    axes.patch.set_visible(False)
    axes.set_xlabel(x_label)
    figure.text(0, 1 - 12 / height, y_label, va="baseline")
    steps = [1, 2, 2.5, 5, 10]
    axes.xaxis.set_major_locator(MaxNLocator(max(3, round((width - left) / 75)), steps=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    if y_ticks:
        axes.yaxis.set_major_locator(MaxNLocator(max(3, round((height - top) / 55)), steps=steps, integer=whole_y))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    else:
        axes.set_yticks([])
    return figure, axes


def tick_label(value: float) -> str:
    """Return a tick as short as it is exact."""
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"


def padded(values: Array, *, share: float = 0.05, from_zero: bool = False) -> tuple[float, float]:
    """Return a range around the finite values, never empty."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if from_zero:
        return 0.0, (high * (1 + share) if high > 0 else 1.0)
    room = share * (high - low) or 0.5 * abs(low) or 0.5
    return low - room, high + room


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


def add_legend(axes: Axes, handles: Sequence[Patch | Line2D], *, num_columns: int = 0, above: float = 7.0) -> None:
    """Add a legend `above` pixels above the axes, at their right end, in one line unless columns are given."""
    short = all(isinstance(handle, Patch) for handle in handles)
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1 + above / axes.get_window_extent().height),
        ncols=num_columns or len(handles),
        handlelength=0.8 if short else 2.0,
        handleheight=0.75,
    )


def add_boxes(axes: Axes, left: Array, right: Array, low: Array, high: Array, **style: Any) -> None:
    """Add many rectangles as one path: small in a page, and one object to draw.

    Parameters
    ----------
    left, right, low, high : array, shape (N,)
        Their sides in data units; those without width are left out.
    """
    drawn = right > left
    corners = np.array([[left, low], [right, low], [right, high], [left, high], [left, low]])[..., drawn]
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], int(drawn.sum()))
    if drawn.any():
        path = Path(corners.transpose(2, 0, 1).reshape(-1, 2), codes.astype(np.uint8))
        axes.add_artist(PathPatch(path, linewidth=0, antialiased=False, gid=BOXES, **style))


def tip(text: str) -> str:
    """Return the id of an artist that shows `text` where a reader points at it."""
    return f"tip:{text}"


def hit(text: str) -> str:
    """Return the id of an invisible artist over what `text` is about."""
    return f"hit:{text}"


def swatch(color: str, label: str) -> Patch:
    """Return a filled square of a legend."""
    return Patch(color=COLORS[color], linewidth=0, label=label)
