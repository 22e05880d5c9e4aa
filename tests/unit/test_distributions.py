"""What is read from a p(z) is what its definition says, whether it is a mixture or quantiles."""

import numpy as np
import pytest
from scipy import stats

from inference.distributions import SUMMARY_QUANTILES, Distributions, distributions, kind, summary
from inference.pz import LEVELS

FINE = np.linspace(0, 1.5, 150_001)


def mixture(num_rows: int = 20, seed: int = 0) -> np.ndarray:
    """Four Gaussians each, some of them cut by redshift 0, some with two peaks."""
    generator = np.random.default_rng(seed)
    weight = generator.dirichlet(np.ones(4), num_rows)
    centre = generator.uniform(-0.01, 0.5, (num_rows, 1)) + 0.03 * generator.standard_normal((num_rows, 4))
    width = generator.uniform(0.005, 0.05, (num_rows, 4))
    return np.concatenate([weight, centre, width], axis=1).astype(np.float32)


def quantiles(num_rows: int = 20, seed: int = 0) -> np.ndarray:
    """Those of normal distributions far from 0."""
    generator = np.random.default_rng(seed)
    centre, width = generator.uniform(0.3, 0.5, (num_rows, 1)), generator.uniform(0.005, 0.05, (num_rows, 1))
    return (centre + width * stats.norm.ppf(LEVELS)).astype(np.float32)


both = pytest.mark.parametrize("pz", [mixture(), quantiles()], ids=["mixture", "quantiles"])


def on_fine_grid(found: Distributions) -> np.ndarray:
    return found.density(np.tile(FINE, (len(found), 1)))


def integral(values: np.ndarray) -> np.ndarray:
    return np.trapezoid(values, FINE, axis=1)


@both
def test_the_density_is_that_of_the_cumulative_distribution(pz: np.ndarray) -> None:
    found = distributions(pz)
    z = np.tile(np.linspace(0.001, 0.8, 40), (len(pz), 1))

    density = on_fine_grid(found)

    assert integral(density) == pytest.approx(np.ones(len(pz)), abs=2e-3)
    below = np.stack([np.trapezoid(density[:, one >= FINE], FINE[one >= FINE], axis=1) for one in z[0]], axis=1)
    np.testing.assert_allclose(found.cumulative(z), below, atol=2e-3)
    assert (found.density(-z) == 0).all()
    assert (found.cumulative(-z) == 0).all()


@both
def test_moments_mode_and_quantiles_are_those_of_the_density(pz: np.ndarray) -> None:
    found = distributions(pz)
    density = on_fine_grid(found)

    np.testing.assert_allclose(found.mean(), integral(density * FINE), atol=2e-4)
    np.testing.assert_allclose(found.integral_of_square(), integral(density**2), rtol=2e-3)
    # The density at the mode is the highest; where two peaks are level, either is a mode.
    mode = found.mode()
    np.testing.assert_allclose(found.density(mode), density.max(axis=1), rtol=1e-4)
    for off in (-1e-5, 1e-5):
        assert (found.density(mode) >= found.density(np.maximum(mode + off, 0))).all()
    shares = (0.005, 0.025, 0.16, 0.5, 0.84, 0.975)
    np.testing.assert_allclose(found.cumulative(found.quantiles(shares)), np.tile(shares, (len(pz), 1)), atol=2e-6)


def gaussian(width: float) -> np.ndarray:
    """Three times the same, around .3."""
    return np.tile(np.repeat([0.25, 0.3, width], 4), (3, 1)).astype(np.float32)


def test_a_single_gaussian_has_the_textbook_s_numbers() -> None:
    single = distributions(gaussian(0.02))
    middle = np.full(3, 0.3)

    np.testing.assert_allclose(
        single.quantiles((0.5, stats.norm.cdf(1), stats.norm.cdf(-2))), np.tile([0.3, 0.32, 0.26], (3, 1)), atol=1e-5
    )
    assert single.mode() == pytest.approx(middle, abs=1e-6)
    assert single.crps(middle) == pytest.approx(0.02 * (np.sqrt(2) - 1) / np.sqrt(np.pi), rel=1e-3)
    height = 1 / (0.02 * np.sqrt(2 * np.pi))
    assert single.cde_loss(middle) == pytest.approx(height / np.sqrt(2) - 2 * height, rel=1e-5)
    assert single.odds(middle, 0.02 / 1.3) == pytest.approx(0.6826895, abs=1e-6)
    assert distributions(gaussian(0.05 * 1.3)).odds(middle) == pytest.approx(0.6826895, abs=1e-5)
    values = [found[0] for found in summary(gaussian(0.02)).values()]
    shares = stats.norm.ppf([0.5, 0.5, 0.5, 0.16, 0.84, 0.025, 0.975])
    np.testing.assert_allclose(values, [*(0.3 + 0.02 * shares), 2 * stats.norm.cdf(3.25) - 1], atol=1e-5)


