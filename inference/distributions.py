"""p(z) as predictions hold it, and what one reads from it: density, quantiles, mode, odds, scores.

An array of float32, at most 64 bytes per galaxy; its number of columns says which of two forms it has:

12, ``mixture``
    Weights, centres and widths of four Gaussians, cut at redshift 0 (`inference.posterior`).
15, ``quantiles``
    The redshifts at `inference.pz.LEVELS`, of networks that give bins or quantiles of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inference.posterior import NUM_COMPONENTS, NUM_NUMBERS
from inference.pz import LEVELS

Array = NDArray[np.float64]
Stored = NDArray[np.floating]

ODDS_DZ = 0.05
"""Half-width of the interval of `Distributions.odds`, in units of 1 + z: further off is an outlier."""

SUMMARY_QUANTILES = {"z_median": 0.5, "z_l68": 0.16, "z_u68": 0.84, "z_l95": 0.025, "z_u95": 0.975}
"""Names of quantiles in catalogs to their shares."""

MAX_STEPS = 60
"""Halvings would settle a quantile to a double's precision; Newton's steps need about ten."""

TOLERANCE = 1e-9
"""Of a quantile, in redshift."""

ROWS_AT_ONCE = 8_192


class Distributions(ABC):
    """The distributions of redshift of N galaxies, read from what predictions hold; none reaches below 0."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        return type(self)(self._stored[rows])

    def in_parts(self) -> Iterator[tuple[slice, Self]]:
        """Yield some thousand galaxies at a time, with their rows: what is computed of all need not fit the memory."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            yield rows, self[rows]

    def cumulative(self, z: Array) -> Array:
        """Return the probability of a lower redshift, for each galaxy: (N,) or (N, K) to the same.

        At the true redshifts of many galaxies this is the probability integral transform, PIT: evenly spread from 0 to
        1 where the distributions hold what they say.
        """
        return self._each(self._cumulative, z)

    def density(self, z: Array) -> Array:
        """Return the probability per unit of redshift, for each galaxy: (N,) or (N, K) to the same."""
        return self._each(self._density, z)

    @abstractmethod
    def quantiles(self, shares: Sequence[float]) -> Array:
        """Return the redshifts below which these shares of the probability are, (N, len(shares)): .5 is the median."""

    @abstractmethod
    def mean(self) -> Array:
        """Return the expected redshift, (N,)."""

    @abstractmethod
    def mode(self) -> Array:
        """Return the redshift of the highest density, (N,)."""

    @abstractmethod
    def integral_of_square(self) -> Array:
        """Return the integral over the squared density, (N,)."""

    @abstractmethod
    def _cumulative(self, z: Array) -> Array: ...

    @abstractmethod
    def _density(self, z: Array) -> Array: ...

    @abstractmethod
    def _nodes(self) -> Array:
        """Return ascending redshifts, (N, M), between which the cumulative distribution hardly bends."""

    def odds(self, z: Array, half_width_dz: float = ODDS_DZ) -> Array:
        """Return the probability of a redshift within ± half_width_dz · (1 + z) of z, (N,).

        References
        ----------
        Benítez 2000, ApJ 536, 571.
        """
        reach = half_width_dz * (1 + z)
        return self.cumulative(z + reach) - self.cumulative(z - reach)

    def crps(self, z_spec: Array) -> Array:
        """Return the continuous ranked probability score, (N,): the error of a forecast in z; small is good.

        References
        ----------
        Gneiting & Raftery 2007, JASA 102, 359.
        """
        score = np.empty(len(self))
        for rows, part in self.in_parts():
            true = z_spec[rows, None]
            nodes = np.sort(np.concatenate([part._nodes(), true], axis=1))
            middle, half = (nodes[:, 1:] + nodes[:, :-1]) / 2, np.diff(nodes) / 2
            # Below z_spec the perfect forecast has 0, above it 1; no piece holds both. Gauss's two points on each.
            perfect = middle > true
            squares = [(part.cumulative(middle + side * half / np.sqrt(3)) - perfect) ** 2 for side in (-1, 1)]
            score[rows] = (half * sum(squares)).sum(axis=1)
        return score

    def cde_loss(self, z_spec: Array) -> Array:
        """Return each galaxy's part of the loss of conditional density estimation, (N,): low is good, it may be < 0.

        References
        ----------
        Izbicki & Lee 2017, Electronic Journal of Statistics 11, 2800; Schmidt et al. 2020, MNRAS 499, 1587.
        """
        return self.integral_of_square() - 2 * self.density(z_spec)

    def stacked(self, edges: Array) -> Array:
        """Return how many galaxies are expected in each bin of redshift, shape (len(edges) - 1,)."""
        total = np.zeros(len(edges) - 1)
        for _, part in self.in_parts():
            total += np.diff(part.cumulative(np.tile(edges, (len(part), 1)))).sum(axis=0)
        return total

    @staticmethod
    def _each(function: Any, z: Array) -> Array:
        found: Array = function(z[:, None])[:, 0] if z.ndim == 1 else function(z)
        return found


def kind(pz: Stored) -> str:
    """Return which form the `pz` of predictions has: ``mixture`` or ``quantiles``."""
    return "mixture" if pz.shape[1] == NUM_NUMBERS else "quantiles"


def distributions(pz: Stored) -> Distributions:
    """Read the `pz` of predictions, shape (N, 12) or (N, 15), all of it finite."""
    return Mixture(pz) if kind(pz) == "mixture" else Quantiles(pz)


def summary(pz: Stored) -> dict[str, NDArray[np.float32]]:
    """Return what a catalog says of each distribution.

    Parameters
    ----------
    pz : array, shape (N, P)
        Of predictions; NaN where a galaxy was rejected.

    Returns
    -------
    dict
        ``z_mode``, ``z_mean``, `SUMMARY_QUANTILES` and ``odds`` (around the mode) to arrays of shape (N,), float32; NaN
        where rejected.
    """
    names = ("z_mode", "z_mean", *SUMMARY_QUANTILES, "odds")
    found = np.full((len(names), len(pz)), np.nan, np.float32)
    known = np.flatnonzero(np.isfinite(pz).all(axis=1))
    for rows, part in distributions(pz[known]).in_parts():
        mode = part.mode()
        quantiles = part.quantiles(tuple(SUMMARY_QUANTILES.values()))
        found[:, known[rows]] = [mode, part.mean(), *quantiles.T, part.odds(mode)]
    return dict(zip(names, found, strict=True))


# ------------------------------------------------------------------------------------------------- Gaussians


class Mixture(Distributions):
    """Four Gaussians each, cut at redshift 0."""

    @cached_property
    def _centre(self) -> Array:
        return self._stored[:, NUM_COMPONENTS : 2 * NUM_COMPONENTS].astype(np.float64)

    @cached_property
    def _width(self) -> Array:
        return self._stored[:, 2 * NUM_COMPONENTS :].astype(np.float64)

    @cached_property
    def _lost(self) -> Array:
        """Share of each component that the cut takes."""
        return _normal_share(-self._centre / self._width)

    @cached_property
    def _weight(self) -> Array:
        """Weights with which what the cut leaves has the integral 1."""
        weight = self._stored[:, :NUM_COMPONENTS].astype(np.float64)
        scaled: Array = weight / (weight * (1 - self._lost)).sum(axis=1, keepdims=True)
        return scaled

    def quantiles(self, shares: Sequence[float]) -> Array:
        """Solve for each share by Newton's method inside a shrinking interval."""
        wanted = np.asarray(shares, np.float64)
        low = np.maximum((self._centre - 8 * self._width).min(axis=1), 0)[:, None]
        high = (self._centre + 8 * self._width).max(axis=1)[:, None]
        z = np.repeat(self.mean()[:, None], len(wanted), axis=1)
        for _ in range(MAX_STEPS):
            excess = self._cumulative(z) - wanted
            low, high = np.where(excess < 0, z, low), np.where(excess < 0, high, z)
            step = z - excess / np.maximum(self._density(z), 1e-12)
            # A step of Newton that leaves what is known to hold the quantile is replaced by halving.
            new = np.where((step >= low) & (step <= high), step, (low + high) / 2)
            is_settled = (np.abs(new - z) < TOLERANCE).all()
            z = new
            if is_settled:
                break
        return z

    def mean(self) -> Array:
        """Add up the means of what the cut leaves of each component."""
        at_cut = _normal_density(self._centre / self._width) * self._width
        total: Array = (self._weight * (self._centre * (1 - self._lost) + at_cut)).sum(axis=1)
        return total

    def mode(self) -> Array:
        """Climb from the highest of some points by Newton's method."""
        nodes = self._nodes(reach=1.5, num=7)
        rows = np.arange(len(nodes))
        z: Array = nodes[rows, np.argmax(self._density(nodes), axis=1)]
        for _ in range(4):
            offset = (z[:, None] - self._centre) / self._width
            height = self._weight * _normal_density(offset) / self._width
            slope = -(height * offset / self._width).sum(axis=1)
            bend = (height * (offset**2 - 1) / self._width**2).sum(axis=1)
            step = np.where(bend < 0, -slope / np.minimum(bend, -1e-12), 0.0)
            new = np.maximum(z + step, 0.0)
            z = np.where(self.density(new) > self.density(z), new, z)
        return z

    def integral_of_square(self) -> Array:
        """Add up the overlaps of all pairs of components."""
        # The product of two Gaussians is one: its height is that of their difference, and what is above 0 of it counts.
        variance = self._width**2
        total = np.zeros(len(self))
        for i in range(NUM_COMPONENTS):
            for j in range(NUM_COMPONENTS):
                both = np.sqrt(variance[:, i] + variance[:, j])
                height = _normal_density((self._centre[:, i] - self._centre[:, j]) / both) / both
                middle = (self._centre[:, i] * variance[:, j] + self._centre[:, j] * variance[:, i]) / both**2
                above = _normal_share(middle * both / (self._width[:, i] * self._width[:, j]))
                total += self._weight[:, i] * self._weight[:, j] * height * above
        return total

    def _cumulative(self, z: Array) -> Array:
        z = np.maximum(z, 0)
        below = np.zeros(z.shape)
        for weight, centre, width, lost in self._components():
            below += weight * (_normal_share((z - centre) / width) - lost)
        return np.clip(below, 0, 1)

    def _density(self, z: Array) -> Array:
        total = np.zeros(z.shape)
        for weight, centre, width, _ in self._components():
            total += weight * _normal_density((z - centre) / width) / width
        return np.where(z >= 0, total, 0.0)

    def _nodes(self, reach: float = 5.0, num: int = 17) -> Array:
        offsets = np.linspace(-reach, reach, num)
        nodes = (self._centre[:, :, None] + self._width[:, :, None] * offsets).reshape(len(self), -1)
        return np.sort(np.maximum(nodes, 0.0))

    def _components(self) -> Iterator[tuple[Array, Array, Array, Array]]:
        for parts in zip(self._weight.T, self._centre.T, self._width.T, self._lost.T, strict=True):
            weight, centre, width, lost = (part[:, None] for part in parts)
            yield weight, centre, width, lost


