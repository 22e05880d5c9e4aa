"""How far a number would scatter with another draw of galaxies or runs: the seeded percentile bootstrap."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.contract import Accuracy, AccuracySums
from inference.metrics import (
    NMAD_FACTOR,
    Array,
    Spread,
    Values,
    accuracy_from,
    accuracy_terms,
    normalised_residuals,
)

NUM_DRAWS = 1_000
"""Resampled sets; they settle the ends of an interval to about a tenth of its width."""

MAX_RESAMPLED, MIN_DRAWS = 5_000_000, 20
"""Values drawn over all resamples, and how many there are at least: intervals of millions are narrow anyway."""

MAX_AT_ONCE = 1_000_000
PERCENTILES = (2.5, 97.5)
"""Ends of a 95 % interval."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def num_draws_for(num_values: int) -> int:
    """Return how many resamples of so many values are drawn by default."""
    return min(NUM_DRAWS, max(MIN_DRAWS, MAX_RESAMPLED // num_values))


def bootstrap(
    values: Values, statistic: Callable[[Array], Array], *, num_draws: int | None = None, seed: int = 0
) -> Interval:
    """Return the 95 % interval of a statistic under resampling of its values.

    Parameters
    ----------
    values : array, shape (N,)
        N >= 1 independent values: residuals of galaxies, times of repeated runs. An interval of fewer than five runs
        means little: even smallest and largest of five hold the median with 94 % only.
    statistic : callable
        From D resampled sets, shape (D, N), to its D values, such as ``lambda sets: np.median(sets, axis=-1)``.
    num_draws : int, optional
        Resampled sets; `num_draws_for` of N when absent.
    seed : int
        Of the draws; the same seed resamples equally many values equally.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 13.3 (percentile interval).
    """
    given = np.asarray(values, np.float64)
    drawn = [statistic(given[rows]) for rows in _resamples(len(given), num_draws, seed)]
    return _interval(np.concatenate(drawn))


def nmad_interval(dz: Array, *, num_draws: int | None = None, seed: int = 0) -> Interval:
    """Return the 95 % interval of the NMAD of residuals, the same as `accuracy_intervals` has for these galaxies."""
    return bootstrap(dz, nmads, num_draws=num_draws, seed=seed)


def nmads(sets: Array) -> Array:
    """Return the NMAD of each set of residuals, shape (..., N), shape (...)."""
    return NMAD_FACTOR * _medians(sets)[1]


def accuracy_intervals(
    z_phot: Values,
    z_spec: Values,
    sigma: Values | None = None,
    *,
    ratio_95: float = math.nan,
    num_draws: int | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % interval of every metric under resampling of the galaxies.

    Parameters
    ----------
    z_phot, z_spec, sigma, ratio_95
        See `inference.metrics.accuracy_sums`.
    num_draws, seed
        See `bootstrap`.

    Returns
    -------
    dict
        Field of `inference.contract.Accuracy` to its interval; fields that are undefined are absent.
    """
    terms = dict(accuracy_terms(z_phot, z_spec, sigma, ratio_95=ratio_95))
    dz = normalised_residuals(z_phot, z_spec)
    if not len(dz):
        return {}
    drawn = [one for sets in _resamples(len(dz), num_draws, seed) for one in _accuracies(terms, dz, sets)]
    values = {name: [getattr(one, name) for one in drawn] for name in Accuracy.__struct_fields__}
    defined = {name: [value for value in column if value is not None] for name, column in values.items()}
    return {name: _interval(np.array(column)) for name, column in defined.items() if column}


def _accuracies(
    terms: Mapping[str, NDArray[np.float64 | np.bool_]], dz: Array, sets: NDArray[np.int64]
) -> Iterator[Accuracy]:
    """Yield the accuracy of each set of galaxies, (D, N): one call of numpy for all costs what one for each would."""
    blank: dict[str, list[Any]] = {"num_within_95": [None] * len(sets)}
    sums = blank | {name: term[sets].sum(axis=-1).tolist() for name, term in terms.items()}
    residuals = dz[sets]
    low, high = np.quantile(residuals, (0.25, 0.75), axis=-1)
    median, deviation = _medians(residuals)
    spreads = map(Spread, median.tolist(), deviation.tolist(), (high - low).tolist())
    for spread, *of_set in zip(spreads, *sums.values(), strict=True):
        yield accuracy_from(AccuracySums(**dict(zip(sums, of_set, strict=True))), spread)


def _medians(sets: Array) -> tuple[Array, Array]:
    """Return of each set, shape (..., N), the median and the median distance from it, both of shape (...)."""
    median = np.asarray(np.median(sets, axis=-1))
    return median, np.asarray(np.median(np.abs(sets - median[..., None]), axis=-1))


def _resamples(num_values: int, num_draws: int | None, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield indices drawn with replacement, shape (D, N), in pieces that fit the memory; D add up to `num_draws`."""
    num_draws = num_draws_for(num_values) if num_draws is None else num_draws
    generator = np.random.default_rng(seed)
    at_once = max(1, MAX_AT_ONCE // num_values)
    for first in range(0, num_draws, at_once):
        yield generator.integers(0, num_values, (min(at_once, num_draws - first), num_values))


def _interval(drawn: Array) -> Interval:
    low, high = np.percentile(drawn, PERCENTILES)
    return Interval(float(low), float(high))
