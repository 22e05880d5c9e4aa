"""Whether a reduced precision is equivalent to fp32: on the same galaxies, in the units of their errors.

Figures of thousands of galaxies differ by chance, and one galaxy among 38 outliers is 3 %. Both precisions see the same
galaxies, though: what is tested is their difference, by two one-sided tests at 5 % each, that is whether the interval
of 90 % of a paired bootstrap is inside the margins.

References
----------
Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657 (two one-sided tests); Efron & Tibshirani 1993 (bootstrap).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from inference.engines.exported import Difference

MARGINS = {"nmad": 0.01, "bias": 0.01, "outlier_005": 0.001}
"""Largest change of NMAD [of NMAD], of the bias [of NMAD] and of the fraction of outliers."""

LIMITS = {"rms": 0.02, "mean": 0.01, "p999": 0.1, "largest": 0.5, "coverage": 0.003}
"""Largest differences in redshift [sigma], and of the fraction within sigma."""

NUM_RESAMPLES = 400
Array = NDArray[np.float64]


def measure_difference(full: Array, reduced: Array, sigma: Array, z_spec: Array, *, seed: int = 0) -> Difference:
    """Compare two predictions of the same galaxies.

    Parameters
    ----------
    full, reduced : array, shape (N,), float64
        Redshifts in fp32 and in the precision to be judged.
    sigma : array, shape (N,), float64
        Of the redshifts in fp32.
    z_spec : array, shape (N,), float64
        True redshifts.
    seed : int
        Of the bootstrap.
    """
    pull = (reduced - full) / sigma
    before, after = (full - z_spec) / (1 + z_spec), (reduced - z_spec) / (1 + z_spec)
    scale = _nmad(before)
    measures: Mapping[str, Callable[[Array, Array], float]] = {
        "nmad": lambda a, b: _nmad(b) / _nmad(a) - 1,
        "bias": lambda a, b: float(b.mean() - a.mean()) / scale,
        "outlier_005": lambda a, b: float((np.abs(b) > 0.05).mean() - (np.abs(a) > 0.05).mean()),
    }
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(NUM_RESAMPLES):
        rows = rng.integers(0, len(full), len(full))
        for name, measure in measures.items():
            found[name].append(measure(before[rows], after[rows]))
    limits = {name: np.quantile(values, (0.05, 0.95)) for name, values in found.items()}
    covered = [float((np.abs(z - z_spec) <= sigma).mean()) for z in (full, reduced)]
    return Difference(
        num_rows=len(full),
        rms=float(np.sqrt((pull**2).mean())),
        mean=float(pull.mean()),
        p999=float(np.quantile(np.abs(pull), 0.999)),
        largest=float(np.abs(pull).max()),
        coverage=covered[1] - covered[0],
        **{name: (float(low), float(high)) for name, (low, high) in limits.items()},
    )


def why_not_equivalent(differences: Mapping[str, Difference]) -> str:
    """Say which difference is too large, on which galaxies; empty when none is."""
    found = []
    for where, difference in differences.items():
        for name, limit in LIMITS.items():
            value = getattr(difference, name)
            if not abs(value) <= limit:
                found.append(f"{name} {value:+.4f} on {where} galaxies, more than {limit:g}")
        for name, margin in MARGINS.items():
            low, high = getattr(difference, name)
            if not (-margin <= low and high <= margin):
                found.append(f"{name} by {low:+.4f} to {high:+.4f} on {where} galaxies, not within {margin:g}")
    return f"it is not equivalent to fp32: {'; '.join(found)}" if found else ""


def _nmad(dz: Array) -> float:
    return 1.48 * float(np.median(np.abs(dz - np.median(dz))))
