"""Figures show the numbers they are given: what is drawn is asserted, not how it looks."""

import math
import re
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle, StepPatch

from inference.metrics import nmad, normalised_residuals
from scripts.command.console import counted
from scripts.reports.evidence import read_run
from scripts.reports.figures import ranks, redshifts, settings
from scripts.reports.figures.canvas import (
    COLORS,
    CSS,
    STYLE,
    add_boxes,
    axes_of,
    bin_edges,
    hit,
    padded,
    styled,
    tick_label,
    tip,
)
from scripts.reports.figures.output import as_svg
from scripts.reports.figures.ranks import MAX_ROWS, Timeline, ranks_at_work, waterfall_rows
from scripts.reports.figures.settings import Offer, Point, Series, front_steps, ticks_apart
from scripts.reports.quantities import bits_per_s, megabytes, number, percent, seconds, usd
from scripts.reports.sections.clock import make_timeline
from tests.run_folders import write_run


def axes_in(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def line(figure: Figure, i: int) -> list[list[float]]:
    """Points of the i-th line of a figure."""
    points: list[list[float]] = np.asarray(axes_in(figure).lines[i].get_xydata()).tolist()
    return points


def texts(figure: Figure) -> list[str]:
    legend = axes_in(figure).get_legend()
    named = [text.get_text() for text in legend.get_texts()] if legend else []
    return [*(text.get_text() for text in axes_in(figure).texts), *named]


def tips(figure: Figure) -> list[str]:
    return re.findall(r'<g class="tip[^"]*"><title>([^<]*)</title>', as_svg(figure, title="t", description="d"))


def boxes(figure: Figure) -> dict[str, list[list[float]]]:
    """Colour to the left, right, lower and upper side of every rectangle that has it."""
    names = {color: name for name, color in COLORS.items()}
    found = {}
    for patch in axes_in(figure).findobj(PathPatch, include_self=False):
        corners = np.asarray(patch.get_path().vertices).reshape(-1, 5, 2)
        sides = [corners[..., 0].min(1), corners[..., 0].max(1), corners[..., 1].min(1), corners[..., 1].max(1)]
        red, green, blue, _ = (round(255 * share) for share in patch.get_facecolor())
        found[names[f"#{red:02x}{green:02x}{blue:02x}"]] = np.stack(sides, axis=1).round(9).tolist()
    return found


# ---------------------------------------------------------------------------------------------- axes and output


@styled
def small(gid: str = "", color: str = "s1") -> Figure:
    figure, axes = axes_of(x=(0, 2), y=(0, 1), x_label="a < b", y_label="y")
    axes.plot([0, 1], [0.5, 0.123456], color=COLORS[color], gid=gid or None)
    return figure


def test_a_colour_of_the_page_has_one_name() -> None:
    assert len(set(COLORS.values())) == len(COLORS) > 20


def test_colours_become_variables_of_the_page() -> None:
    svg = as_svg(small(color="s3"), title="t", description="d")

    assert 'stroke="var(--s3)"' in svg
    assert "#" not in re.sub(r"(url\(#|href=\"#)", "", svg)


def test_a_colour_that_the_page_does_not_have_is_an_error() -> None:
    figure = small()
    axes_in(figure).lines[0].set_color("#123456")

    with pytest.raises(KeyError, match="#123456"):
        as_svg(figure, title="t", description="d")


def test_the_same_figure_is_the_same_text_and_another_title_shares_no_id() -> None:
    first, again, other = (as_svg(small(), title=title, description="d") for title in ("t", "t", "u"))

    assert first == again
    assert not set(re.findall(r' id="([^"]+)"', first)) & set(re.findall(r' id="([^"]+)"', other))


def test_text_in_a_figure_is_escaped_and_stays_text() -> None:
    svg = as_svg(small(gid=tip("<script>")), title='"quoted"', description="d & e")

    assert ">a &lt; b</text>" in svg
    assert "<title>&lt;script&gt;</title>" in svg
    assert 'aria-label="&quot;quoted&quot;"' in svg
    assert "<desc>d &amp; e</desc>" in svg


@pytest.mark.parametrize(("gid", "css"), [(tip("x"), "tip"), (hit("x"), "tip hit")])
def test_an_artist_with_a_text_is_a_mark_with_a_title(gid: str, css: str) -> None:
    assert f'<g class="{css}"><title>x</title>' in as_svg(small(gid=gid), title="t", description="d")


def test_coordinates_are_pixels_with_two_decimals() -> None:
    svg = as_svg(small(), title="t", description="d")

    assert 'viewBox="0 0 430 300" width="430" height="300"' in svg
    assert 'd="M52 143L235 229.60"' in svg  # the axes are 366 x 230 px from (52, 28)
    assert not re.search(r"\d\.\d{3}", svg)


def test_a_text_stays_horizontal_or_turned_as_it_was_drawn() -> None:
    figure = small()
    figure.text(0.5, 0.5, "upwards", rotation=90, color=COLORS["ink"])

    turned = re.findall(r"rotate\(-\d+", as_svg(figure, title="t", description="d"))

    assert turned == ["rotate(-90"]


def test_the_name_of_the_y_axis_stands_above_it_in_the_corner_of_the_figure() -> None:
    (name,) = small().texts

    assert (name.get_text(), *name.get_position()) == ("y", 0, 1 - 12 / 300)


@styled
def test_the_ticks_of_both_axes_are_written_as_numbers_of_the_page_are() -> None:
    _, axes = axes_of(x=(0, 3000), y=(0, 3), x_label="", y_label="", whole_y=True)
    _, bare = axes_of(x=(0, 1), y=(0, 1), x_label="", y_label="", y_ticks=False)

    assert [axis.get_major_formatter()(1500.0) for axis in (axes.xaxis, axes.yaxis)] == ["1,500"] * 2
    assert axes.get_xticks().tolist() == [0, 1000, 2000, 3000]
    assert axes.get_yticks().tolist() == [0, 1, 2, 3]
    assert bare.get_yticks().tolist() == []


def test_ticks_are_as_short_as_they_are_exact() -> None:
    values = (0, 1e-17, 0.05, 0.0125, 2.0, 1500, 2e6, -0.1)

    assert [tick_label(value) for value in values] == ["0", "0", "0.05", "0.0125", "2", "1,500", "2 M", "-0.1"]


def test_ranges_have_room_on_both_sides_or_start_at_zero() -> None:
    assert padded(np.array([1.0, math.nan, 3.0]), share=0.1) == pytest.approx((0.8, 3.2))
    assert padded(np.array([2.0, 4.0]), from_zero=True, share=0.5) == (0, 6)
    assert padded(np.array([4.0])) == (2, 6)
    assert padded(np.zeros(2), from_zero=True) == (0, 1)


# --------------------------------------------------------------------------------------------------- redshifts


def test_every_point_counts_once_and_those_beyond_count_at_the_border() -> None:
    x, y = np.array([0.1, 0.1, 0.5, 99.0]), np.array([0.1, 0.1, 0.9, -1.0])

    found = redshifts.cells(x, y, (0, 1), (0, 1), (2, 4))

    assert found.counts.tolist() == [[2, 0, 0, 1], [0, 0, 1, 0]]
    assert found.num_beyond == 1
    assert (len(found.x_edges), len(found.y_edges)) == (5, 3)


def test_shades_rise_in_equal_ratios_from_one() -> None:
    counts = np.array([[1, 64]])

    assert redshifts.Cells(np.zeros(1), np.zeros(1), counts, 0).steps.tolist() == [1, 2, 4, 8, 16, 32]


def test_the_limits_of_outliers_are_where_dz_is_005() -> None:
    (x_equal, equal), (x_high, high), (x_low, low) = redshifts.comparison(np.array([0.2]), np.array([0.3])).limits

    assert normalised_residuals(equal, x_equal) == pytest.approx(0)
    assert normalised_residuals(high, x_high) == pytest.approx(0.05)
    assert normalised_residuals(low, x_low) == pytest.approx(-0.05)


def test_a_comparison_draws_its_limits_and_counts_outliers() -> None:
    z_spec = np.array([0.1, 0.1, 0.2, 0.3])
    z_phot = np.array([0.1, 0.2, 0.2, 0.3])

    figure, cells = redshifts.draw_comparison(z_phot, z_spec)
    found = redshifts.comparison(z_phot, z_spec)

    assert [line(figure, i) for i in range(3)] == [np.stack(one, axis=1).tolist() for one in found.limits]
    assert found.share_outliers == 0.25
    assert cells.counts.sum() == 4
    # The galaxy with z_spec 0.1 and z_phot 0.2 is above the diagonal.
    drawn = chain.from_iterable(boxes(figure).values())
    assert any(left <= 0.1 <= right and low <= 0.2 <= high for left, right, low, high in drawn)


def test_the_page_has_the_size_of_letters_that_figures_are_laid_out_for() -> None:
    assert f"svg text {{ font-size: {STYLE['font.size']}px;" in CSS.read_text()
    assert "font-size" not in as_svg(small(), title="t", description="d")


@styled
def test_boxes_of_the_page_are_where_they_are_drawn() -> None:
    figure, axes = axes_of(x=(0, 2), y=(0, 1), x_label="x", y_label="y")  # 366 x 230 px from (52, 28)
    left, right, low, high = np.array([[0.1, 0.2, 1.5], [0.3, 0.9, 1.6], [0.2, 0.2, 0.7], [0.4, 0.3, 1.0]])
    add_boxes(axes, left, right, low, high, color=COLORS["s1"])

    svg = as_svg(figure, title="t", description="d")

    (path,) = re.findall(r'<g class="boxes"><path d="([^"]*)"', svg)
    steps = np.array(re.findall(r"m(\S+?) (\S+?)h(\S+?)v(\S+?)h\S+?z", path), float)
    corners = np.cumsum(steps[:, :2], axis=0)
    assert corners == pytest.approx(np.stack([52 + 183 * left, 258 - 230 * low], axis=1), abs=0.1)
    assert steps[:, 2:] == pytest.approx(np.stack([183 * (right - left), 230 * (low - high)], axis=1), abs=0.1)


def test_what_draws_nothing_is_not_in_the_page() -> None:
    figure = small()
    figure.axes[0].plot(1, 0.5, marker="o")

    svg = as_svg(figure, title="t", description="d")

    assert "<use " in svg
    assert not re.search(r' d="M[^LCQ"]*"', svg)


def test_a_density_draws_as_many_cells_as_hold_galaxies() -> None:
    rng = np.random.default_rng(0)
    z_spec = rng.uniform(0.05, 0.3, 500)

    figure, cells = redshifts.draw_comparison(z_spec, z_spec)

    width = cells.x_edges[1] - cells.x_edges[0]
    drawn = sum(round((right - left) / width) for shade in boxes(figure).values() for left, right, *_ in shade)
    assert drawn == (cells.counts > 0).sum()
    assert texts(figure)[-1].endswith(" per cell")


def test_the_running_median_and_nmad_are_those_of_each_bin() -> None:
    x = np.arange(60.0)[::-1]
    dz = np.where(x < 30, 0.01, -0.02) + np.tile([-0.001, 0.0, 0.001], 20)

    found = redshifts.running(x, dz, num_bins=2)

    assert found.centers == pytest.approx([14.5, 44.5])
    assert found.medians == pytest.approx([0.01, -0.02])
    assert found.nmads == pytest.approx(1.48 * 0.001)


@pytest.mark.parametrize(("num", "num_bins"), [(1, 1), (59, 1), (60, 2), (10_000, 16)])
def test_a_bin_of_a_running_median_has_enough_galaxies(num: int, num_bins: int) -> None:
    assert len(redshifts.running(np.arange(float(num)), np.zeros(num)).medians) == num_bins


def test_residuals_are_drawn_with_their_running_median_and_nmad() -> None:
    rng = np.random.default_rng(0)
    r, dz = rng.uniform(15, 18, 300), 0.01 * rng.standard_normal(300)

    figure, _, found = redshifts.draw_residuals(r, dz, label="r")

    assert line(figure, 0) == [[0, 0], [1, 0]]  # dz = 0 over the whole width
    assert line(figure, 1) == np.stack([found.centers, found.medians], axis=1).tolist()
    assert line(figure, 2) == np.stack([found.centers, found.medians - found.nmads], axis=1).tolist()
    assert line(figure, 3) == np.stack([found.centers, found.medians + found.nmads], axis=1).tolist()
    assert axes_in(figure).get_ylim() == pytest.approx((-6 * nmad(dz), 6 * nmad(dz)))


def test_distributions_of_redshifts_share_their_bins() -> None:
    z_spec, z_phot = np.append(np.linspace(0.1, 0.2, 200), math.nan), np.linspace(0.1, 0.3, 100)

    edges, counts = redshifts.redshift_counts({"z_spec": z_spec, "z_phot": z_phot})
    steps = axes_in(redshifts.draw_redshifts({"z_spec": z_spec, "z_phot": z_phot})).findobj(StepPatch)

    assert counts["z_spec"].sum() == 200
    assert counts["z_phot"].sum() == 99  # one in a thousand of both together is beyond the last edge
    drawn = [step.get_data() for step in steps]
    assert [one.values.tolist() for one in drawn] == [counts[k].tolist() for k in ("z_spec", "z_spec", "z_phot")]
    assert all(one.edges.tolist() == edges.tolist() for one in drawn)


@pytest.mark.parametrize(
    ("values", "num_edges"), [([], 11), ([0.2, 0.2], 11), (list(range(10)), 11), (list(range(100_000)), 47)]
)
def test_bins_are_neither_few_nor_many(values: list[float], num_edges: int) -> None:
    edges = bin_edges(np.array(values, float))

    assert len(edges) == num_edges
    assert np.all(np.diff(edges) > 0)


def test_coverage_is_the_share_of_errors_within_each_multiple_of_sigma() -> None:
    error = np.array([0.01, -0.03, 0.05, -0.2])
    sigma = np.full(4, 0.02)

    found = redshifts.coverage(error, sigma, 2.0)

    assert found.nominal == ((1.0, 0.68, 0.25), (2.0, 0.95, 0.5))
    assert found.table[1] == (1.0, pytest.approx(0.6827, abs=1e-4), 0.25)
    assert found.observed[-1] == 0.75
    assert found.widths[[0, -1]].tolist() == [0, 3.5]
    assert found.expected[[0, -1]] == pytest.approx([0, 0.99953], abs=1e-5)


def test_coverage_reaches_beyond_a_wide_95_percent_interval_and_goes_without_one() -> None:
    error, sigma = np.ones(2), np.ones(2)

    assert redshifts.coverage(error, sigma, 5.0).widths[-1] == 5.5
    assert redshifts.coverage(error, sigma, math.nan).nominal == ((1.0, 0.68, 1.0),)


def test_the_calibration_draws_coverage_and_what_was_promised() -> None:
    found = redshifts.coverage(np.array([0.01, -0.03]), np.full(2, 0.02), 2.0)

    figure = redshifts.draw_coverage(found)

    assert line(figure, 0) == np.stack([found.widths, found.expected], axis=1).tolist()
    assert line(figure, 1) == np.stack([found.widths, found.observed], axis=1).tolist()
    assert [line(figure, 2 + i) for i in range(6)] == [[[k, seen]] for k, _, seen in found.table]
    assert [line(figure, 8 + i) for i in range(2)] == [[[1.0, 0.68]], [[2.0, 0.95]]]
    assert texts(figure) == ["68 % nominal,\n50.0 % found", "95 % nominal,\n100.0 % found", "observed", "Gaussian"]
    assert tips(figure)[1] == "within 1 sigma: 50.0 %, expected 68.3 %"


def test_errors_grow_with_an_honest_sigma() -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.01, 0.03, 20_000)

    found = redshifts.widths(-sigma * rng.standard_normal(20_000), sigma)

    assert len(found.sigma) == 10
    assert np.all(np.diff(found.sigma) > 0)
    # 68 % of a Gaussian are within 0.9945 sigma; 2,000 galaxies know it to 4 % (two standard errors).
    assert found.error == pytest.approx(0.9945 * found.sigma, rel=0.06)
    assert np.all((found.low < found.error) & (found.error < found.high))
    assert np.mean((found.low < 0.9945 * found.sigma) & (0.9945 * found.sigma < found.high)) >= 0.8
    assert found.high / found.low == pytest.approx(1.08, abs=0.04)


