"""Parts of a whole in one bar."""

from collections.abc import Sequence

from markupsafe import Markup

from scripts.reporting.charts.svg import element, picture
from scripts.reporting.quantities import percent, seconds

WIDTH = 880.0


def shares(parts: Sequence[tuple[str, str, float]], *, title: str, description: str) -> Markup:
    """Return one bar of parts that add up.

    Parameters
    ----------
    parts : sequence of (str, str, float)
        Class, name and seconds of each part, in order.
    """
    whole = sum(value for _, _, value in parts) or 1.0
    marks, left, last_label, line = [], 0.0, -1e9, 0
    for css, name, value in parts:
        width = value / whole * WIDTH
        inside = [element("title", f"{name}: {seconds(value)}, {percent(value / whole)}")]
        inside.append(element("rect", x=left, y=24, width=max(width - 1, 0.5), height=26, class_=f"fill {css}"))
        label = f"{name} {percent(value / whole)}"
        room = 6.3 * len(label)
        if value / whole >= 0.005:
            # Labels of narrow parts take turns above and below the bar.
            anchor = min(left, WIDTH - room)
            line = 0 if anchor > last_label + 8 else 1 - line
            inside.append(element("text", label, x=anchor, y=16 if line == 0 else 66, class_="legend"))
            last_label = anchor + room if line == 0 else last_label
        marks.append(element("g", *inside, class_="tip"))
        left += width
    return picture(marks, (WIDTH, 74), title=title, description=description)
