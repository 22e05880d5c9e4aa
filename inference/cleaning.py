"""The rules of cleaning, on arrays: what counts as missing, what is filled in, and what is flagged or refused."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.quality import Quality

MAGNITUDE_LIMITS = (10.0, 30.0)
"""Values outside are codes for missing values, such as -9999, 0 and 99; no SDSS galaxy is out there [mag]."""
R_BAND = 2
MAX_IMPUTED_BANDS = 2

MEAN_MAGNITUDES = np.array([19.18262, 17.47079, 16.56288, 16.13603, 15.83229])
MAGNITUDE_COVARIANCE = np.array(
    [
        [1.243698, 1.014809, 0.809102, 0.760685, 0.722005],
        [1.014809, 0.903434, 0.758810, 0.722772, 0.698886],
        [0.809102, 0.758810, 0.670266, 0.646120, 0.632847],
        [0.760685, 0.722772, 0.646120, 0.626266, 0.615625],
        [0.722005, 0.698886, 0.632847, 0.615625, 0.609321],
    ]
)
"""Of the 6,197 real training galaxies (`scripts/simulation/sdss.py`), dereddened u, g, r, i, z [mag].

The best linear estimate of a missing band from the measured ones follows from them. On the 3,033 galaxies of the test
set its robust error is .16 mag in u, .06 in g, .02 in i and .04 in z; the median colour's is .50, .21, .06 and .10.
"""

MEDIAN_COLORS = np.array([1.7815, 0.8972, 0.4261, 0.3125])
COLOR_SIGMA = np.array([0.2752, 0.2000, 0.0535, 0.0510])
"""u-g, g-r, r-i, i-z of the same galaxies, and 1.4826 times their median absolute deviation [mag]."""
MAX_COLOR_SIGMA = 8.0
MIN_SIGNAL_TO_NOISE = 5.0
MAX_EXTINCTION_R = 0.5

SKY = np.float32(0.0)
"""Value of a pixel without galaxy [nanomaggy]: cutouts are sky-subtracted."""
MIN_PIXEL = np.float32(-1000.0)
"""Lower ones are codes for missing values [nanomaggy]: the noise of an SDSS pixel is below 1."""
MAX_FILLED_SHARE = 0.05
CENTRE = slice(12, 20)
"""Rows and columns of the central 8 by 8 pixels, where most of the light is."""


class Cleaned(NamedTuple):
    """A block of galaxies after cleaning: the same rows in the same order, every value finite."""

    images: NDArray[np.float32]
    """Shape (N, 5, 32, 32) [nanomaggy / pixel]."""

    magnitudes: NDArray[np.float64]
    """Shape (N, 5) [mag]."""

    quality: NDArray[np.uint8]
    """Flags of `inference.quality.Quality`, shape (N,). Refused rows hold stand-in values."""


def clean_cutouts(images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> Cleaned:
    """Flag, fill or refuse what is wrong with a block; what a worker does before it predicts.

    Parameters
    ----------
    images : array, shape (N, 5, 32, 32), float32
        Sky-subtracted cutouts [nanomaggy / pixel].
    magnitudes : array, shape (N, 5), float64
        Dereddened magnitudes [mag].

    Returns
    -------
    Cleaned
        The very arrays that were given where nothing is missing, copies otherwise.
    """
    magnitudes, photometry_flags = fill_bands(magnitudes)
    images, _, pixel_flags = fill_pixels(images)
    quality = photometry_flags | pixel_flags
    quality[has_odd_colors(magnitudes)] |= Quality.COLOR_OUTLIER.value
    return Cleaned(images, magnitudes, quality)


def fill_bands(magnitudes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Estimate at most two missing magnitudes of a galaxy from the others; reject it without r or with more missing.

    Parameters
    ----------
    magnitudes : array, shape (N, 5), float64
        Dereddened magnitudes [mag].

    Returns
    -------
    magnitudes : array, shape (N, 5), float64
        All between 10 and 30; the given array when nothing is missing. Refused rows hold the mean galaxy.
    quality : array, shape (N,), uint8
        IMPUTED_BAND and REFUSED.
    """
    quality = np.zeros(len(magnitudes), dtype=np.uint8)
    is_missing = missing_bands(magnitudes)
    if not is_missing.any():
        return magnitudes, quality
    filled = np.where(is_missing, MEAN_MAGNITUDES, magnitudes)
    is_rejected = is_missing[:, R_BAND] | (is_missing.sum(axis=1) > MAX_IMPUTED_BANDS)
    filled[is_rejected] = MEAN_MAGNITUDES
    to_impute = is_missing.any(axis=1) & ~is_rejected
    for missing in np.unique(is_missing[to_impute], axis=0):
        rows = to_impute & (is_missing == missing).all(axis=1)
        filled[np.ix_(rows, missing)] = _estimate(filled[np.ix_(rows, ~missing)], missing)
    quality[is_missing.any(axis=1)] |= Quality.IMPUTED_BAND.value
    quality[is_rejected] |= Quality.REFUSED.value
    return filled, quality


