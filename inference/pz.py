"""What a network gives, as a photometric redshift with its sigma and its p(z): quantiles, where it gives bins or those.

A network that gives a redshift alone gets its p(z) from `inference.posterior`; both are read by
`inference.distributions`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.models.card import BinnedPz, Output, Quantiles, Redshift

LEVELS = np.array([0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995])
"""Shares of the probability below the stored redshifts: the limits of 68 and 95 % are among them."""

LOW_68, MEDIAN, HIGH_68 = 4, 7, 10
"""Positions in `LEVELS`."""

Float32 = NDArray[np.float32]


class Answer(NamedTuple):
    """What a network says of N galaxies."""

    z_phot: Float32
    """Shape (N,)."""

    sigma: Float32 | None
    """Half the interval that holds 68 % of the probability, shape (N,); None where the network gives redshifts only."""

    pz: Float32 | None
    """Redshifts at `LEVELS`, shape (N, 15); None as above."""


def num_values(output: Output) -> int:
    """Return how many numbers per galaxy a network with this output gives."""
    return 1 if isinstance(output, Redshift) else output.num_values


def answer(output: Output, values: Float32) -> Answer:
    """Read what a network gave.

    Parameters
    ----------
    output : Output
        What its card says it gives.
    values : array, shape (N,) or (N, K), float32
        What it gave, finite.

    Returns
    -------
    Answer
        Each galaxy's depends on its own row alone, bit by bit.
    """
    if isinstance(output, Redshift):
        return Answer(values, None, None)
    quantiles = _of_bins(output, values) if isinstance(output, BinnedPz) else _of_quantiles(output, values)
    sigma = (quantiles[:, HIGH_68] - quantiles[:, LOW_68]) / 2
    is_mode = isinstance(output, BinnedPz) and output.point == "mode"
    z_phot = _mode(output, values) if is_mode else quantiles[:, MEDIAN]  # type: ignore[arg-type]
    return Answer(*(np.ascontiguousarray(part, dtype=np.float32) for part in (z_phot, sigma, quantiles)))


def _of_bins(output: BinnedPz, values: Float32) -> NDArray[np.float64]:
    """Interpolate the levels in the cumulative distribution, which is linear inside a bin: (N, K) to (N, 15)."""
    edges = np.array(output.all_edges)
    below = np.cumsum(_probability(output, values), axis=1)
    below /= below[:, -1:]
    found = np.empty((len(values), len(LEVELS)))
    for position, level in enumerate(LEVELS):
        # The bin in which the level is reached; rounding may leave the last one at just below 1.
        upper = np.minimum((below < level).sum(axis=1), below.shape[1] - 1)
        rows = np.arange(len(values))
        high = below[rows, upper]
        low = np.where(upper > 0, below[rows, upper - 1], 0.0)
        share = np.clip((level - low) / np.maximum(high - low, 1e-300), 0.0, 1.0)
        found[:, position] = edges[upper] + share * (edges[upper + 1] - edges[upper])
    return found


def _probability(output: BinnedPz, values: Float32) -> NDArray[np.float64]:
    """Return the probability of each bin, not yet of sum 1: (N, K); where all are 0, every bin is as likely."""
    wide = values.astype(np.float64)
    if output.values == "logit":
        likely: NDArray[np.float64] = np.exp(wide - wide.max(axis=1, keepdims=True))
        return likely
    positive = np.maximum(wide, 0.0)
    positive[positive.sum(axis=1) <= 0] = 1.0
    return positive


def _mode(output: BinnedPz, values: Float32) -> NDArray[np.float64]:
    """Return the middle of the bin where the density is highest."""
    edges = np.array(output.all_edges)
    peak = np.argmax(_probability(output, values) / np.diff(edges), axis=1)
    middle: NDArray[np.float64] = (edges[peak] + edges[peak + 1]) / 2
    return middle


def _of_quantiles(output: Quantiles, values: Float32) -> NDArray[np.float64]:
    """Interpolate the levels between those that the network gives, beyond which its outermost stand: to (N, 15)."""
    # Networks may let quantiles cross.
    ordered = np.sort(values.astype(np.float64))
    levels = np.array(output.levels)
    upper = np.clip(np.searchsorted(levels, LEVELS), 1, len(levels) - 1)
    share = np.clip((LEVELS - levels[upper - 1]) / (levels[upper] - levels[upper - 1]), 0.0, 1.0)
    found: NDArray[np.float64] = ordered[:, upper - 1] + share * (ordered[:, upper] - ordered[:, upper - 1])
    return found
