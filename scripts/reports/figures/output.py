"""Figures as pictures: SVG inside the page, PNG in a folder."""

import io
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from scripts.command.whole_file import written_whole
from scripts.reports.figures.canvas import BOXES, COLORS, STYLE

DPI = 160
NAMES = {color: name for name, color in COLORS.items()}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
CLASSES = {"tip": "tip", "hit": "tip hit", BOXES: BOXES}
BOX = re.compile(r"M(\S+) (\S+)L(\S+) \2L\3 (\S+)L\1 \4z")
NOTHING = re.compile(r"M[^MLCQz]*")
FONT_SIZE = f"{STYLE['font.size']}px"
"""What the style sheet says of every text."""

KEPT = {
    "fill",
    "fill-opacity",
    "font-size",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "text-anchor",
}
"""Properties that become attributes; the style sheet has the fonts."""


def as_png(figure: Figure, path: Path, *, title: str) -> None:
    """Write a figure with a title above it, dark on white."""
    text = figure.text(0, 1.02, title, va="bottom", size=13, weight="bold")
    figure.patch.set_visible(True)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.12)
    text.remove()


def as_svg(figure: Figure, *, title: str, description: str) -> Markup:
    """Return a figure as an element of the page.

    Notes
    -----
    The page forbids styles in attributes, so they become attributes of SVG; a colour becomes the page's variable of
    its name. An artist whose id is that of `canvas.tip` or `canvas.hit` becomes a mark with a title. The same figure
    gives the same text, and different titles give different ids.
    """
    width, height = figure.get_size_inches() * 72
    figure.patch.set_visible(False)  # the page's own background
    file = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    drawn = ET.fromstring(file.getvalue())  # noqa: S314 - matplotlib wrote it
    root = ET.Element(
        "svg",
        {
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
            "aria-label": title,
        },
    )
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "desc").text = description
    root.extend([part for child in drawn for part in _cleaned(child)])
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def _cleaned(element: ET.Element) -> Iterator[ET.Element]:
    """Yield an element as the page has it; its children alone where it says nothing itself."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("style", "metadata"):
        return
    attributes = dict(_attributes(tag, element))
    if tag == "path" and NOTHING.fullmatch(attributes.get("d", "")):
        return  # the line of a single marker
    children = [part for child in element for part in _cleaned(child)]
    if tag in ("g", "defs") and not attributes and (tag == "g" or not children):
        yield from children
        return
    found = ET.Element(tag, attributes)
    text = element.text if tag in ("text", "tspan") else None
    if attributes.get("class", "").startswith("tip"):
        ET.SubElement(found, "title").text = element.get("id", "").partition(":")[2]
    found.text = text
    found.extend(children)
    yield found


def _attributes(tag: str, element: ET.Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if name == "style":
            yield from _presentation(value, tag)
        elif name == "id" and tag == "g":
            kind = value.partition(":")[0]
            if kind in CLASSES:
                yield "class", CLASSES[kind]
        elif name in ("d", "x", "y", "width", "height"):
            yield name, _short(value)
        elif name != "transform" or not value.startswith("rotate(-0"):
            yield name, value


@lru_cache(maxsize=1024)
def _presentation(style: str, tag: str) -> tuple[tuple[str, str], ...]:
    properties = (one.split(":", 1) for one in style.split(";") if one.strip())
    found = {name.strip(): value.strip() for name, value in properties}
    if tag == "text":
        found["fill"] = found.get("fill", "#000000")
    return tuple((name, _value(name, value)) for name, value in found.items() if name in KEPT and value != FONT_SIZE)


def _value(name: str, value: str) -> str:
    if name in ("fill", "stroke") and value != "none":
        return f"var(--{NAMES[value]})"
    return value.removesuffix("px") if name == "font-size" else value


def _short(numbers: str) -> str:
    """Return coordinates to a hundredth of a pixel, without the spaces of a reader's format."""
    shorter = re.sub(r"(\.\d\d)\d+", r"\1", numbers)
    path = re.sub(r"\s+(?=[MLCQz]|$)|(?<=[MLCQ])\s+", "", shorter)
    return "".join(_by_sides(path)) if path and not BOX.sub("", path) else path


def _by_sides(path: str) -> Iterator[str]:
    """Yield boxes by their sides, each from the corner of the one before; to a tenth, as edges fall on whole pixels."""
    x = y = 0.0
    for box in BOX.findall(path):
        left, low, right, high = (round(float(side), 1) for side in box)
        width, height = right - left, high - low
        yield f"m{left - x:.4g} {low - y:.4g}h{width:.4g}v{height:.4g}h{-width:.4g}z"
        x, y = left, low
