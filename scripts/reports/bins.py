"""Accuracy by brightness and by redshift: where the one number for all galaxies comes from."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from inference.contract import Accuracy
from inference.intervals import Interval, nmad_interval
from inference.metrics import Values, normalised_residuals, redshift_accuracy

R_EDGES = (-math.inf, 15.0, 16.0, 16.5, 17.0, 17.5, 18.0, 19.0, math.inf)
"""Dereddened r [mag]: finer where SDSS's main sample, r < 17.77, has most of its galaxies."""

REDSHIFT_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, math.inf)
"""Spectroscopic redshift."""


class Bin(NamedTuple):
    """Galaxies of one bin."""

    low: float
    """Lower edge, inside."""

    high: float
    """Upper edge, outside."""

    accuracy: Accuracy
    """Of the galaxies in it."""

    nmad: Interval
    """95 % interval of the NMAD under resampling of these galaxies."""


def by_bin(
    values: Values,
    edges: Sequence[float],
    z_phot: Values,
    z_spec: Values,
    sigma: Values | None = None,
    *,
    ratio_95: float = math.nan,
) -> list[Bin]:
    """Return the accuracy in every bin that holds a labelled galaxy.

    Parameters
    ----------
    values : array, shape (N,)
        What is binned: a magnitude or a redshift.
    edges : sequence of float
        Rising; a bin holds its lower edge and not its upper one.
    z_phot, z_spec, sigma, ratio_95
        See `inference.metrics.accuracy_sums`.
    """
    bins = []
    for low, high in pairwise(edges):
        rows = (values >= low) & (values < high)
        width = None if sigma is None else sigma[rows]
        accuracy = redshift_accuracy(z_phot[rows], z_spec[rows], width, ratio_95=ratio_95)
        if accuracy is not None:
            interval = nmad_interval(normalised_residuals(z_phot[rows], z_spec[rows]))
            bins.append(Bin(low, high, accuracy, interval))
    return bins
