"""Many points as cells whose shade says how many lie in them."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scripts.reports.charts.svg import Frame, element, short

Array = NDArray[np.float64]

CELL_PX = 4.0
NUM_SHADES = 6


def density(frame: Frame, x: Array, y: Array) -> list[Markup]:
    """Return the cells of points in data units, and the key to their shades.

    Parameters
    ----------
    frame : Frame
        Points outside its axes are drawn at the border, so that no outlier disappears.
    x, y : array, shape (N,)
        Finite coordinates.
    """
    columns = round((frame.right - frame.left) / CELL_PX)
    lines = round((frame.bottom - frame.top) / CELL_PX)
    column = np.clip((frame.x(x) - frame.left) / CELL_PX, 0, columns - 1).astype(int)
    line = np.clip((frame.y(y) - frame.top) / CELL_PX, 0, lines - 1).astype(int)
    counts = np.bincount(line * columns + column, minlength=lines * columns).reshape(lines, columns)
    edges = _edges(int(counts.max(initial=1)))
    shades = np.searchsorted(edges, counts, side="right")  # 0 where there is nothing
    marks = [
        element("path", d=_runs(frame, shades == shade), class_=f"fill shade-{_step(shade, len(edges))}")
        for shade in range(1, len(edges) + 1)
    ]
    return [*marks, _key(frame, edges)]


def _edges(highest: int) -> NDArray[np.int64]:
    """Return the smallest count of each shade: 1, then in equal ratios up to the highest count."""
    ratio = max(highest, 2) ** (1 / NUM_SHADES)
    return np.unique([round(ratio**step) for step in range(NUM_SHADES)])


def _step(shade: int, num: int) -> int:
    return round(shade * NUM_SHADES / num)


def _runs(frame: Frame, cells: NDArray[np.bool_]) -> str:
    """Return cells as one path, neighbours in a line as one rectangle."""
    bounded = np.pad(cells, ((0, 0), (1, 1))).astype(np.int8)
    lines, starts = np.nonzero(np.diff(bounded, axis=1) == 1)
    _, stops = np.nonzero(np.diff(bounded, axis=1) == -1)
    return "".join(
        f"M{short(frame.left + CELL_PX * start)} {short(frame.top + CELL_PX * line)}"
        f"h{short(CELL_PX * (stop - start))}v{short(CELL_PX)}h{short(-CELL_PX * (stop - start))}z"
        for line, start, stop in zip(lines.tolist(), starts.tolist(), stops.tolist(), strict=True)
    )


def _key(frame: Frame, edges: NDArray[np.int64]) -> Markup:
    x, y, parts = frame.right - 26.0 * len(edges) - 50, 12.0, []
    for i, edge in enumerate(edges.tolist()):
        left = x + 26 * i
        parts.append(
            element("rect", x=left, y=y - 9, width=8, height=10, class_=f"fill shade-{_step(i + 1, len(edges))}")
        )
        parts.append(element("text", _few(edge), x=left + 10, y=y, class_="legend"))
    parts.append(element("text", "per cell", x=frame.right, y=y, class_="legend end"))
    return Markup("").join(parts)


def _few(value: int) -> str:
    return f"{value}" if value < 1000 else f"{value / 1000:.0f}k"
