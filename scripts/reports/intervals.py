"""How far a metric would scatter with another draw of galaxies: seeded bootstrap intervals."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.contract import Accuracy
from inference.metrics import Values, redshift_accuracy

NUM_DRAWS = 1_000
PERCENTILES = (2.5, 97.5)
"""Ends of a 95 % interval."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def resamples(num_rows: int, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield indices of `num_rows` galaxies drawn with replacement; the same seed gives the same draws.

    Two predictors compared on the same draws differ by less than their own intervals suggest.
    """
    generator = np.random.default_rng(seed)
    for _ in range(num_draws):
        yield generator.integers(0, num_rows, num_rows)


def bootstrap(
    z_phot: Values,
    z_spec: Values,
    sigma: Values | None = None,
    *,
    ratio_95: float = math.nan,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % interval of every metric under resampling of the galaxies.

    Parameters
    ----------
    z_phot, z_spec, sigma, ratio_95
        See `inference.metrics.accuracy_sums`.
    num_draws : int
        Resampled sets; 1,000 settle the ends of an interval to about a tenth of its width.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict
        Field of `inference.contract.Accuracy` to its interval; fields that are undefined are absent.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 13.3 (percentile interval).
    """
    known = np.isfinite(z_phot) & np.isfinite(z_spec)
    phot, spec = z_phot[known], z_spec[known]
    width = None if sigma is None else sigma[known]
    drawn = [
        redshift_accuracy(phot[rows], spec[rows], None if width is None else width[rows], ratio_95=ratio_95)
        for rows in resamples(len(spec), num_draws=num_draws, seed=seed)
    ]
    return _percentiles([one for one in drawn if one is not None])


def _percentiles(drawn: list[Accuracy]) -> dict[str, Interval]:
    values = {name: [getattr(one, name) for one in drawn] for name in Accuracy.__struct_fields__}
    known = {name: [value for value in column if value is not None] for name, column in values.items()}
    return {name: Interval(*map(float, np.percentile(column, PERCENTILES))) for name, column in known.items() if column}
