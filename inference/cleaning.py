"""The rules of cleaning, on arrays: what counts as missing, what is filled in, and what is flagged or refused."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.models import shipped
from inference.models.card import ModelCard
from inference.quality import Quality

MAGNITUDE_LIMITS = (10.0, 30.0)
"""Outside lie codes for missing values such as -9999, 0 and 99, and no galaxy of SDSS [mag]."""
MAX_IMPUTED_BANDS = 2
MAX_COLOR_SIGMA = 8.0
MIN_SIGNAL_TO_NOISE = 5.0

SKY = np.float32(0.0)
"""Value of a pixel without galaxy [nanomaggy]: cutouts are sky-subtracted."""
MAX_FILLED_SHARE = 0.05
CENTRE_SHARE = 4
"""The central square, where most of the light is, has a side of the cutout's over this number."""

PLACEHOLDER = 20.0
"""Stands in a rejected galaxy's magnitudes where no mean is known [mag]."""


MAX_PIXEL = np.float32(1e8)
"""Higher pixels are codes too, such as 1e20: nothing of magnitude 2.5 is in one pixel of a galaxy [nanomaggy]."""


class Photometry(NamedTuple):
    """The photometry of the galaxies that a model was trained on.

    The best linear estimate of a missing band from the measured ones follows from mean and covariance. On the 3,033
    test galaxies of the shipped model its robust error is .16 mag in u, .06 in g, .02 in i and .04 in z; the median
    colour's is .50, .21, .06 and .10.
    """

    reference: int
    """Position of the band without which a galaxy is rejected."""

    mean: NDArray[np.float64]
    """Shape (B,) [mag]."""

    covariance: NDArray[np.float64]
    """Shape (B, B) [mag²]."""

    median_colors: NDArray[np.float64]
    """Of each band minus the next, shape (B - 1,) [mag]."""

    color_sigma: NDArray[np.float64]
    """1.4826 times the median absolute deviation of the same [mag]."""


class Limits(NamedTuple):
    """What a model's card says about values that cannot be."""

    min_pixel: np.float32
    """Lower pixels are codes for missing values [nanomaggy]: the noise of an SDSS pixel is below 1."""

    photometry: Photometry | None
    """None where nothing is known of it: then no band is filled in, and no colour is odd."""

    @classmethod
    def of(cls, card: ModelCard) -> "Limits":
        """Take them from a card."""
        known = card.photometry
        if known is None:
            return cls(np.float32(card.min_pixel), None)
        arrays = map(np.array, (known.mean, known.covariance, known.median_colors, known.color_sigma))
        photometry = Photometry(card.inputs.bands.index(known.reference_band), *arrays)
        return cls(np.float32(card.min_pixel), photometry)


@cache
def shipped_limits() -> Limits:
    """Return those of the shipped model: what judges galaxies where no other model is named."""
    return Limits.of(shipped().card)


class Cleaned(NamedTuple):
    """A block of galaxies after cleaning: the same rows in the same order, every value finite."""

    images: NDArray[np.float32]
    """Shape (N, B, H, W) [nanomaggy / pixel]."""

    magnitudes: NDArray[np.float64]
    """Shape (N, B) [mag]."""

    quality: NDArray[np.uint8]
    """Flags of `inference.quality.Quality`, shape (N,). Refused rows hold stand-in values."""


def clean_cutouts(
    images: NDArray[np.float32], magnitudes: NDArray[np.float64], limits: Limits | None = None
) -> Cleaned:
    """Flag, fill or refuse what is wrong with a block; what a worker does before it predicts.

    Parameters
    ----------
    images : array, shape (N, B, H, W), float32
        Sky-subtracted cutouts [nanomaggy / pixel].
    magnitudes : array, shape (N, B), float64
        Magnitudes [mag].
    limits : Limits, optional
        Of the model; `shipped_limits` when absent, here and below.

    Returns
    -------
    Cleaned
        The very arrays that were given where nothing is missing, copies otherwise.
    """
    limits = limits or shipped_limits()
    magnitudes, photometry_flags = fill_bands(magnitudes, limits)
    images, _, pixel_flags = fill_pixels(images, limits)
    quality = photometry_flags | pixel_flags
    quality[has_odd_colors(magnitudes, limits)] |= Quality.COLOR_OUTLIER.value
    return Cleaned(images, magnitudes, quality)


