"""Fit the Petrosian law of `structure.py` to the real training galaxies. Run as a program."""

import numpy as np
from numpy.typing import NDArray

from scripts.simulation.sdss import load_sources
from scripts.simulation.structure import petrosian_terms

Array = NDArray[np.float64]

NUM_ROUNDS = 50
SMALLEST_RESIDUAL = 1e-3
"""Weights are limited to its inverse [mag]."""


def main() -> None:
    """Print the coefficients of each band."""
    photometry = load_sources().of("train").photometry
    terms = petrosian_terms(photometry.magnitudes)
    for band, difference in zip("ugriz", photometry.petrosian_minus_model.T, strict=True):
        law = median_law(terms, difference)
        scatter = 1.4826 * np.median(np.abs(difference - terms @ law))
        print(f"{band}: {np.round(law, 4).tolist()} scatter {scatter:.3f}")


def median_law(terms: Array, target: Array) -> Array:
    """Fit the median of a target, (N,), linearly in terms, (N, K): failed measurements pull at a mean."""
    root: Array = np.ones(len(target))
    law: Array = np.zeros(terms.shape[1])
    for _ in range(NUM_ROUNDS):
        law = np.asarray(np.linalg.lstsq(terms * root[:, None], target * root, rcond=None)[0], dtype=np.float64)
        # Least squares weighted by the inverse of the residual are least absolute residuals.
        root = np.maximum(np.abs(target - terms @ law), SMALLEST_RESIDUAL) ** -0.5
    return law


if __name__ == "__main__":
    main()
