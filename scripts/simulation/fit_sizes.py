"""Fit the size and axis-ratio laws of `structure.py` to real galaxies: `python -m scripts.simulation.fit_sizes CSV`.

The CSV is that of the public repository CurtinIDS/cic-ml-workshop (CC-BY-4.0; Galaxy Zoo: Lintott et al. 2008, 2011;
photometry and sizes: SDSS). It is not part of this project; only the numbers printed here are.
"""

import sys
from pathlib import Path

import numpy as np

from scripts.simulation import sed
from scripts.simulation.cosmology import angular_diameter_distance_mpc, distance_modulus
from scripts.simulation.structure import ARCSEC_PER_RADIAN, quadratic_terms

FLUX_ERROR = 0.03
"""Relative flux error assumed for every band; the file has none."""

LIMITS = {
    **{f"mag_{band}": (10.0, 24.0) for band in "ugriz"},
    "expRad_r": (0.3, 30.0),
    "deVRad_r": (0.3, 29.0),
    "expAB_r": (0.051, 0.999),
    "redshift": (0.01, np.inf),
}
"""Outside of them is no measurement of a galaxy."""


def main(path: Path) -> None:
    """Print the coefficients of the apparent and the physical size law, and of the axis ratio."""
    rows = np.genfromtxt(path, delimiter=",", names=True)
    magnitudes = np.stack([rows[f"mag_{band}"] for band in "ugriz"], axis=1)
    radius, ratio, z = rows["expRad_r"], rows["expAB_r"], rows["redshift"]
    good = are_measured(rows)
    magnitudes, radius, ratio, z = magnitudes[good], radius[good], ratio[good], z[good]
    log_radius = np.log10(radius)
    log_bulge_over_disc = np.log10(rows["deVRad_r"][good] / radius)

    apparent = quadratic_terms(magnitudes[:, 2] - 17, magnitudes[:, 1] - magnitudes[:, 2] - 0.8)
    report("log10 disc radius [arcsec] from r, g-r", apparent, log_radius)

    flux = 10 ** (-0.4 * (magnitudes - 22.5))
    coefficients = sed.fit(z, flux, flux * FLUX_ERROR)
    absolute = 22.5 - 2.5 * np.log10(sed.fluxes(np.zeros(len(z)), coefficients)) - distance_modulus(z)[:, None]
    physical = quadratic_terms(absolute[:, 2] + 21.5, absolute[:, 1] - absolute[:, 2] - 0.65)
    log_kpc = np.log10(radius / ARCSEC_PER_RADIAN * angular_diameter_distance_mpc(z) * 1000)
    report("log10 disc radius [kpc] from M_r, rest g-r", physical, log_kpc)

    median, std = np.median(log_bulge_over_disc), robust_std(log_bulge_over_disc)
    print(f"log10 bulge/disc radius: median {median:.3f} std {std:.3f}")
    report("axis ratio logit from r, g-r", apparent[:, [0, 2]], np.log(ratio / (1 - ratio)))


def are_measured(rows: np.ndarray) -> np.ndarray:
    """Return which rows are measurements of galaxies, neither failures nor limits of the pipeline."""
    within = [(rows[name] > low) & (rows[name] < high) for name, (low, high) in LIMITS.items()]
    measured: np.ndarray = np.all(within, axis=0)
    return measured


def report(name: str, terms: np.ndarray, target: np.ndarray) -> None:
    """Fit `target` linearly in `terms`, with outliers beyond 4 robust sigma left out once, and print the result."""
    keep = np.ones(len(target), dtype=bool)
    for _ in range(2):
        coefficients = np.linalg.lstsq(terms[keep], target[keep], rcond=None)[0]
        residual = target - terms @ coefficients
        keep = np.abs(residual - np.median(residual)) < 4 * robust_std(residual)
    print(f"{name}: {np.round(coefficients, 4).tolist()} scatter {residual[keep].std():.3f} rows {keep.sum()}")


def robust_std(values: np.ndarray) -> float:
    """Estimate the standard deviation from the 16th and 84th percentile."""
    return float(np.subtract(*np.percentile(values, [84, 16])) / 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
