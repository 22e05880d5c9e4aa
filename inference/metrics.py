"""Accuracy of photometric redshifts as the field defines it, in sums that merge across ranks.

Notation: dz = (z_phot - z_spec) / (1 + z_spec). A galaxy without a spectroscopic redshift has z_spec = NaN, one whose
photometry was rejected has z_phot = NaN; neither counts anywhere.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.contract import Accuracy, AccuracySums

Array = NDArray[np.float64]
Values = NDArray[np.floating]


NMAD_FACTOR = 1.48


def normalised_residuals(z_phot: Values, z_spec: Values) -> Array:
    """Return dz of the labelled galaxies.

    Parameters
    ----------
    z_phot : array, shape (N,)
        Predicted redshifts; NaN where refused.
    z_spec : array, shape (N,)
        Spectroscopic redshifts; NaN where unknown.

    Returns
    -------
    array, shape (M,), float64
        dz of the M galaxies with both, in input order.
    """
    known = _labelled(z_phot, z_spec)
    residuals: Array = (_double(z_phot)[known] - _double(z_spec)[known]) / (1.0 + _double(z_spec)[known])
    return residuals


# ------------------------------------------------------------------------------- one number for an array of dz


def bias(dz: Array) -> float:
    """Return the mean of dz.

    References
    ----------
    Pasquet et al. 2019, A&A 621, A26, section 4.1.
    """
    return float(np.mean(dz))


def nmad(dz: "Array | Residuals") -> float:
    """Return the normalised median absolute deviation, 1.48 · median(abs(dz - median(dz))).

    References
    ----------
    Brammer et al. 2008, ApJ 686, 1503, equation 5. With dz, and as "precision": Staylor et al. 2025, arXiv:2501.06249.
    """
    return NMAD_FACTOR * Residuals.all_of(dz).deviations().quantile(0.5)


def outlier_fraction(dz: Array, limit: float) -> float:
    """Return the share of galaxies with abs(dz) > `limit`.

    References
    ----------
    0.05: Pasquet et al. 2019, A&A 621, A26, section 4.1. 0.15: Hildebrandt et al. 2010, A&A 523, A31.
    """
    return float(np.mean(np.abs(dz) > limit))


# ------------------------------------------------------------------------------------------------------ merging


RESIDUAL_BYTES = 4
"""One packed residual [bytes]."""


def pack_residuals(dz: Array) -> bytes:
    """Return residuals as little-endian float32, whose rounding (6e-8 of dz) is far below any error of a redshift."""
    return dz.astype("<f4").tobytes()


BIN = 1e-5
"""Width to which residuals are rounded where there are too many to keep: a thousandth of a typical NMAD."""

RESIDUAL_LIMIT = 1e4
"""Larger ones are counted as this: no redshift is so wrong."""


@dataclass(frozen=True)
class Residuals:
    """Residuals of any number of galaxies: each by itself, or how many there are of each, rounded to `BIN`."""

    dz: Array
    """In ascending order where they are counted, in any order else."""

    counts: NDArray[np.int64] | None = None
    """Galaxies of each; None where each is one."""

    def __len__(self) -> int:
        return len(self.dz) if self.counts is None else int(self.counts.sum())

    @classmethod
    def all_of(cls, dz: "Array | Residuals") -> "Residuals":
        """Return residuals as they are, those of an array each by itself."""
        return dz if isinstance(dz, Residuals) else cls(dz)

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> "Residuals":
        """Return what `pack_residuals` packed, one part after the other."""
        return cls(unpack_residuals(parts))

    @classmethod
    def join(cls, parts: Sequence["Residuals"]) -> "Residuals":
        """Return the residuals of disjoint sets of galaxies together."""
        if all(one.counts is None for one in parts):
            return cls(np.concatenate([one.dz for one in parts]))
        counted = [one.counted() for one in parts]
        return cls._added(np.concatenate([one.dz for one in counted]), np.concatenate([one._counts for one in counted]))

    def within(self, most: int) -> "Residuals":
        """Return them as they are, or counted where there are more than `most`."""
        return self if self.counts is not None or len(self) <= most else self.counted()

    def counted(self) -> "Residuals":
        """Return them counted: memory no longer grows with the galaxies."""
        if self.counts is not None:
            return self
        dz = np.nan_to_num(np.clip(self.dz, -RESIDUAL_LIMIT, RESIDUAL_LIMIT))
        bins, counts = np.unique(np.rint(dz / BIN).astype(np.int64), return_counts=True)
        return Residuals(_centres(bins), counts.astype(np.int64))

    def quantile(self, share: float) -> float:
        """Return a quantile; of counted ones the residual at that place, not between two."""
        if self.counts is None:
            return float(np.median(self.dz) if share == 0.5 else np.quantile(self.dz, share))
        place = int(share * (len(self) - 1) + 0.5)
        return float(self.dz[np.searchsorted(np.cumsum(self.counts), place, side="right")])

    def deviations(self, median: float | None = None) -> "Residuals":
        """Return how far each is from their median, given where it is known."""
        distance = np.abs(self.dz - (self.quantile(0.5) if median is None else median))
        return Residuals(distance) if self.counts is None else self._added(distance, self.counts)

    @property
    def _counts(self) -> NDArray[np.int64]:
        assert self.counts is not None, "of counted ones"
        return self.counts

    @classmethod
    def _added(cls, dz: Array, counts: NDArray[np.int64]) -> "Residuals":
        bins, inverse = np.unique(np.rint(dz / BIN).astype(np.int64), return_inverse=True)
        return cls(_centres(bins), np.bincount(inverse, weights=counts).astype(np.int64))


class Spread(NamedTuple):
    """What the robust metrics of a set of residuals are computed from."""

    median: float
    deviation: float
    """The median of abs(dz - median)."""

    quartiles: float
    """From the first to the third."""

    @classmethod
    def of(cls, dz: Array | Residuals) -> "Spread":
        """Return the spread of one set of residuals, M >= 1."""
        found = Residuals.all_of(dz)
        low, median, high = (found.quantile(share) for share in (0.25, 0.5, 0.75))
        return cls(median, found.deviations(median).quantile(0.5), high - low)

    @property
    def bias(self) -> float:
        """The median of dz: the bias without its outliers.

        References
        ----------
        Schmidt et al. 2020, MNRAS 499, 1587, appendix B.
        """
        return self.median

    @property
    def nmad(self) -> float:
        """See `nmad`."""
        return NMAD_FACTOR * self.deviation

    @property
    def sigma_mad(self) -> float:
        """1.4826 · median(abs(dz - median(dz))): the NMAD with the unrounded factor of a Gaussian.

        References
        ----------
        Pasquet et al. 2019, A&A 621, A26, section 4.1.
        """
        return 1.4826 * self.deviation

    @property
    def sigma_iqr(self) -> float:
        """The interquartile range over 1.349, the width of a Gaussian with the same quartiles.

        References
        ----------
        Schmidt et al. 2020, MNRAS 499, 1587, appendix B.
        """
        return self.quartiles / 1.349


def _centres(bins: NDArray[np.int64]) -> Array:
    return np.asarray(bins * BIN, dtype=np.float64)


def unpack_residuals(parts: Iterable[bytes]) -> Array:
    """Return what `pack_residuals` packed, one part after the other, shape (M,), float64."""
    return np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float64)


def accuracy_sums(
    z_phot: Values, z_spec: Values, sigma: Values | None = None, *, ratio_95: float = math.nan
) -> AccuracySums:
    """Sum what the accuracy of a set of galaxies is computed from.

    Parameters
    ----------
    z_phot, z_spec : array, shape (N,)
        See `normalised_residuals`.
    sigma : array, shape (N,), optional
        Half-width of the interval that is to hold 68 % of the galaxies; NaN where unknown.
    ratio_95 : float
        Half-width of the 95 % interval in units of sigma; NaN where it is not known.
    """
    terms = accuracy_terms(z_phot, z_spec, sigma, ratio_95=ratio_95)
    sums: dict[str, Any] = {name: term.sum().item() for name, term in terms}
    return AccuracySums(**{"num_within_95": None} | sums)


def accuracy_terms(
    z_phot: Values, z_spec: Values, sigma: Values | None = None, *, ratio_95: float = math.nan
) -> Iterator[tuple[str, NDArray[np.float64 | np.bool_]]]:
    """Yield what each of the M labelled galaxies adds to the sums, shape (M,), by the name of the sum.

    See `accuracy_sums` for the arguments.
    """
    known = _labelled(z_phot, z_spec)
    phot, spec = _double(z_phot)[known], _double(z_spec)[known]
    error = phot - spec
    yield "num_labelled", np.ones(len(spec), np.bool_)
    yield "sum_z_spec", spec
    yield "sum_squared_z_spec", spec**2
    yield "sum_squared_error", error**2
    dz = error / (1.0 + spec)
    yield "sum_dz", dz
    yield "num_outliers_005", np.abs(dz) > 0.05
    yield "num_outliers_015", np.abs(dz) > 0.15
    distance = np.abs(error)
    yield "sum_abs_error", distance
    width = np.full(len(spec), np.nan) if sigma is None else _double(sigma)[known]
    yield "num_with_sigma", np.isfinite(width)
    yield "num_within_68", distance <= width
    if not math.isnan(ratio_95):
        yield "num_within_95", distance <= ratio_95 * width


def add_sums(parts: Iterable[AccuracySums]) -> AccuracySums:
    """Add the sums of disjoint sets of galaxies; the order of the parts does not matter.

    Notes
    -----
    `math.fsum` rounds once, so that the same parts in another order give the same bits.
    """
    parts = list(parts)
    merged = {name: [getattr(part, name) for part in parts] for name in AccuracySums.__struct_fields__}
    return msgspec.convert({name: _total(name, values) for name, values in merged.items()}, AccuracySums)


def _total(name: str, values: list[Any]) -> float | None:
    if None in values:
        return None
    return sum(values) if name.startswith("num_") else math.fsum(values)


def accuracy(sums: AccuracySums, dz: Array | Residuals) -> Accuracy | None:
    """Turn merged sums into the numbers people compare.

    Parameters
    ----------
    sums : AccuracySums
        Over all labelled galaxies.
    dz : Residuals, or array, shape (M,), float64
        Residuals of the same galaxies in any order; the NMAD is a median and cannot be merged from sums.

    Returns
    -------
    Accuracy or None
        None when no galaxy is labelled.
    """
    assert sums.num_labelled == len(dz), f"{sums.num_labelled} galaxies in the sums, {len(dz)} residuals"
    return accuracy_from(sums, Spread.of(dz)) if sums.num_labelled else None


def accuracy_from(sums: AccuracySums, spread: Spread) -> Accuracy:
    """Return the accuracy of one labelled galaxy or more."""
    count, with_sigma = sums.num_labelled, sums.num_with_sigma
    mean = sums.sum_z_spec / count
    variance = max(sums.sum_squared_z_spec / count - mean**2, 0.0)
    mse = sums.sum_squared_error / count
    return Accuracy(
        num_labelled=count,
        bias=sums.sum_dz / count,
        bias_median=spread.bias,
        nmad=spread.nmad,
        sigma_mad=spread.sigma_mad,
        sigma_iqr=spread.sigma_iqr,
        outlier_005=sums.num_outliers_005 / count,
        outlier_015=sums.num_outliers_015 / count,
        mae=sums.sum_abs_error / count,
        mse=mse,
        # Below 1e-12 the variance is rounding of equal redshifts, and the ratio means nothing.
        r2=1.0 - mse / variance if variance > 1e-12 else None,
        std_z_spec=math.sqrt(variance),
        coverage_68=sums.num_within_68 / with_sigma if with_sigma else None,
        coverage_95=None if sums.num_within_95 is None or not with_sigma else sums.num_within_95 / with_sigma,
    )


def redshift_accuracy(
    z_phot: Values, z_spec: Values, sigma: Values | None = None, *, ratio_95: float = math.nan
) -> Accuracy | None:
    """Return the accuracy of one set of galaxies; see `accuracy_sums` for the arguments."""
    sums = accuracy_sums(z_phot, z_spec, sigma, ratio_95=ratio_95)
    return accuracy(sums, normalised_residuals(z_phot, z_spec))


def _labelled(z_phot: Values, z_spec: Values) -> NDArray[np.bool_]:
    return np.isfinite(z_phot) & np.isfinite(z_spec)


def _double(values: Values) -> Array:
    return np.asarray(values, dtype=np.float64)