def fill_bands(
    magnitudes: NDArray[np.float64], limits: Limits | None = None
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Estimate at most two missing magnitudes of a galaxy from the others; reject it with more missing.

    A galaxy without the reference band is rejected too, and any with a missing band where `limits` knows no photometry.

    Parameters
    ----------
    magnitudes : array, shape (N, B), float64
        Dereddened magnitudes [mag].

    Returns
    -------
    magnitudes : array, shape (N, B), float64
        All between 10 and 30; the given array when nothing is missing. Refused rows hold the mean galaxy.
    quality : array, shape (N,), uint8
        IMPUTED_BAND and REFUSED.
    """
    quality = np.zeros(len(magnitudes), dtype=np.uint8)
    is_missing = missing_bands(magnitudes)
    if not is_missing.any():
        return magnitudes, quality
    known = (limits or shipped_limits()).photometry
    if known is None:
        quality[is_missing.any(axis=1)] |= (Quality.IMPUTED_BAND | Quality.REFUSED).value
        return np.where(is_missing, PLACEHOLDER, magnitudes), quality
    filled = np.where(is_missing, known.mean, magnitudes)
    is_rejected = is_missing[:, known.reference] | (is_missing.sum(axis=1) > MAX_IMPUTED_BANDS)
    filled[is_rejected] = known.mean
    to_impute = is_missing.any(axis=1) & ~is_rejected
    for missing in np.unique(is_missing[to_impute], axis=0):
        rows = to_impute & (is_missing == missing).all(axis=1)
        filled[np.ix_(rows, missing)] = _estimate(filled[np.ix_(rows, ~missing)], missing, known)
    quality[is_missing.any(axis=1)] |= Quality.IMPUTED_BAND.value
    quality[is_rejected] |= Quality.REFUSED.value
    return filled, quality


def missing_bands(magnitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which magnitudes [mag] are not measurements: NaN, infinite, or outside 10 to 30 as -9999 and 0 are."""
    low, high = MAGNITUDE_LIMITS
    return ~((magnitudes > low) & (magnitudes < high))


def _estimate(measured: NDArray[np.float64], missing: NDArray[np.bool_], known: Photometry) -> NDArray[np.float64]:
    """Conditional mean of the missing bands given the measured ones, of a normal distribution."""
    among_measured = known.covariance[np.ix_(~missing, ~missing)]
    to_missing = known.covariance[np.ix_(~missing, missing)]
    slopes = np.linalg.solve(among_measured, to_missing)
    estimate = known.mean[missing] + (measured - known.mean[~missing]) @ slopes
    clipped: NDArray[np.float64] = np.clip(
        estimate, np.nextafter(MAGNITUDE_LIMITS[0], 30), np.nextafter(MAGNITUDE_LIMITS[1], 10)
    )
    return clipped


def fill_pixels(
    images: NDArray[np.float32], limits: Limits | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
    """Replace missing pixels with sky; reject a galaxy that misses more than 5 % of them, or one of the central ones.

    Missing are pixels that are not finite, below the limit or above 1e8, and all those of a band in which every pixel
    is the same.

    Parameters
    ----------
    images : array, shape (N, B, H, W), float32
        Sky-subtracted cutouts [nanomaggy / pixel].

    Returns
    -------
    images : array, shape (N, B, H, W), float32
        The given array when no pixel is missing.
    num_filled : array, shape (N,), int64
        Pixels replaced in each galaxy.
    quality : array, shape (N,), uint8
        FILLED_PIXELS and REFUSED.
    """
    quality = np.zeros(len(images), dtype=np.uint8)
    num_filled = np.zeros(len(images), dtype=np.int64)
    if not images.size:
        return images, num_filled, quality
    min_pixel = (limits or shipped_limits()).min_pixel
    # Two passes see everything: extremes propagate NaN, show codes and infinities, and agree in a dead band.
    low, high = images.min(axis=(2, 3)), images.max(axis=(2, 3))
    dirty = np.flatnonzero(~((low >= min_pixel) & (high < MAX_PIXEL) & (low < high)).all(axis=1))
    if not len(dirty):
        return images, num_filled, quality
    is_missing = missing_pixels(images[dirty], limits)
    filled = images.copy()
    filled[dirty] = np.where(is_missing, SKY, images[dirty])
    num_filled[dirty] = is_missing.sum(axis=(1, 2, 3))
    quality[dirty] |= Quality.FILLED_PIXELS.value
    is_rejected = num_filled[dirty] > MAX_FILLED_SHARE * is_missing[0].size
    centre = central(images.shape[-1], images.shape[-1] // CENTRE_SHARE)
    is_rejected |= is_missing[:, :, centre, centre].any(axis=(1, 2, 3))
    quality[dirty[is_rejected]] |= Quality.REFUSED.value
    return filled, num_filled, quality


def central(side_px: int, width_px: int) -> slice:
    """Return the rows, or columns, of a central square of so many pixels in a cutout of `side_px`."""
    first = (side_px - width_px) // 2
    return slice(first, first + width_px)


def missing_pixels(images: NDArray[np.float32], limits: Limits | None = None) -> NDArray[np.bool_]:
    """Return which pixels of shape (N, B, H, W) are no measurement, a whole band where it is dead."""
    is_missing: NDArray[np.bool_] = ~((images >= (limits or shipped_limits()).min_pixel) & (images < MAX_PIXEL))
    low = np.where(is_missing, np.inf, images).min(axis=(2, 3), keepdims=True)
    high = np.where(is_missing, -np.inf, images).max(axis=(2, 3), keepdims=True)
    is_missing |= low >= high
    return is_missing


def has_odd_colors(magnitudes: NDArray[np.float64], limits: Limits | None = None) -> NDArray[np.bool_]:
    """Return which galaxies have a colour more than 8 robust sigma from that of the training galaxies.

    Parameters
    ----------
    magnitudes : array, shape (N, B), float64
        Magnitudes [mag].
    limits : Limits, optional
        Of the model.
    """
    known = (limits or shipped_limits()).photometry
    if known is None:
        return np.zeros(len(magnitudes), dtype=np.bool_)
    return are_odd(magnitudes, known.median_colors, known.color_sigma)


def are_odd(
    magnitudes: NDArray[np.float64], median: NDArray[np.float64], sigma: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which galaxies have a colour more than 8 sigma from the median.

    Parameters
    ----------
    magnitudes : array, shape (N, B), float64
        Magnitudes [mag].
    median, sigma : array, shape (B - 1,), float64
        Of each band minus the next [mag].
    """
    offset = np.abs(magnitudes[:, :-1] - magnitudes[:, 1:] - median)
    is_odd: NDArray[np.bool_] = np.any(offset > MAX_COLOR_SIGMA * sigma, axis=1)
    return is_odd


def color_spread(magnitudes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust sigma, 1.4826 times the median absolute deviation, of each colour of a sample [mag]."""
    colors = magnitudes[:, :-1] - magnitudes[:, 1:]
    median = np.median(colors, axis=0)
    return median, 1.4826 * np.median(np.abs(colors - median), axis=0)


def has_low_signal(signal_to_noise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which galaxies are measured worse than 5 to 1 in g, r, i or z; bands of unknown error (NaN) pass."""
    is_low: NDArray[np.bool_] = np.any(signal_to_noise[:, 1:] < MIN_SIGNAL_TO_NOISE, axis=1)
    return is_low


def has_high_extinction(extinction_r: NDArray[np.float64], limit: float | None) -> NDArray[np.bool_]:
    """Return where Galactic extinction in r exceeds a model's limit [mag]; unknown extinction (NaN) passes."""
    return extinction_r > (math.inf if limit is None else limit)


def is_label(redshift: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which spectroscopic redshifts can be one: positive and finite. They are never imputed."""
    usable: NDArray[np.bool_] = (redshift > 0) & np.isfinite(redshift)
    return usable
