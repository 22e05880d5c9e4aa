"""Accuracy of photometric redshifts as the field defines it, in sums that merge across ranks.

Notation: dz = (z_phot - z_spec) / (1 + z_spec). A galaxy without a spectroscopic redshift has z_spec = NaN and
counts nowhere. Definitions follow Pasquet et al. 2019 (A&A 621, A26, section 4.1) and, for 1.48·MAD as "precision",
Staylor et al. 2025 (arXiv:2501.06249).
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.contract import Accuracy, AccuracySums

Array = NDArray[np.float64]


def normalised_residuals(z_phot: NDArray[np.floating], z_spec: NDArray[np.floating]) -> Array:
    """Return dz of the labelled galaxies.

    Parameters
    ----------
    z_phot : array, shape (N,)
        Predicted redshifts.
    z_spec : array, shape (N,)
        Spectroscopic redshifts; NaN where unknown.

    Returns
    -------
    array, shape (M,), float64
        dz of the M galaxies with a known z_spec, in input order.
    """
    phot, spec = _labelled(z_phot, z_spec)
    residuals: Array = (phot - spec) / (1.0 + spec)
    return residuals


def nmad(dz: Array) -> float:
    """Return the normalised median absolute deviation, 1.48 · median(abs(dz - median(dz))).

    Notes
    -----
    1.48 is the rounded factor of the published "precision"; a Gaussian needs 1.4826.
    """
    return float(1.48 * np.median(np.abs(dz - np.median(dz))))


def pack_residuals(dz: Array) -> bytes:
    """Return residuals as little-endian float32, whose rounding (6e-8 of dz) is far below any error of a redshift."""
    return dz.astype("<f4").tobytes()


def unpack_residuals(parts: Iterable[bytes]) -> Array:
    """Return what `pack_residuals` packed, one part after the other, shape (M,), float64."""
    return np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float64)


def accuracy_sums(z_phot: NDArray[np.floating], z_spec: NDArray[np.floating]) -> AccuracySums:
    """Sum what the accuracy of a set of galaxies is computed from; see `normalised_residuals` for the arguments."""
    phot, spec = _labelled(z_phot, z_spec)
    error = phot - spec
    dz = error / (1.0 + spec)
    return AccuracySums(
        num_labelled=len(spec),
        sum_dz=float(dz.sum()),
        sum_abs_error=float(np.abs(error).sum()),
        sum_squared_error=float((error**2).sum()),
        sum_z_spec=float(spec.sum()),
        sum_squared_z_spec=float((spec**2).sum()),
        num_outliers_005=int((np.abs(dz) > 0.05).sum()),
        num_outliers_015=int((np.abs(dz) > 0.15).sum()),
    )


def add_sums(parts: Iterable[AccuracySums]) -> AccuracySums:
    """Add the sums of disjoint sets of galaxies; the order of the parts does not matter.

    Notes
    -----
    `math.fsum` rounds once, so that the same parts in another order give the same bits.
    """
    parts = list(parts)
    merged = {name: [getattr(part, name) for part in parts] for name in AccuracySums.__struct_fields__}
    totals = {name: sum(values) if name.startswith("num_") else math.fsum(values) for name, values in merged.items()}
    return msgspec.convert(totals, AccuracySums)


def accuracy(sums: AccuracySums, dz: Array) -> Accuracy | None:
    """Turn merged sums into the numbers people compare.

    Parameters
    ----------
    sums : AccuracySums
        Over all labelled galaxies.
    dz : array, shape (M,), float64
        Residuals of the same galaxies in any order; the NMAD is a median and cannot be merged from sums.

    Returns
    -------
    Accuracy or None
        None when no galaxy is labelled.
    """
    count = sums.num_labelled
    assert count == len(dz), f"{count} galaxies in the sums, {len(dz)} residuals"
    if count == 0:
        return None
    mean = sums.sum_z_spec / count
    variance = max(sums.sum_squared_z_spec / count - mean**2, 0.0)
    mse = sums.sum_squared_error / count
    return Accuracy(
        num_labelled=count,
        bias=sums.sum_dz / count,
        nmad=nmad(dz),
        outlier_005=sums.num_outliers_005 / count,
        outlier_015=sums.num_outliers_015 / count,
        mae=sums.sum_abs_error / count,
        mse=mse,
        # Below 1e-12 the variance is rounding of equal redshifts, and the ratio means nothing.
        r2=1.0 - mse / variance if variance > 1e-12 else None,
        std_z_spec=math.sqrt(variance),
    )


def redshift_accuracy(z_phot: NDArray[np.floating], z_spec: NDArray[np.floating]) -> Accuracy | None:
    """Return the accuracy of one set of galaxies; see `normalised_residuals` for the arguments."""
    return accuracy(accuracy_sums(z_phot, z_spec), normalised_residuals(z_phot, z_spec))


def _labelled(z_phot: NDArray[np.floating], z_spec: NDArray[np.floating]) -> tuple[Array, Array]:
    known = np.isfinite(z_spec)
    return np.asarray(z_phot, dtype=np.float64)[known], np.asarray(z_spec, dtype=np.float64)[known]