def missing_bands(magnitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which magnitudes [mag] are not measurements: NaN, infinite, or outside 10 to 30 as -9999 and 0 are."""
    low, high = MAGNITUDE_LIMITS
    return ~((magnitudes > low) & (magnitudes < high))


def _estimate(measured: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Conditional mean of the missing bands given the measured ones, of a normal distribution."""
    among_measured = MAGNITUDE_COVARIANCE[np.ix_(~missing, ~missing)]
    to_missing = MAGNITUDE_COVARIANCE[np.ix_(~missing, missing)]
    slopes = np.linalg.solve(among_measured, to_missing)
    estimate = MEAN_MAGNITUDES[missing] + (measured - MEAN_MAGNITUDES[~missing]) @ slopes
    clipped: NDArray[np.float64] = np.clip(
        estimate, np.nextafter(MAGNITUDE_LIMITS[0], 30), np.nextafter(MAGNITUDE_LIMITS[1], 10)
    )
    return clipped


def fill_pixels(
    images: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
    """Replace missing pixels with sky; reject a galaxy that misses more than 5 % of them, or one of the central ones.

    Missing are pixels that are not finite or below `MIN_PIXEL`, and all those of a band in which every pixel is the
    same.

    Parameters
    ----------
    images : array, shape (N, 5, 32, 32), float32
        Sky-subtracted cutouts [nanomaggy / pixel].

    Returns
    -------
    images : array, shape (N, 5, 32, 32), float32
        The given array when no pixel is missing.
    num_filled : array, shape (N,), int64
        Pixels replaced in each galaxy.
    quality : array, shape (N,), uint8
        FILLED_PIXELS and REFUSED.
    """
    quality = np.zeros(len(images), dtype=np.uint8)
    num_filled = np.zeros(len(images), dtype=np.int64)
    # Two passes see everything: extremes propagate NaN, show codes and infinities, and agree in a dead band.
    low, high = images.min(axis=(2, 3)), images.max(axis=(2, 3))
    dirty = np.flatnonzero(~((low >= MIN_PIXEL) & (high < np.inf) & (low < high)).all(axis=1))
    if not len(dirty):
        return images, num_filled, quality
    is_missing = missing_pixels(images[dirty])
    filled = images.copy()
    filled[dirty] = np.where(is_missing, SKY, images[dirty])
    num_filled[dirty] = is_missing.sum(axis=(1, 2, 3))
    quality[dirty] |= Quality.FILLED_PIXELS.value
    is_rejected = num_filled[dirty] > MAX_FILLED_SHARE * is_missing[0].size
    is_rejected |= is_missing[:, :, CENTRE, CENTRE].any(axis=(1, 2, 3))
    quality[dirty[is_rejected]] |= Quality.REFUSED.value
    return filled, num_filled, quality


def missing_pixels(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels of shape (N, 5, 32, 32) are not measurements, a whole band where it is dead."""
    is_missing: NDArray[np.bool_] = ~((images >= MIN_PIXEL) & (images < np.inf))
    low = np.where(is_missing, np.inf, images).min(axis=(2, 3), keepdims=True)
    high = np.where(is_missing, -np.inf, images).max(axis=(2, 3), keepdims=True)
    is_missing |= low >= high
    return is_missing


def has_odd_colors(
    magnitudes: NDArray[np.float64],
    median: NDArray[np.float64] = MEDIAN_COLORS,
    sigma: NDArray[np.float64] = COLOR_SIGMA,
) -> NDArray[np.bool_]:
    """Return which galaxies have a colour more than 8 robust sigma from the median.

    Parameters
    ----------
    magnitudes : array, shape (N, 5), float64
        Dereddened magnitudes [mag].
    median, sigma : array, shape (4,), float64
        Of u-g, g-r, r-i, i-z [mag]; those of the training galaxies when absent.
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


def has_high_extinction(extinction_r: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where Galactic extinction in r exceeds 0.5 mag; unknown extinction (NaN) passes."""
    return extinction_r > MAX_EXTINCTION_R


def is_label(redshift: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which spectroscopic redshifts can be one: positive and finite. They are never imputed."""
    usable: NDArray[np.bool_] = (redshift > 0) & np.isfinite(redshift)
    return usable
