"""Bins and quantiles of a network become the redshifts at fixed levels, from which z_phot and sigma are read."""

import numpy as np
import pytest
from scipy import stats

from inference.models.card import BinnedPz, EvenEdges, Quantiles, Redshift
from inference.pz import HIGH_68, LEVELS, LOW_68, MEDIAN, Answer, answer, num_values

EDGES = EvenEdges(start=0.1, stop=0.9, num_bins=4)
"""Of bins with the width .2."""


def of_bins(*values: float, **output: object) -> Answer:
    return answer(BinnedPz(**{"edges": EDGES, **output}), np.array([values], np.float32))  # type: ignore[arg-type]


def test_the_limits_of_68_percent_and_the_median_are_among_the_levels() -> None:
    assert LEVELS[[LOW_68, MEDIAN, HIGH_68]].tolist() == [0.16, 0.5, 0.84]
    np.testing.assert_allclose(LEVELS + LEVELS[::-1], 1)


def test_a_redshift_alone_is_the_answer() -> None:
    z = np.array([0.1, 0.2], np.float32)

    assert answer(Redshift(), z) == (z, None, None)
    assert num_values(Redshift()) == 1
    assert num_values(BinnedPz(edges=EDGES)) == 4
    assert num_values(Quantiles(levels=(0.1, 0.5, 0.9))) == 3


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_even_bins_are_an_even_distribution(scale: float) -> None:
    found = of_bins(*[0.25 * scale] * 4)

    np.testing.assert_allclose(found.pz[0], 0.1 + 0.8 * LEVELS, rtol=1e-6)
    assert found.z_phot == pytest.approx([0.5])
    assert found.sigma == pytest.approx([0.8 * 0.34])
    assert {part.dtype for part in found} == {np.dtype(np.float32)}


def test_the_distribution_is_linear_inside_a_bin_and_passes_over_empty_ones() -> None:
    # From .1 to .3 a share of .2, none up to .5, the rest up to .7.
    found = of_bins(0.2, 0.0, 0.8, 0.0)

    expected = np.where(LEVELS <= 0.2, 0.1 + LEVELS, 0.5 + 0.25 * (LEVELS - 0.2))
    np.testing.assert_allclose(found.pz[0], expected, rtol=1e-6)


def test_a_level_that_a_bin_just_reaches_is_its_upper_edge() -> None:
    assert of_bins(0.5, 0.0, 0.5, 0.0).z_phot == pytest.approx([0.3])
    assert of_bins(0.0, 0.5, 0.0, 0.5).z_phot == pytest.approx([0.5])


def test_bins_of_unequal_width_have_their_mode_where_the_density_is_highest() -> None:
    edges = (0.0, 0.4, 0.5, 1.0)

    assert of_bins(0.4, 0.3, 0.3, edges=edges, point="mode").z_phot == pytest.approx([0.45])
    median = of_bins(0.4, 0.3, 0.3, edges=edges)
    assert median.z_phot == pytest.approx([0.4 + 0.1 / 3])
    assert median.sigma == pytest.approx([(0.5 + 0.5 * 0.14 / 0.3 - 0.4 * 0.16 / 0.4) / 2])


def test_logits_are_probabilities_up_to_a_factor() -> None:
    share = (0.1, 0.2, 0.3, 0.4)
    far_up = np.log(share) + 500

    np.testing.assert_allclose(of_bins(*far_up, values="logit").pz, of_bins(*share).pz, rtol=1e-4)


@pytest.mark.parametrize("nothing", [(0.0,) * 4, (-1.0,) * 4])
def test_where_no_bin_is_likely_all_are_and_negative_shares_are_none(nothing: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(of_bins(*nothing).pz, of_bins(1, 1, 1, 1).pz)
    np.testing.assert_array_equal(of_bins(1, -1, 0.5, 1).pz, of_bins(1, 0, 0.5, 1).pz)


def test_each_galaxy_s_answer_depends_on_its_own_row() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(4), 30).astype(np.float32)

    together = answer(BinnedPz(edges=EDGES), values)

    for row in range(30):
        alone = of_bins(*values[row])
        assert [part[row].tolist() for part in together] == [part[0].tolist() for part in alone]


def test_quantiles_are_interpolated_between_those_that_are_given() -> None:
    levels = (0.1, 0.16, 0.5, 0.84, 0.9)
    ordered = 0.3 + 0.02 * stats.norm.ppf(levels)

    found = answer(Quantiles(levels=levels), ordered[None].astype(np.float32))

    np.testing.assert_allclose(found.pz[0], np.interp(LEVELS, levels, ordered), rtol=1e-6)
    assert found.z_phot == pytest.approx([0.3])
    assert found.sigma == pytest.approx([0.02 * stats.norm.ppf(0.84)], rel=1e-5)


def test_quantiles_that_cross_are_put_in_order() -> None:
    output = Quantiles(levels=(0.16, 0.5, 0.84))

    crossed, ordered = (answer(output, np.array([z], np.float32)) for z in ([0.2, 0.1, 0.3], [0.1, 0.2, 0.3]))

    np.testing.assert_array_equal(crossed.pz, ordered.pz)
    assert ordered.pz[0, [0, -1]] == pytest.approx([0.1, 0.3])
