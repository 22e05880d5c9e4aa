"""Charts show the numbers they are given."""

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.reports.charts.density import density
from scripts.reports.charts.distribution import distribution
from scripts.reports.charts.lines import Point, Series, lines, marker
from scripts.reports.charts.scale import Scale, tick_label
from scripts.reports.charts.svg import Frame, element
from scripts.reports.charts.waterfall import MAX_ROWS, Timeline, concurrency, waterfall
from scripts.reports.evidence import read_run
from scripts.reports.quantities import bits_per_s, megabytes, number, percent, seconds, usd
from scripts.reports.sections.accuracy import running_median
from scripts.reports.sections.clock import make_timeline
from tests.run_folders import write_run


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0.013, 0.094, False, [0.02, 0.04, 0.06, 0.08]),
        (-3, 3, False, [-2, 0, 2]),
        (1, 1000, True, [1, 10, 100, 1000]),
        (3, 40, True, [3, 10, 30]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, is_log: bool, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 100, is_log).ticks(5) == pytest.approx(ticks)


def test_a_scale_maps_its_ends_to_its_pixels() -> None:
    assert [Scale(2, 4, 10, 0).at(value) for value in (2, 3, 4)] == [10, 5, 0]
    assert Scale(1, 100, 0, 10, True).at(10) == pytest.approx(5)


def test_ticks_are_as_short_as_they_are_exact() -> None:
    assert [tick_label(value) for value in (0, 0.05, 2.0, 1500, 2e6)] == ["0", "0.05", "2", "1,500", "2 M"]


def test_text_in_a_chart_is_escaped() -> None:
    assert element("text", "<script>", x=1.0) == '<text x="1">&lt;script&gt;</text>'


def test_every_cell_of_a_density_is_drawn_once_and_outliers_at_the_border() -> None:
    frame = Frame((0, 1), (0, 1), x_label="x", y_label="y")
    x, y = np.array([0.1, 0.1, 0.5, 99.0]), np.array([0.1, 0.1, 0.5, 0.5])

    drawn = "".join(density(frame, x, y)[:-1])
    boxes = re.findall(r"M([\d.]+) ([\d.]+)h4v4h-4z", drawn)

    assert len(boxes) == 3
    assert max(float(left) for left, _ in boxes) == pytest.approx(frame.right - 4, abs=4)


def timeline(num: int) -> Timeline:
    rng = np.random.default_rng(0)
    return Timeline(("a", "b"), np.arange(num), np.arange(num, dtype=float), rng.uniform(1, 2, (num, 2)))


@pytest.mark.parametrize(("num", "share"), [(1, 1), (128, 1), (129, 2), (10_240, 80)])
def test_a_waterfall_has_a_bounded_number_of_rows_for_any_number_of_ranks(num: int, share: int) -> None:
    svg, ranks_per_row = waterfall(timeline(num), title="t", description="d")

    assert ranks_per_row == share
    assert svg.count('class="tip"') == -(-num // share) <= MAX_ROWS


def test_a_row_of_many_ranks_names_its_slowest() -> None:
    one = timeline(256)
    one.lengths[77] = 50.0

    svg, _ = waterfall(one, title="t", description="d")

    assert "slowest 77 with 100 s" in svg


def test_phases_follow_each_other_and_end_with_the_rank(tmp_path: Path) -> None:
    write_run(tmp_path / "run-a", world_size=8)
    ranks = read_run(tmp_path / "run-a").ranks
    found = make_timeline(ranks)

    assert found is not None
    order = found.ranks
    assert found.start.min() == 0
    assert found.end + (ranks["started_at_s"] - ranks["queue"]).min() == pytest.approx(
        ranks["started_at_s"][order] + ranks["total"][order], abs=1e-3
    )
    # The queue as recorded holds the init: drawn twice it would shift every cold rank.
    assert found.lengths[:, 0] == pytest.approx(ranks["queue"][order] - ranks["init"][order])


def test_ranks_at_work_are_stacked_to_their_number() -> None:
    one = Timeline(("a",), np.arange(3), np.array([0.0, 1.0, 2.0]), np.array([[10.0], [1.0], [1.0]]))

    svg = concurrency(one, title="t", description="d")

    assert {"0", "1", "2"} <= set(re.findall(r'class="tick end">([^<]+)<', svg))
    assert "3" not in re.findall(r'class="tick end">([^<]+)<', svg)


@pytest.mark.parametrize(("num", "num_dots"), [(8, 8), (40, 40), (41, 0)])
def test_few_values_are_dots_and_many_a_histogram(num: int, num_dots: int) -> None:
    svg = distribution(np.arange(num, dtype=float), x_label="x", what="rank", title="t", description="d")

    assert svg.count("<circle") == num_dots
    assert ("ranks at or below" in svg) is (num_dots > 0)


@pytest.mark.parametrize("num", [1, 3, 300])
def test_equal_values_have_a_distribution_too(num: int) -> None:
    svg = distribution(np.ones(num), x_label="x", what="rank", title="t", description="d", marks={"median": 1.0})

    assert "nan" not in svg
    assert 'class="note' in svg


def test_series_differ_by_more_than_their_colour() -> None:
    assert len({marker(style, 0, 0) for style in range(1, 7)}) == 6


def test_a_line_shows_interval_and_numbers_of_every_point() -> None:
    points = [Point(x, x, x - 0.5, x + 0.5, f"at {x}") for x in (1.0, 2.0, 8.0)]

    svg = lines([Series("one", points)], x_label="x", y_label="y", title="t", description="d")

    assert svg.count("whisker") == 3
    assert all(f"<title>at {x}</title>" in svg for x in (1.0, 2.0, 8.0))


def test_the_running_median_finds_a_step() -> None:
    at = np.linspace(0, 1, 2000)

    centres, medians, spreads = running_median(at, np.where(at > 0.5, 0.1, 0.0))

    assert np.all(np.diff(centres) > 0)
    assert medians[centres < 0.45] == pytest.approx(0)
    assert medians[centres > 0.55] == pytest.approx(0.1)
    assert spreads == pytest.approx(0, abs=1e-9)


def test_numbers_have_their_units_and_three_digits() -> None:
    assert [number(v) for v in (0, 0.00123, 12.3456, 12345.6, float("nan"))] == ["0", "0.00123", "12.3", "12,346", "–"]  # noqa: RUF001
    assert [seconds(v) for v in (0.0123, 12.35, 900)] == ["12.3 ms", "12.3 s", "15.0 min"]
    assert (percent(0.0138, 2), megabytes(2**29), usd(0.00147)) == ("1.38 %", "512 MB", "0.00147 USD")
    assert [bits_per_s(v) for v in (18.04e9, 2.05e6)] == ["18.0 Gbit/s", "2.05 Mbit/s"]