def test_errors_are_drawn_against_sigma_with_their_intervals() -> None:
    found = redshifts.Widths(*(np.array([value]) for value in (0.02, 0.03, 0.025, 0.04)))

    figure = redshifts.draw_widths(found)

    assert line(figure, 0) == [[0, 0], [pytest.approx(0.044), pytest.approx(0.044)]]
    assert line(figure, 1) == [[0.02, 0.025], [0.02, 0.04]]
    assert line(figure, 2) == [[0.02, 0.03]]
    assert texts(figure) == ["calibrated"]
    assert tips(figure) == ["sigma 0.0200: 68 % stay below 0.0300 (0.0250 to 0.0400)"]


@pytest.mark.parametrize("num", [1, 2])
def test_one_or_two_galaxies_are_drawn_like_many(num: int) -> None:
    # Warnings are errors here: an empty axis or a bin without galaxies would raise.
    z = np.linspace(0.1, 0.2, num)
    for figure in (
        redshifts.draw_comparison(z, z)[0],
        redshifts.draw_residuals(z, np.zeros(num), label="z")[0],
        redshifts.draw_redshifts({"z_spec": z}),
        redshifts.draw_coverage(redshifts.coverage(z, z, 2.0)),
        redshifts.draw_widths(redshifts.widths(z, z)),
    ):
        assert "nan" not in as_svg(figure, title="t", description="d")


