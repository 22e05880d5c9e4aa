"""How good distributions of redshift are, as the field defines it: PIT and its distance from evenness, CRPS, CDE loss.

The PIT of a galaxy is the probability that its p(z) gives to redshifts below the spectroscopic one.
"""

import numpy as np
from numpy.typing import NDArray

from inference.contract import PzAccuracy
from inference.distributions import Array, Distributions, distributions

NUM_PIT_BINS = 20
AD_RANGE = (0.01, 0.99)
"""Range of the PIT that counts for `anderson_darling`: a single galaxy at 0 or 1 would make it infinite."""

LIMITS_68, LIMITS_95 = (0.16, 0.84), (0.025, 0.975)
"""PIT between which a galaxy is inside its central interval."""


def pz_accuracy(pz: NDArray[np.floating] | None, z_spec: Array) -> PzAccuracy | None:
    """Compare distributions with spectroscopic redshifts.

    Parameters
    ----------
    pz : array, shape (N, P), or None
        Of predictions; None where none is known.
    z_spec : array, shape (N,)
        NaN where unknown.

    Returns
    -------
    PzAccuracy or None
        None where no galaxy has both.
    """
    pair = labelled(pz, z_spec)
    if pair is None:
        return None
    found, true = pair
    transform = pit(found, true)
    return PzAccuracy(
        num_galaxies=len(true),
        ks=kolmogorov_smirnov(transform),
        cvm=cramer_von_mises(transform),
        ad=anderson_darling(transform),
        crps=float(found.crps(true).mean()),
        cde_loss=sum(float(part.cde_loss(true[rows]).sum()) for rows, part in found.in_parts()) / len(true),
        coverage_68=share_inside(transform, LIMITS_68),
        coverage_95=share_inside(transform, LIMITS_95),
        pit_counts=pit_counts(transform),
    )


def labelled(pz: NDArray[np.floating] | None, z_spec: Array) -> tuple[Distributions, Array] | None:
    """Return the distributions of the galaxies with a spectroscopic redshift, and these; None where there are none."""
    known = np.isfinite(z_spec) & (False if pz is None else np.isfinite(pz).all(axis=1))
    return None if pz is None or not known.any() else (distributions(pz[known]), z_spec[known])


def pit(found: Distributions, z_spec: Array) -> Array:
    """Return the probability integral transform of each galaxy, (N,).

    References
    ----------
    Polsterer et al. 2016, arXiv:1608.08016; Schmidt et al. 2020, MNRAS 499, 1587.
    """
    return np.concatenate([part.cumulative(z_spec[rows]) for rows, part in found.in_parts()] or [np.empty(0)])


def pit_counts(transform: Array) -> tuple[int, ...]:
    """Return the galaxies in each of `NUM_PIT_BINS` equal bins of the PIT."""
    return tuple(np.histogram(transform, NUM_PIT_BINS, (0, 1))[0].tolist())


def share_inside(transform: Array, limits: tuple[float, float]) -> float:
    """Return the share of galaxies inside their central interval."""
    return float(((transform >= limits[0]) & (transform <= limits[1])).mean())


# ------------------------------------------------------------- one number for the distance of a PIT from evenness


def kolmogorov_smirnov(transform: Array) -> float:
    """Return the largest distance between the cumulative distribution of a PIT, (N,), and that of an even one."""
    ordered = np.sort(transform)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(ordered - steps[1:]).max(), np.abs(ordered - steps[:-1]).max()))


def cramer_von_mises(transform: Array) -> float:
    """Return N times the integral over the squared distance of the same two.

    References
    ----------
    Stephens 1974, JASA 69, 730.
    """
    ordered, num = np.sort(transform), len(transform)
    return float(1 / (12 * num) + ((ordered - (np.arange(num) + 0.5) / num) ** 2).sum())


def anderson_darling(transform: Array, limits: tuple[float, float] = AD_RANGE) -> float:
    """Return N times the integral over the squared distance divided by u (1 - u), u from one limit to the other.

    References
    ----------
    Schmidt et al. 2020, MNRAS 499, 1587, which leaves out both ends likewise.
    """
    low, high = limits
    inner = np.sort(transform[(transform > low) & (transform < high)])
    share = ((transform <= low).sum() + np.arange(len(inner) + 1)) / len(transform)
    ends = np.concatenate([[low], inner, [high]])

    def integral(u: Array) -> Array:
        """Of (share - u)² / (u (1 - u)), with the share of the piece."""
        return np.asarray(share**2 * np.log(u) - (1 - share) ** 2 * np.log1p(-u) - u)

    return float(len(transform) * (integral(ends[1:]) - integral(ends[:-1])).sum())
