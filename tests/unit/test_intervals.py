"""Intervals repeat from their seed, have the width of theory, and are the same wherever they are shown."""

import math

import numpy as np
import pytest

from inference import intervals
from inference.contract import Accuracy
from inference.intervals import accuracy_intervals, bootstrap, nmad_interval, num_draws_for
from inference.metrics import Array, normalised_residuals, redshift_accuracy


def draw(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts with a Gaussian error of .02 in dz."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.05, 0.3, num_rows)
    return z_spec + 0.02 * (1 + z_spec) * generator.standard_normal(num_rows), z_spec


def means(sets: Array) -> Array:
    return np.asarray(sets.mean(axis=-1))


def medians(sets: Array) -> Array:
    return np.asarray(np.median(sets, axis=-1))


def test_an_interval_holds_the_metric_and_has_the_width_of_theory() -> None:
    z_phot, z_spec = draw(1_000)

    low, high = accuracy_intervals(z_phot, z_spec, num_draws=300)["bias"]

    accuracy = redshift_accuracy(z_phot, z_spec)
    assert accuracy is not None
    assert low < accuracy.bias < high
    # ± 1.96 standard errors of a mean; 300 draws know the ends to about 10 %.
    assert high - low == pytest.approx(2 * 1.96 * 0.02 / math.sqrt(1_000), rel=0.25)


def test_an_interval_is_the_percentile_bootstrap_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).lognormal(size=12)

    found = bootstrap(values, medians, num_draws=500)

    generator = np.random.default_rng(0)
    expected = stats.bootstrap((values,), np.median, n_resamples=500, method="percentile", rng=generator)
    assert found == pytest.approx(tuple(expected.confidence_interval))


def test_the_nmad_has_one_interval_alone_and_among_all_metrics() -> None:
    z_phot, z_spec = draw(200)

    alone = nmad_interval(normalised_residuals(z_phot, z_spec))

    assert alone == pytest.approx(accuracy_intervals(z_phot, z_spec)["nmad"], rel=1e-12)


def test_draws_and_seed_are_the_same_for_the_nmad_alone() -> None:
    z_phot, z_spec = draw(30)
    asked = {"num_draws": 21, "seed": 3}

    alone = nmad_interval(normalised_residuals(z_phot, z_spec), **asked)

    assert alone == pytest.approx(accuracy_intervals(z_phot, z_spec, **asked)["nmad"], rel=1e-12)


def test_each_interval_is_that_of_the_accuracies_of_resampled_galaxies() -> None:
    z_phot, z_spec = draw(31)
    sigma = np.where(np.arange(31) % 7, 0.02, np.nan)

    found = accuracy_intervals(z_phot, z_spec, sigma, ratio_95=1.9, num_draws=40)

    sets = np.random.default_rng(0).integers(0, 31, (40, 31))
    drawn = [redshift_accuracy(z_phot[rows], z_spec[rows], sigma[rows], ratio_95=1.9) for rows in sets]
    assert set(found) == set(Accuracy.__struct_fields__)
    for name, interval in found.items():
        assert interval == pytest.approx(np.percentile([getattr(one, name) for one in drawn], (2.5, 97.5)), rel=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    z_phot, z_spec = draw(50)

    first, again, other = (accuracy_intervals(z_phot, z_spec, num_draws=20, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first["nmad"] != other["nmad"]


def test_draws_in_pieces_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    at_once = bootstrap(values, means, num_draws=25)

    monkeypatch.setattr(intervals, "MAX_AT_ONCE", 70)

    assert bootstrap(values, means, num_draws=25) == at_once


@pytest.mark.parametrize(("num_values", "num_draws"), [(1, 1_000), (5_000, 1_000), (50_000, 100), (10**8, 20)])
def test_millions_of_galaxies_are_resampled_less_often(num_values: int, num_draws: int) -> None:
    assert num_draws_for(num_values) == num_draws


def test_galaxies_that_count_nowhere_change_no_interval() -> None:
    z_phot, z_spec = draw(50)

    with_gaps = accuracy_intervals(np.append(z_phot, [np.nan, 1.0]), np.append(z_spec, [0.1, np.nan]), num_draws=20)

    assert with_gaps == accuracy_intervals(z_phot, z_spec, num_draws=20)


def test_no_labelled_galaxy_has_no_interval() -> None:
    assert accuracy_intervals(np.ones(2), np.full(2, np.nan)) == {}