# ------------------------------------------------------------------------------------------------------- ranks


def timeline(num: int) -> Timeline:
    rng = np.random.default_rng(0)
    lengths = rng.uniform(1, 2, (num, 2))
    return Timeline(("init", "model_load"), np.arange(num) + 100, np.arange(num, dtype=float), lengths)


@pytest.mark.parametrize(("num", "share"), [(1, 1), (128, 1), (129, 2), (10_240, 80)])
def test_a_waterfall_has_a_bounded_number_of_rows_for_any_number_of_ranks(num: int, share: int) -> None:
    rows = waterfall_rows(timeline(num))

    assert rows[0].num_ranks == share
    assert len(rows) == -(-num // share) <= MAX_ROWS
    assert sum(row.num_ranks for row in rows) == num


def test_a_row_of_many_ranks_draws_the_median_one_and_names_its_slowest() -> None:
    lengths = np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 30.0]] * 100)
    one = Timeline(("init", "model_load"), np.arange(300), np.arange(300.0), lengths)

    row = waterfall_rows(one)[1]

    assert (row.line, row.num_ranks, row.first, row.last) == (3, 3, 3.0, 36.0)
    assert row.text == "3 ranks, slowest 5 with 31.0 s; the median, rank 3: init 1.00 s, model load 2.00 s"