def _normal_density(offset: Array) -> Array:
    density: Array = np.exp(-0.5 * offset**2) / np.sqrt(2 * np.pi)
    return density


def _normal_share(offset: Array) -> Array:
    """Share of a normal distribution below an offset in its widths, to 1e-7.

    References
    ----------
    Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 7.1.26.
    """
    x = np.abs(offset) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * x)
    terms = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * terms * np.exp(-(x**2))
    return np.asarray(np.where(offset < 0, tail, 1 - tail))


# ------------------------------------------------------------------------------------------------- quantiles


class Quantiles(Distributions):
    """Redshifts at `LEVELS`, between which the density is even; beyond them it goes on as it is next to them."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored)
        inner = np.maximum.accumulate(stored.astype(np.float64), axis=1)
        first = LEVELS[0] / (LEVELS[1] - LEVELS[0]) * (inner[:, 1] - inner[:, 0])
        last = (1 - LEVELS[-1]) / (LEVELS[-1] - LEVELS[-2]) * (inner[:, -1] - inner[:, -2])
        self.knots = np.column_stack([np.maximum(inner[:, 0] - first, 0), inner, inner[:, -1] + last])
        """Redshifts at `levels`, ascending, shape (N, 17)."""
        self.levels = np.concatenate([[0.0], LEVELS, [1.0]])
        """Shares of the probability, from 0 to 1, shape (17,)."""

    def quantiles(self, shares: Sequence[float]) -> Array:
        """Interpolate between the knots."""
        wanted = np.asarray(shares, np.float64)
        piece = np.maximum(np.searchsorted(self.levels, wanted) - 1, 0)
        inside = (wanted - self.levels[piece]) / np.diff(self.levels)[piece]
        found: Array = self.knots[:, piece] + inside * np.diff(self.knots)[:, piece]
        return found

    def mean(self) -> Array:
        """Weigh the middles of the pieces."""
        middles = (self.knots[:, 1:] + self.knots[:, :-1]) / 2
        total: Array = (middles * np.diff(self.levels)).sum(axis=1)
        return total

    def mode(self) -> Array:
        """Take the middle of the densest piece."""
        rows, peak = np.arange(len(self)), np.argmax(self._heights(), axis=1)
        middle: Array = (self.knots[rows, peak] + self.knots[rows, peak + 1]) / 2
        return middle

    def integral_of_square(self) -> Array:
        """Add up the pieces."""
        total: Array = (self._heights() * np.diff(self.levels)).sum(axis=1)
        return total

    def _heights(self) -> Array:
        """Density of each piece, (N, 16); one without width counts as a millionth of a redshift wide."""
        heights: Array = np.diff(self.levels) / np.maximum(np.diff(self.knots), 1e-6)
        return heights

    def _cumulative(self, z: Array) -> Array:
        share = np.zeros(z.shape)
        for number, (low, high) in enumerate(pairwise(self.levels)):
            start, stop = self.knots[:, number, None], self.knots[:, number + 1, None]
            share += (high - low) * np.clip((z - start) / np.maximum(stop - start, 1e-12), 0, 1)
        return share

    def _density(self, z: Array) -> Array:
        piece = (self.knots[:, None, :] <= z[:, :, None]).sum(axis=2) - 1
        is_inside = (piece >= 0) & (piece <= len(LEVELS))
        height = np.take_along_axis(self._heights(), np.clip(piece, 0, len(LEVELS)), axis=1)
        return np.where(is_inside, height, 0.0)

    def _nodes(self) -> Array:
        return self.knots
