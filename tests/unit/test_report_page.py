"""What a reader of a report can rely on, whatever the run left behind."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.report import ReportVariables
from scripts.report import main as write_report
from scripts.reports.evidence import read_run
from scripts.reports.figures.settings import STYLES
from scripts.reports.markdown import as_markdown
from scripts.reports.page import TEMPLATES, as_page
from scripts.reports.run_report import run_report
from tests.run_folders import write_run

VOID = {"meta", "link", "input", "br", "img", "hr"}
SECTIONS = ["Accuracy", "Clock", "Throughput", "Cost", "Memory", "Settings", "Provenance"]


class Outline(HTMLParser):
    """Every element with its attributes, and the headings in order."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "runs" / "run-a"
    write_run(folder, world_size=12, num_lost=1)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return as_page(run_report(read_run(folder), root=folder), footer="written")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    return outline


def test_every_element_is_closed(outline: Outline) -> None:
    assert outline.open == []


def test_the_page_asks_for_nothing(outline: Outline) -> None:
    addresses = [value for _, names in outline.elements for key, value in names.items() if key in ("src", "href")]

    assert addresses
    assert all(value.startswith(("#", "data:")) for value in addresses)


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(page: str, outline: Outline) -> None:
    (policy,) = [names["content"] for _, names in outline.elements if names.get("http-equiv")]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_no_attribute_needs_what_the_policy_forbids(outline: Outline) -> None:
    names = {name for _, attributes in outline.elements for name in attributes}

    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_what_a_record_says_is_text_and_never_markup(page: str) -> None:
    assert "&lt;b&gt;bad&lt;/b&gt; | shard" in page
    assert "<b>" not in page


def test_markdown_keeps_text_out_of_tables_and_markup(folder: Path) -> None:
    text = as_markdown(run_report(read_run(folder), root=folder), footer="written")
    tables = [line for line in text.splitlines() if line.startswith("| ")]

    assert r"\<b\>bad\</b\> \| shard" in text
    assert tables
    assert all(line.endswith(" |") for line in tables)


def test_markdown_has_the_same_sections_as_the_page(folder: Path, page: str) -> None:
    text = as_markdown(run_report(read_run(folder), root=folder), footer="written")

    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Warnings", *SECTIONS]
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == ["Warnings", *SECTIONS]


def test_headings_come_in_order(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]

    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_table_has_a_caption_and_scopes(page: str) -> None:
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)

    assert len(tables) > 6
    assert all("<caption>" in table for table in tables)
    assert all(head.startswith('<th scope="') for table in tables for head in re.findall(r"<th\b[^>]*>", table))


def test_every_chart_says_in_words_what_it_shows(page: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)

    assert len(charts) > 5
    for chart in charts:
        assert re.match(r'<svg [^>]*role="img" aria-label="[^"]+"><title>[^<]+</title><desc>[^<]{20,}</desc>', chart)


def test_no_id_is_given_twice(outline: Outline) -> None:
    ids = [names["id"] for _, names in outline.elements if "id" in names]

    assert len(ids) == len(set(ids))


def test_charts_take_their_colours_from_the_style_sheet(page: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    classes = {name for names in re.findall(r'class="([^"]+)"', charts) for name in names.split()}
    colors = set(re.findall(r'(?:fill|stroke)="([^"]+)"', charts))
    css = (TEMPLATES / "report.css").read_text()

    assert {"var(--ink)", "var(--s1)", "var(--d6)", "var(--inference)"} <= colors
    assert all(f"--{color[6:-1]}: #" in css for color in colors - {"none"})
    assert {name for name in classes if f".{name}" not in css} == set()


def luminance(color: str) -> float:
    digits = color.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("number", range(3), ids=["light", "dark", "print"])
def test_colours_can_be_told_from_the_page(number: int) -> None:
    css = (TEMPLATES / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colors = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+);", blocks[number]))

    for name in ("ink", "quiet", "link"):
        assert contrast(colors[name], colors["page"]) >= 4.5, name  # WCAG AA, text
    assert contrast(colors["warn"], colors["warn-page"]) >= 4.5
    for name in (*(color for color, _, _ in STYLES), "inference", "mark"):
        assert contrast(colors[name], colors["page"]) >= 3, name  # WCAG AA, graphics


def test_rows_for_the_script_cannot_end_the_script(tmp_path: Path) -> None:
    write_run(tmp_path / "run-b", world_size=80)

    page = as_page(run_report(read_run(tmp_path / "run-b"), root=tmp_path), footer="w")
    (rows,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)

    assert len(json.loads(rows)) == 80
    assert "<" not in rows


def test_the_report_stands_beside_the_run_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "runs" / "run-a"
    write_run(folder, world_size=2)
    before = {path.name for path in folder.iterdir()}

    write_report(ReportVariables(run="run-a"), root=tmp_path)

    assert {path.name for path in folder.iterdir()} == before | {"report.html", "report.md"}
    sentence, *lines = capsys.readouterr().out.splitlines()
    assert sentence.startswith("run-a: ")
    paths = [folder / "report.html", folder / "report.md"]
    assert lines == [f"{path}  {path.stat().st_size / 1e6:.2f} MB" for path in paths]
    for path in paths:
        assert re.search(r"Written 20\d\d-\d\d-\d\d \d\d:\d\d UTC by make report from run-a/\.", path.read_text())


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "run-a"
    write_run(folder, world_size=2)
    (folder / "report.html").write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))

    with pytest.raises(OSError, match="no space left"):
        write_report(ReportVariables(run="run-a"), root=tmp_path)

    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".*"))