def test_a_phase_that_took_no_time_is_not_named() -> None:
    one = Timeline(("init", "model_load"), np.array([7]), np.zeros(1), np.array([[0.0, 2.0]]))

    assert waterfall_rows(one)[0].text == "rank 7: model load 2.00 s"


def test_a_waterfall_draws_every_phase_from_its_begin_to_its_end() -> None:
    one = Timeline(("init", "model_load"), np.array([5, 6]), np.array([0.0, 1.0]), np.array([[1.0, 2.0], [0.0, 4.0]]))

    figure = ranks.draw_waterfall(one, waterfall_rows(one))
    drawn = boxes(figure)

    assert drawn == {"init": [[0, 1, 0.1, 0.9]], "model-load": [[1, 3, 0.1, 0.9], [1, 5, 1.1, 1.9]]}
    assert axes_in(figure).get_ylim() == (2, 0)  # the first rank on top
    assert [label.get_text() for label in axes_in(figure).get_yticklabels()] == ["5", "6"]
    assert tips(figure) == ["rank 5: init 1.00 s, model load 2.00 s", "rank 6: model load 4.00 s"]


def test_a_waterfall_of_groups_shows_how_far_they_reach() -> None:
    one = timeline(256)

    figure = ranks.draw_waterfall(one, waterfall_rows(one))

    assert line(figure, 0)[:2] == [[0.0, 0.5], [one.end[:2].max(), 0.5]]
    assert math.isnan(line(figure, 0)[2][0])
    assert len(tips(figure)) == 128


