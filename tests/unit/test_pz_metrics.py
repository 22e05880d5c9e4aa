"""Distances of a PIT from evenness are those of the statistics' definitions, and scores tell good p(z) from bad."""

import numpy as np
import pytest
from scipy import stats

from inference.pz_metrics import (
    LIMITS_95,
    anderson_darling,
    cramer_von_mises,
    kolmogorov_smirnov,
    pit_counts,
    pz_accuracy,
    share_inside,
)
from tests.factories import make_pz


def drawn(num_rows: int = 3_000, *, scale: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Single Gaussians of width .02, and redshifts whose errors are `scale` times as large."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0.2, 0.5, num_rows)
    return make_pz(centre), centre + 0.02 * scale * generator.standard_normal(num_rows)


def test_distances_are_those_of_the_library() -> None:
    transform = np.random.default_rng(1).beta(1.2, 1.0, 500)

    assert kolmogorov_smirnov(transform) == pytest.approx(stats.kstest(transform, "uniform").statistic)
    assert cramer_von_mises(transform) == pytest.approx(stats.cramervonmises(transform, "uniform").statistic)


def test_the_distance_of_anderson_and_darling_is_the_integral_between_its_limits() -> None:
    transform = np.random.default_rng(2).beta(1.2, 1.0, 300)
    u = np.linspace(0.01, 0.99, 2_000_001)
    share = np.searchsorted(np.sort(transform), u, side="right") / 300

    found = anderson_darling(transform)

    assert found == pytest.approx(300 * np.trapezoid((share - u) ** 2 / (u * (1 - u)), u), rel=1e-4)


def test_over_the_whole_range_it_is_the_published_sum() -> None:
    ordered = np.sort(np.random.default_rng(3).uniform(size=200))
    weights = 2 * np.arange(1, 201) - 1

    found = anderson_darling(ordered, (1e-15, 1 - 1e-15))

    assert found == pytest.approx(-200 - (weights * (np.log(ordered) + np.log1p(-ordered[::-1]))).mean(), rel=1e-6)


def test_distributions_that_hold_what_they_say_are_even() -> None:
    found = pz_accuracy(*drawn())

    assert found is not None
    assert found.num_galaxies == sum(found.pit_counts) == 3_000
    assert found.ks < 0.03
    assert found.cvm < 0.5
    assert found.ad < 3
    assert found.coverage_68 == pytest.approx(0.68, abs=0.03)
    assert found.coverage_95 == pytest.approx(0.95, abs=0.015)
    # The mean score of a Gaussian forecast: width / sqrt(pi).
    assert found.crps == pytest.approx(0.02 / np.sqrt(np.pi), rel=0.03)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_distributions_too_wide_or_too_narrow_are_found_out(scale: float) -> None:
    good, bad = pz_accuracy(*drawn()), pz_accuracy(*drawn(scale=scale))

    assert good is not None
    assert bad is not None
    assert bad.ks > 0.1
    assert bad.cvm > 10 * good.cvm
    assert bad.ad > 10 * good.ad
    is_narrow = scale > 1
    assert (bad.coverage_68 < 0.5) == is_narrow
    assert (bad.pit_counts[0] > 2 * good.pit_counts[0]) == is_narrow
    assert (bad.cde_loss > good.cde_loss) == is_narrow


def test_galaxies_without_a_label_or_a_distribution_count_nowhere() -> None:
    pz, z_spec = drawn(50)
    z_spec[:10], pz[40:] = np.nan, np.nan

    found = pz_accuracy(pz, z_spec)

    assert found == pz_accuracy(pz[10:40], z_spec[10:40])
    assert pz_accuracy(None, z_spec) is None
    assert pz_accuracy(pz, np.full(50, np.nan)) is None


def test_every_pit_is_in_a_bin_and_the_limits_are_inside() -> None:
    transform = np.array([0.0, 0.025, 0.5, 0.975, 1.0])

    assert pit_counts(transform) == (2, *[0] * 9, 1, *[0] * 8, 2)
    assert share_inside(transform, LIMITS_95) == 0.6
