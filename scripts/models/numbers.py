"""How good redshifts are, as a model's card holds it."""

import math
from collections.abc import Mapping

from inference.contract import Accuracy
from inference.intervals import Interval, accuracy_intervals
from inference.metrics import Values, redshift_accuracy
from inference.models.card import Measured


def number_of(
    z_phot: Values,
    z_spec: Values,
    rows: str,
    method: str = "",
    *,
    sigma: Values | None = None,
    ratio_95: float = math.nan,
) -> Measured:
    """Measure redshifts, (N,), against spectroscopic ones, with 95 % intervals.

    Parameters
    ----------
    z_phot, z_spec : array, shape (N,)
    rows : str
        Which galaxies these are.
    method : str
        Name of a control; empty for the model itself.
    sigma : array, shape (N,), optional
        Of the redshifts.
    ratio_95 : float
        Half of the 95 % interval over sigma.
    """
    accuracy = redshift_accuracy(z_phot, z_spec, sigma, ratio_95=ratio_95)
    assert accuracy is not None, "galaxies to measure on have redshifts"
    return number_from(accuracy, rows, method, accuracy_intervals(z_phot, z_spec))


def number_from(
    accuracy: Accuracy, rows: str, method: str = "", intervals: Mapping[str, Interval] | None = None
) -> Measured:
    """Return an accuracy as a card holds it."""
    nmad, r2 = ((intervals or {}).get(name) for name in ("nmad", "r2"))
    return Measured(
        method=method,
        rows=rows,
        num_rows=accuracy.num_labelled,
        nmad=accuracy.nmad,
        nmad_95=nmad and (nmad.low, nmad.high),
        bias=accuracy.bias,
        outlier_005=accuracy.outlier_005,
        outlier_015=accuracy.outlier_015,
        r2=accuracy.r2,
        r2_95=r2 and (r2.low, r2.high),
        coverage_68=accuracy.coverage_68,
        coverage_95=accuracy.coverage_95,
    )