def test_phases_follow_each_other_and_end_with_the_rank(tmp_path: Path) -> None:
    write_run(tmp_path / "run-a", world_size=8)
    records = read_run(tmp_path / "run-a").ranks
    found = make_timeline(records)

    assert found is not None
    order = found.ranks
    assert found.start.min() == 0
    assert found.end + (records["started_at_s"] - records["queue"]).min() == pytest.approx(
        records["started_at_s"][order] + records["total"][order], abs=1e-3
    )
    # The queue as recorded holds the init: drawn twice it would shift every cold rank.
    assert found.lengths[:, 0] == pytest.approx(records["queue"][order] - records["init"][order])


def test_a_rank_is_at_work_from_its_begin_to_its_end() -> None:
    one = Timeline(("init", "model_load"), np.arange(2), np.array([0.0, 1.0]), np.array([[10.0, 14.0], [1.0, 1.0]]))

    moments, counts = ranks_at_work(one)

    assert moments[[0, -1]].tolist() == [0, 24]
    at = {moment: tuple(counts[:, np.searchsorted(moments, moment)]) for moment in (0.5, 1.5, 2.5, 5, 12)}
    assert at == {0.5: (1, 0), 1.5: (2, 0), 2.5: (1, 1), 5: (1, 0), 12: (0, 1)}


def test_ranks_at_work_are_stacked() -> None:
    one = Timeline(("init", "model_load"), np.arange(3), np.zeros(3), np.array([[1.0, 1.0]] * 3))

    figure = ranks.draw_ranks_at_work(one)
    lower, upper = (patch.get_xy() for patch in axes_in(figure).patches)

    assert lower[:, 1].max() == 3
    assert upper[upper[:, 0] > 1.5][:, 1].min() == 0
    assert upper[:, 1].max() == 3
    assert axes_in(figure).get_ylim() == pytest.approx((0, 3 * 1.08))


