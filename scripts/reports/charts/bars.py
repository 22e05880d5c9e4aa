"""Parts of a whole in one bar."""

from collections.abc import Sequence

from markupsafe import Markup

from scripts.reports.charts.svg import element, picture
from scripts.reports.quantities import percent, seconds

WIDTH = 880.0


def shares(parts: Sequence[tuple[str, str, float]], *, title: str, description: str) -> Markup:
    """Return one bar of parts that add up, and below it what each part is, in the same order.

    Parameters
    ----------
    parts : sequence of (str, str, float)
        Class, name and seconds of each part.
    """
    whole = sum(value for _, _, value in parts) or 1.0
    marks, left, key_left = [], 0.0, 0.0
    for css, name, value in parts:
        width, share = value / whole * WIDTH, percent(value / whole)
        bar = element("rect", x=left, y=0.0, width=max(width - 1, 0.5), height=28, class_=f"fill {css}")
        swatch = element("rect", x=key_left, y=41.0, width=10, height=10, class_=f"fill {css}")
        label = f"{name} {share}"
        text = element("text", label, x=key_left + 16, y=50, class_="legend")
        told = element("title", f"{name}: {seconds(value)}, {share}")
        marks.append(element("g", told, bar, swatch, text, class_="tip"))
        left += width
        key_left += 40 + 6.4 * len(label)
    return picture(marks, (WIDTH, 58), title=title, description=description)