def test_a_distribution_begins_at_redshift_0_or_at_its_first_quantile() -> None:
    cut = distributions(gaussian(0.2))
    begins, ends = distributions(quantiles()).quantiles((0, 1)).T

    assert cut.density(np.zeros(3)) == pytest.approx(cut.density(np.full(3, 1e-9)))
    assert (distributions(quantiles()).density(begins) > 0).all()
    assert (distributions(quantiles()).density(ends + 1e-9) == 0).all()
    assert distributions(quantiles()).cumulative(begins) == pytest.approx(0, abs=1e-12)
    assert distributions(quantiles()).cumulative(ends) == pytest.approx(1)


@both
def test_the_crps_is_the_integral_that_defines_it(pz: np.ndarray) -> None:
    found = distributions(pz)
    z_spec = np.linspace(0.0, 0.6, len(pz))

    score = found.crps(z_spec)

    forecast = found.cumulative(np.tile(FINE, (len(pz), 1)))
    np.testing.assert_allclose(score, integral((forecast - (z_spec[:, None] <= FINE)) ** 2), rtol=2e-3, atol=1e-5)


@both
def test_distributions_add_up_to_the_number_of_galaxies(pz: np.ndarray) -> None:
    counts = distributions(pz).stacked(np.linspace(0, 1.5, 31))

    assert counts.sum() == pytest.approx(len(pz), abs=1e-4)
    assert counts[0] == pytest.approx(distributions(pz).cumulative(np.full(len(pz), 0.05)).sum(), abs=1e-9)


@both
def test_many_galaxies_are_read_in_parts_like_few(pz: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.linspace(0.01, 0.5, len(pz))
    whole, score = summary(pz), distributions(pz).crps(z)

    monkeypatch.setattr("inference.distributions.ROWS_AT_ONCE", 7)

    for name, values in summary(pz).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-7)
    np.testing.assert_allclose(distributions(pz).crps(z), score, rtol=1e-12)


@both
def test_a_catalog_says_nothing_of_a_rejected_galaxy(pz: np.ndarray) -> None:
    some = pz.copy()
    some[3] = np.nan

    found, whole = summary(some), summary(pz)

    assert list(found) == ["z_mode", "z_mean", *SUMMARY_QUANTILES, "odds"]
    for name, values in found.items():
        assert values.dtype == np.float32
        assert np.flatnonzero(np.isnan(values)).tolist() == [3], name
        np.testing.assert_allclose(np.delete(values, 3), np.delete(whole[name], 3), atol=1e-7)
    assert (np.diff([whole[name] for name in ("z_l95", "z_l68", "z_median", "z_u68", "z_u95")], axis=0) > 0).all()
    assert ((whole["odds"] > 0) & (whole["odds"] <= 1)).all()


def test_quantiles_that_coincide_are_no_trouble() -> None:
    same = np.full((1, len(LEVELS)), 0.2, np.float32)

    found = distributions(same)

    assert found.cumulative(np.array([0.19, 0.21])[None]).tolist() == [[0, 1]]
    assert found.mean() == pytest.approx([0.2])
    assert found.crps(np.array([0.25])) == pytest.approx([0.05])
    # A piece without width counts as a millionth of a redshift wide.
    assert found.integral_of_square() == pytest.approx([1e6 * (np.diff([0, *LEVELS, 1]) ** 2).sum()])
    assert np.isfinite(found.cde_loss(np.array([0.2]))).all()


def test_the_number_of_columns_tells_the_form() -> None:
    assert kind(mixture()) == "mixture"
    assert kind(quantiles()) == "quantiles"
    assert mixture()[0].nbytes <= 64
    assert quantiles()[0].nbytes <= 64