def test_shares_add_up_to_the_whole_bar() -> None:
    figure = ranks.draw_shares({"init": 1.0, "model_load": 3.0})
    first, second = axes_in(figure).findobj(Rectangle, include_self=False)[:2]

    assert (first.get_x(), second.get_x()) == (0, 0.25)
    assert second.get_x() + second.get_width() == pytest.approx(1, abs=0.002)
    assert texts(figure) == ["init 25.0 %", "model load 75.0 %"]
    assert tips(figure) == ["init: 1.00 s, 25.0 %", "model load: 3.00 s, 75.0 %"]


def distribution(values: np.ndarray, **marks: float) -> Figure:
    return ranks.draw_distribution(values, label="x", what="rank", marks=marks)


@pytest.mark.parametrize("num", [8, 40])
def test_few_values_are_dots_at_their_place_among_all(num: int) -> None:
    figure = distribution(np.append(np.arange(num, 0, -1.0), math.nan))

    assert line(figure, 1) == [[value, value] for value in range(1, num + 1)]
    assert boxes(figure) == {}


def test_many_values_are_a_histogram() -> None:
    values = np.arange(41.0)

    edges = bin_edges(values)
    bars = boxes(distribution(values))["s1"]

    assert [bar[:2] for bar in bars] == [[*pair] for pair in pairwise(edges.round(9))]
    assert [bar[2] for bar in bars] == [0] * len(bars)
    assert sum(bar[3] for bar in bars) == 41


@pytest.mark.parametrize("num", [1, 3, 300])
def test_equal_values_have_a_distribution_too(num: int) -> None:
    assert "nan" not in as_svg(distribution(np.ones(num), median=1.0), title="t", description="d")


@pytest.mark.parametrize(("end", "side"), [(10.0, "left"), (2.05, "right")])
def test_names_of_marks_stay_inside_the_figure(end: float, side: str) -> None:
    figure = distribution(np.array([1.0, end]), median_is_1=1.5, p95_is_2=2.0)

    assert {text.get_ha() for text in axes_in(figure).texts} == {side}
    # Where names stand to the right, the first is above: no name crosses a line.
    assert texts(figure) == (["median_is_1", "p95_is_2"] if side == "left" else ["p95_is_2", "median_is_1"])
    heights = [text.xy[1] for text in axes_in(figure).texts]  # type: ignore[attr-defined]
    assert heights[0] > heights[1] > 1


# ------------------------------------------------------------------------------------------ what axes reach and say


def frame(figure: Figure) -> tuple[tuple[float, float], tuple[float, float], str, str, tuple[int, int]]:
    """Return the ends of both axes, what stands at them, and the size in pixels."""
    axes, (width, height) = axes_in(figure), 72 * figure.get_size_inches()
    labels = axes.get_xlabel(), figure.texts[0].get_text()
    return (axes.get_xlim(), axes.get_ylim(), *labels, (round(width), round(height)))


WIDTHS = redshifts.Widths(*(np.array([value]) for value in (0.02, 0.03, 0.025, 0.04)))
WIDTHS_LABELS = ("sigma, median of the bin", "|z_phot - z_spec| that 68 % stay below")
SINCE = "seconds after the first rank entered the Map"


