"""The network in a program or notebook of your own: arrays of galaxies in, redshifts with their sigma and flags out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.block import NUM_BANDS, SIDE, Block, centre_crop
from inference.calibration import Calibration
from inference.errors import InputError
from inference.pipeline import Predictions, predict_block
from inference.predict import Engine
from inference.shard import BLOCK_ROWS


@dataclass(frozen=True)
class Redshifts:
    """The predictions of N galaxies, in the order in which they were given."""

    redshift: NDArray[np.float32]
    """Photometric redshifts, shape (N,), float32; NaN where the galaxy was rejected (`Quality.REFUSED`)."""

    sigma: NDArray[np.float32]
    """Half-width of the interval around `redshift` that holds 68 % of the galaxies, shape (N,), float32; NaN where
    rejected and where the weights have no calibration."""

    flags: NDArray[np.uint8]
    """Bits of `inference.Quality`, shape (N,), uint8; 0 for a galaxy without a problem."""


class RedshiftModel:
    """AstroMAE with its weights and their calibration, ready to predict; `load_model` makes one."""

    def __init__(self, engine: Engine, calibration: Calibration | None = None) -> None:
        self.engine = engine
        """Computes the redshifts; `engine.name` is the library with its version."""
        self.ratio_95 = calibration.errors.ratio_95 if calibration else None
        """``redshift ± ratio_95 · sigma`` is to hold 95 % of the galaxies; None where there is no calibration."""
        self._calibration = calibration

    def predict(self, images: ArrayLike, magnitudes: ArrayLike) -> Redshifts:
        """Predict one redshift per galaxy, as a run does: cleaned first, the same numbers bit for bit.

        Parameters
        ----------
        images : array, shape (N, 5, 32, 32), float32
            Sky-subtracted cutouts in the bands u, g, r, i, z, 0.396 arcsec per pixel [nanomaggy / pixel]. Of
            cutouts of 64 by 64 pixels the centre is taken.
        magnitudes : array, shape (N, 5), float64
            Apparent magnitudes in the same bands, corrected for Galactic extinction [mag].

        Returns
        -------
        Redshifts
            Other numbers are converted to these dtypes. What is masked, not finite or a code such as -9999 counts as
            missing: up to two magnitudes and 5 % of the pixels are filled in and flagged, and a galaxy that lacks more
            is rejected, with NaN for its redshift (`inference.Quality` has the rules).

        Raises
        ------
        InputError
            If an array has another shape, or holds no real numbers. A ValueError.
        EngineError
            If a redshift is not finite although every input is.

        References
        ----------
        Staylor et al. 2025, arXiv:2501.06249.
        """
        block = _block(images, magnitudes)
        # Not all at once: a copy of a notebook's images may not fit into memory.
        starts = range(0, max(len(block), 1), BLOCK_ROWS)
        found = Predictions.joined(
            [predict_block(block[start : start + BLOCK_ROWS], self.engine, self._calibration) for start in starts]
        )
        return Redshifts(found.z_phot, found.sigma, found.quality)


def _block(images: ArrayLike, magnitudes: ArrayLike) -> Block:
    pixels, bands = _numbers("images", images), _numbers("magnitudes", magnitudes)
    num_rows = len(pixels) if pixels.ndim else 0
    if pixels.shape not in ((num_rows, NUM_BANDS, side, side) for side in (SIDE, 2 * SIDE)):
        raise InputError(
            f"images have the shape {pixels.shape}; the model reads (N, 5, 32, 32): galaxy, band (u, g, r, i, z), row, "
            "column. numpy.moveaxis(images, -1, 1) moves a last axis of bands; images[None] makes N = 1 of one galaxy."
        )
    if bands.shape != (num_rows, NUM_BANDS):
        raise InputError(
            f"magnitudes have the shape {bands.shape}; for these images the model reads ({num_rows}, 5): one row per "
            "galaxy with its magnitudes in u, g, r, i, z."
        )
    with np.errstate(over="ignore"):  # a pixel of 1e39 becomes infinite, which counts as missing
        cutouts = centre_crop(pixels.astype(np.float32, copy=False))
    unknown = np.full(num_rows, np.nan)
    return Block(cutouts, bands.astype(np.float64, copy=False), unknown, np.arange(num_rows))


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asanyarray(values)
        if isinstance(array, np.ma.MaskedArray):  # as columns of astropy's tables are; below a mask is some number
            array = np.ma.filled(array.astype(np.float64), np.nan)
    except ValueError as error:
        raise InputError(f"{name} cannot be read as an array ({error}).") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} hold {array.dtype} and not numbers.")
    return np.asarray(array)
