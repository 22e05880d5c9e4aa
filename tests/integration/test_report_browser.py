"""Reports in a real browser: Chromium, without a window."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deployment.image import bare
from scripts.deployment.image.engine import EngineError
from scripts.report import ReportVariables
from scripts.report import main as write_report
from tests.browser import BrowserError, Page, chromium
from tests.run_folders import write_run
from tests.sweep_folders import write_sweep

NUM_RANKS = 150


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    try:
        bare.install_programs("chromium")
        with chromium() as page:
            yield page
    except (EngineError, BrowserError) as error:
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("root")
    write_run(root / "runs" / "run-a", world_size=NUM_RANKS, num_lost=1)
    write_sweep(root / "sweeps" / "s")
    write_report(ReportVariables(run="run-a"), root=root)
    write_report(ReportVariables(sweep="s"), root=root)
    return {"run": root / "runs" / "run-a" / "report.html", "sweep": root / "sweeps" / "s" / "report.html"}


@pytest.mark.parametrize("kind", ["run", "sweep"])
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False)], ids=["light", "dark", "narrow"]
)
def test_a_report_opens_in_silence_and_fits_the_screen(
    kind: str, width: int, dark: bool, reports: dict[str, Path], browser: Page
) -> None:
    browser.open(reports[kind], dark=dark, width=width)

    assert browser.complaints() == []
    assert browser.requests() == [reports[kind].as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_what_a_report_must_not_do_is_noticed(tmp_path: Path, reports: dict[str, Path], browser: Page) -> None:
    bad = tmp_path / "bad.html"
    text = reports["run"].read_text()
    bad.write_text(text.replace("<main", '<p style="color: red" onclick="x()">a</p><img src="pixel.png"><main', 1))

    browser.open(bad)

    assert len(browser.complaints()) >= 2
    assert any("style" in complaint for complaint in browser.complaints())


def test_dark_is_dark_and_light_is_light(reports: dict[str, Path], browser: Page) -> None:
    shades = {}
    for dark in (False, True):
        browser.open(reports["run"], dark=dark)
        color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[dark] = sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))

    assert shades[False] > 700
    assert shades[True] < 150


def test_ranks_are_sorted_by_a_click_on_their_column(reports: dict[str, Path], browser: Page) -> None:
    browser.open(reports["run"])
    column = (
        "[...document.querySelectorAll('.sortable thead th')].findIndex(h => h.textContent.startsWith('inference'))"
    )

    browser.evaluate(f"document.querySelectorAll('.sortable thead button')[{column}].click()")

    cells = f"[...document.querySelectorAll('.sortable tbody tr')].map(r => Number(r.cells[{column}].textContent))"
    values = browser.evaluate(cells)
    head = f"document.querySelectorAll('.sortable thead th')[{column}].getAttribute('aria-sort')"
    assert len(values) == 20
    assert values == sorted(values, reverse=True)
    assert values[0] > 2 * values[1]  # the straggler, which is not among the first rows of the file
    assert browser.evaluate(head) == "descending"


def test_ranks_are_filtered_by_what_is_typed(reports: dict[str, Path], browser: Page) -> None:
    browser.open(reports["run"])

    for typed, num, first in [("17", 1, "17"), ("cold", 7, "0"), ("inference > 5", 1, "75"), ("no such", 0, None)]:
        browser.evaluate(
            f"(() => {{ const i = document.querySelector('.filter input'); i.value = '{typed}';"
            "i.dispatchEvent(new Event('input')); })()"
        )

        assert browser.evaluate("document.querySelectorAll('.sortable tbody tr').length") == num, typed
        assert browser.evaluate("document.querySelector('.sortable tbody th')?.textContent ?? null") == first
        assert browser.evaluate("document.querySelector('.filter output').textContent") == f"{num} of {num} rows"


def test_charts_tell_their_numbers_to_the_keyboard(reports: dict[str, Path], browser: Page) -> None:
    browser.open(reports["run"])
    browser.evaluate("document.querySelector('svg[aria-label^=Waterfall]').focus()")

    for _ in range(2):
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key="ArrowDown", code="ArrowDown")

    assert browser.evaluate("document.getElementById('tip').hidden") is False
    assert "inference" in browser.evaluate("document.getElementById('tip').textContent")
    assert browser.evaluate("document.activeElement.querySelectorAll('.tip.current').length") == 1


def test_every_control_is_reached_by_the_tab_key_and_shows_it(reports: dict[str, Path], browser: Page) -> None:
    browser.open(reports["run"])
    seen = set()

    while True:
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        name = browser.evaluate("document.activeElement.tagName.toLowerCase()")
        if name == "body":  # past the last one
            break
        seen.add(name)
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", name

    assert {"a", "svg", "summary", "div", "button", "input"} <= seen


def test_a_report_is_whole_without_scripts(reports: dict[str, Path], browser: Page) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(reports["run"])
        tree = browser.ask("DOM.getDocument", depth=1)["root"]["nodeId"]
        rows = browser.ask("DOM.querySelectorAll", nodeId=tree, selector=".sortable tbody tr")["nodeIds"]
        filters = browser.ask("DOM.querySelectorAll", nodeId=tree, selector=".filter")["nodeIds"]
        titles = browser.ask("DOM.querySelectorAll", nodeId=tree, selector=".tip title")["nodeIds"]
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)

    assert len(rows) == 20
    assert filters == []
    assert len(titles) > NUM_RANKS / 2


def test_a_report_prints_dark_on_white(tmp_path: Path, reports: dict[str, Path], browser: Page) -> None:
    browser.open(reports["run"], dark=True)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    try:
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        hidden = browser.evaluate("getComputedStyle(document.querySelector('nav')).display")
        browser.print(tmp_path / "report.pdf")
    finally:
        browser.ask("Emulation.setEmulatedMedia", media="")

    assert background == "rgb(255, 255, 255)"
    assert hidden == "none"
    assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") >= 3