@pytest.mark.parametrize(
    ("draw", "x", "y", "labels", "size"),
    [
        (lambda: distribution(np.arange(1, 9.0)), (0, 8 * 1.06), (0, 8.5), ("x", "ranks at or below"), (430, 244)),
        (lambda: distribution(np.array([-1.0, 1.0])), (-1.1, 1.1), (0, 2.5), ("x", "ranks at or below"), (430, 244)),
        (lambda: distribution(np.array([0.0, 0.0])), (-0.5, 0.5), (0, 2.5), ("x", "ranks at or below"), (430, 244)),
        (lambda: distribution(np.array([0.0, 2.0])), (0, 2.12), (0, 2.5), ("x", "ranks at or below"), (430, 244)),
        (lambda: distribution(np.arange(50.0)), (0, 49), (0, 5 * 1.15), ("x", "ranks per bin"), (430, 244)),
        (lambda: redshifts.draw_widths(WIDTHS), (0, 0.044), (0, 0.044), WIDTHS_LABELS, (430, 300)),
        (
            lambda: redshifts.draw_coverage(redshifts.coverage(np.ones(9), np.ones(9), 4.0)),
            (0, 4.5),
            (0, 1.04),
            ("half-width of the interval [sigma]", "share of galaxies inside"),
            (430, 300),
        ),
        (
            lambda: redshifts.draw_comparison(np.full(9, 0.3), np.full(9, 0.2))[0],
            (0, 0.315),
            (0, 0.315),
            ("spectroscopic redshift", "photometric redshift"),
            (430, 400),
        ),
        (
            lambda: redshifts.draw_residuals(np.linspace(15, 17, 1001), np.zeros(1001), label="r [mag]")[0],
            (15.002 - 0.02 * 1.996, 16.998 + 0.02 * 1.996),
            (-6e-4, 6e-4),
            ("r [mag]", "dz"),
            (430, 300),
        ),
        (
            lambda: redshifts.draw_redshifts({"z_spec": np.full(10, 0.2)}),
            (0.19, 0.21),
            (0, 10.8),
            ("redshift", "galaxies per bin"),
            (430, 400),
        ),
        (
            lambda: ranks.draw_waterfall(timeline(2), waterfall_rows(timeline(2))),
            (0, 1.02 * timeline(2).end.max()),
            (2, 0),
            (SINCE, "rank"),
            (880, 108),
        ),
        (
            lambda: ranks.draw_waterfall(timeline(256), waterfall_rows(timeline(256))),
            (0, 1.02 * timeline(256).end.max()),
            (128, 0),
            (SINCE, "groups of 2 ranks, in order of start"),
            (880, 537),
        ),
        (
            lambda: ranks.draw_ranks_at_work(timeline(3)),
            (0, timeline(3).end.max()),
            (0, 3 * 1.08),
            (SINCE, "ranks"),
            (880, 230),
        ),
    ],
)
def test_axes_begin_and_end_with_what_they_show_and_name_it(
    draw: Callable[[], Figure],
    x: tuple[float, float],
    y: tuple[float, float],
    labels: tuple[str, str],
    size: tuple[int, int],
) -> None:
    found_x, found_y, *found_labels, found_size = frame(draw())

    assert (found_x, found_y) == (pytest.approx(x), pytest.approx(y))
    assert (tuple(found_labels), found_size) == (labels, size)


def test_axes_leave_room_for_their_labels_and_tick_as_often_as_they_are_long() -> None:
    @styled
    def made(**changes: Any) -> Axes:
        return axes_of(**{"x": (0, 10), "y": (0, 3), "x_label": "x", "y_label": "y", **changes})[1]

    usual, wide, plain, whole = (
        made(),
        made(size=(880, 550), left=70.0, top=50.0),
        made(y_ticks=False),
        made(y=(0, 2), whole_y=True),
    )

    boxes_px = [axes.get_window_extent().bounds for axes in (usual, wide)]
    np.testing.assert_allclose(boxes_px, [(52, 42, 430 - 52 - 12, 300 - 28 - 42), (70, 42, 798, 458)])
    # A tick every 75 pixels along x and every 55 along y, about.
    assert [len(axes.get_xticks()) for axes in (usual, wide)] == [6, 11]
    assert [len(axes.get_yticks()) for axes in (usual, wide, plain)] == [4, 7, 0]
    assert whole.get_yticks().tolist() == [0, 1, 2]


# ---------------------------------------------------------------------------------------------------- settings


POINTS = [Point(x, x, x - 0.5, x + 0.5, f"at {x:g}") for x in (1.0, 2.0, 8.0)]


def drawn_lines(figure: Figure) -> list[Line2D]:
    return list(axes_in(figure).lines)


def test_a_series_shows_interval_and_numbers_of_every_point() -> None:
    figure = settings.draw_series([Series("one", POINTS[::-1])], x_label="x", y_label="y")
    connected, whiskers, *points = drawn_lines(figure)

    assert np.asarray(connected.get_xydata()).tolist() == [[1, 1], [2, 2], [8, 8]]
    ends = np.asarray(whiskers.get_xydata()).reshape(3, 3, 2)
    assert ends[:, :2].tolist() == [[[x, x - 0.5], [x, x + 0.5]] for x in (1.0, 2.0, 8.0)]
    assert np.isnan(ends[:, 2, 1]).all()
    assert [np.asarray(point.get_xydata()).tolist() for point in points] == [[[x, x]] for x in (1.0, 2.0, 8.0)]
    assert tips(figure) == ["at 1", "at 2", "at 8"]


