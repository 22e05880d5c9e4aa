"""Intervals repeat from their seed and narrow with more galaxies; bins take every galaxy once."""

import math

import numpy as np
import pytest

from inference.metrics import redshift_accuracy
from scripts.reports.bins import by_bin
from scripts.reports.intervals import bootstrap, resamples


def draw(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts with a Gaussian error of .02 in dz."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.05, 0.3, num_rows)
    return z_spec + 0.02 * (1 + z_spec) * generator.standard_normal(num_rows), z_spec


def test_an_interval_holds_the_metric_and_has_the_width_of_theory() -> None:
    z_phot, z_spec = draw(1_000)

    low, high = bootstrap(z_phot, z_spec, num_draws=300)["bias"]

    accuracy = redshift_accuracy(z_phot, z_spec)
    assert accuracy is not None
    assert low < accuracy.bias < high
    # ± 1.96 standard errors of a mean; 300 draws know the ends to about 10 %.
    assert high - low == pytest.approx(2 * 1.96 * 0.02 / math.sqrt(1_000), rel=0.25)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    z_phot, z_spec = draw(50)

    first, again, other = (bootstrap(z_phot, z_spec, num_draws=20, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first["nmad"] != other["nmad"]


def test_resamples_draw_as_many_galaxies_as_there_are() -> None:
    draws = list(resamples(7, num_draws=3, seed=0))

    assert [len(rows) for rows in draws] == [7, 7, 7]
    assert all(rows.min() >= 0 and rows.max() < 7 for rows in draws)


def test_galaxies_that_count_nowhere_change_no_interval() -> None:
    z_phot, z_spec = draw(50)

    with_gaps = bootstrap(np.append(z_phot, [np.nan, 1.0]), np.append(z_spec, [0.1, np.nan]), num_draws=20)

    assert with_gaps == bootstrap(z_phot, z_spec, num_draws=20)


def test_no_labelled_galaxy_has_no_interval() -> None:
    assert bootstrap(np.ones(2), np.full(2, np.nan)) == {}


def test_bins_hold_their_lower_edge_and_every_galaxy_once() -> None:
    z_spec = np.array([0.1, 0.2, 0.2, 0.3])

    bins = by_bin(z_spec, (0.1, 0.2, 0.25, math.inf), z_spec + 0.01, z_spec)

    assert [(one.low, one.accuracy.num_labelled) for one in bins] == [(0.1, 1), (0.2, 2), (0.25, 1)]


def test_an_empty_bin_is_left_out() -> None:
    z_spec = np.array([0.1, 0.3])

    assert [one.low for one in by_bin(z_spec, (0.0, 0.15, 0.25, 1.0), z_spec, z_spec)] == [0.0, 0.25]


def test_a_bin_has_the_accuracy_of_its_own_galaxies() -> None:
    z_phot, z_spec = draw(200)

    (low, _) = by_bin(z_spec, (0.0, 0.15, 1.0), z_phot, z_spec)

    rows = z_spec < 0.15
    assert low.accuracy == redshift_accuracy(z_phot[rows], z_spec[rows])
    assert low.nmad.low < low.accuracy.nmad < low.nmad.high