def test_a_point_without_interval_has_no_whisker() -> None:
    points = [Point(x, x, x, x, "") for x in (1.0, 2.0)]

    assert len(drawn_lines(settings.draw_series([Series("", points)], x_label="x", y_label="y"))) == 3


def test_places_without_numbers_are_named_and_not_connected() -> None:
    points = [Point(x, 1.0, 1.0, 1.0, "") for x in (0.0, 1.0)]
    names = {0.0: "torch", 1.0: "onnx"}

    figure = settings.draw_series([Series("", points)], x_label="x", y_label="y", x_names=names)

    assert [label.get_text() for label in axes_in(figure).get_xticklabels()] == ["torch", "onnx"]
    assert len(drawn_lines(figure)) == 2


def test_the_ideal_is_drawn_and_fits_the_axes() -> None:
    figure = settings.draw_series([Series("", POINTS)], x_label="x", y_label="y", ideal=lambda x: 10 * x)

    ideal = np.array(line(figure, 0))
    assert ideal[:, 1] == pytest.approx(10 * ideal[:, 0])
    assert axes_in(figure).get_ylim()[1] > 80
    assert texts(figure) == ["ideal"]


@pytest.mark.parametrize(("last", "scale"), [(5.9, "linear"), (6.0, "log")])
def test_places_that_spread_far_stand_on_a_logarithmic_axis(last: float, scale: str) -> None:
    points = [Point(x, 1.0, 1.0, 1.0, "") for x in (1.0, last)]

    figure = settings.draw_series([Series("", points)], x_label="x", y_label="y")

    assert axes_in(figure).get_xscale() == scale
    assert axes_in(figure).get_xlim() == pytest.approx((1 / 1.15, 6 * 1.15) if scale == "log" else (0.706, 6.194))


def test_ticks_are_measured_places_whose_labels_do_not_touch() -> None:
    assert ticks_apart(np.array([1.0, 1.05, 2, 4, 8]), is_log=True) == [1, 2, 4, 8]
    assert ticks_apart(np.array([1.0, 2, 4, 100]), is_log=False) == [1, 100]
    assert ticks_apart(np.array([3.0]), is_log=False) == [3]


def test_series_differ_by_more_than_their_colour() -> None:
    colors, dashes, markers = (set(column) for column in zip(*settings.STYLES, strict=True))

    assert len(colors) == len(dashes) == len(markers) == 6


def offers() -> list[Offer]:
    return [
        Offer(30.0, 1.0, True, "cheapest", "c"),
        Offer(10.0, 4.0, True, "fastest", "a"),
        Offer(20.0, 2.0, True, "", "b"),
        Offer(25.0, 3.0, False, "", "d"),
    ]


def test_the_front_keeps_the_price_of_a_setting_until_a_slower_one_is_cheaper() -> None:
    time_s, price = front_steps(offers())

    assert list(zip(time_s, price, strict=True)) == [(10, 4), (20, 4), (20, 2), (30, 2), (30, 1)]
    assert [len(one) for one in front_steps(offers()[3:])] == [0, 0]


def test_settings_on_the_front_are_filled_and_those_recommended_named() -> None:
    figure = settings.draw_front(offers())
    front, *points = drawn_lines(figure)

    assert np.asarray(front.get_xydata()).tolist() == np.stack(front_steps(offers()), axis=1).tolist()
    assert [np.asarray(point.get_xydata()).tolist() for point in points] == [[[o.time_s, o.usd]] for o in offers()]
    assert [point.get_markerfacecolor() == COLORS["s2"] for point in points] == [True, True, True, False]
    assert texts(figure) == ["cheapest", "fastest"]
    assert tips(figure) == ["c", "a", "b", "d"]


# -------------------------------------------------------------------------------------------------- quantities


def test_numbers_have_their_units_and_three_digits() -> None:
    assert [number(v) for v in (0, 0.00123, 12.3456, 12345.6, float("nan"))] == ["0", "0.00123", "12.3", "12,346", "–"]  # noqa: RUF001
    assert [seconds(v) for v in (0.0123, 12.35, 900)] == ["12.3 ms", "12.3 s", "15.0 min"]
    assert (percent(0.0138, 2), megabytes(2**29), usd(0.00147)) == ("1.38 %", "512 MB", "0.00147 USD")
    assert [bits_per_s(v) for v in (18.04e9, 2.05e6)] == ["18.0 Gbit/s", "2.05 Mbit/s"]
    assert (counted(1, "rank"), counted(2000, "rank")) == ("1 rank", "2,000 ranks")
