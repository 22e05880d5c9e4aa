"""The network in a program or notebook of your own: arrays of galaxies in, redshifts with their sigma and flags out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.block import Block, centre_crop
from inference.calibration import Calibration
from inference.errors import InputError
from inference.models import shipped
from inference.models.card import Inputs, ModelCard
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

    pz: NDArray[np.float32] | None = None
    """Distribution of each redshift, shape (N, 12) or (N, 15), float32: `inference.distributions` reads it. NaN where
    rejected; None where the model has none."""


class RedshiftModel:
    """A network with its card and its calibration, ready to predict; `load_model` makes one."""

    def __init__(self, engine: Engine, calibration: Calibration | None = None, card: ModelCard | None = None) -> None:
        self.engine = engine
        """Computes the redshifts; `engine.name` is the library with its version."""
        self.ratio_95 = calibration.errors.ratio_95 if calibration else None
        """``redshift ± ratio_95 · sigma`` is to hold 95 % of the galaxies; None where there is no calibration."""
        self.card = card or shipped().card
        """What the model reads and gives, and what is known of it."""
        self._calibration = calibration

    def predict(
        self,
        images: ArrayLike | None = None,
        magnitudes: ArrayLike | None = None,
        columns: ArrayLike | None = None,
    ) -> Redshifts:
        """Predict one redshift per galaxy, as a run does: cleaned first, the same numbers bit for bit.

        Parameters
        ----------
        images : array, shape (N, B, H, W), float32
            Sky-subtracted cutouts in the bands of the model [nanomaggy / pixel]: `card.inputs` has bands, side and the
            size of a pixel; the shipped model reads (N, 5, 32, 32), u, g, r, i, z, 0.396 arcsec. Of larger cutouts the
            centre is taken.
        magnitudes : array, shape (N, B), float64
            Apparent magnitudes in the same bands, of the shipped model corrected for Galactic extinction [mag].
        columns : array, shape (N, K), float64, optional
            Further numbers, for a model that reads some.

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
        block = _block(images, magnitudes, columns, self.card.inputs)
        # Not all at once: a copy of a notebook's images may not fit into memory.
        starts = range(0, max(len(block), 1), BLOCK_ROWS)
        found = Predictions.joined(
            [
                predict_block(block[start : start + BLOCK_ROWS], self.engine, self._calibration, self.card)
                for start in starts
            ]
        )
        return Redshifts(found.z_phot, found.sigma, found.quality, found.pz)


def _block(images: ArrayLike | None, magnitudes: ArrayLike | None, columns: ArrayLike | None, inputs: Inputs) -> Block:
    """Check the arrays that the model reads; those that it does not are not looked at."""
    bands, side = inputs.bands, inputs.side_px
    named = ", ".join(bands)
    pixels = _numbers("images", images) if side else None
    light = _numbers("magnitudes", magnitudes) if inputs.magnitudes else None
    first = light if pixels is None else pixels
    assert first is not None, "a card without images has magnitudes"
    num_rows = len(first) if first.ndim else 0
    if pixels is not None and not _fits(pixels.shape, num_rows, len(bands), side):
        raise InputError(
            f"images have the shape {pixels.shape}; the model reads (N, {len(bands)}, {side}, {side}): galaxy, band "
            f"({named}), row, column. numpy.moveaxis(images, -1, 1) moves a last axis of bands; images[None] makes "
            "N = 1 of one galaxy."
        )
    if light is not None and light.shape != (num_rows, len(bands)):
        raise InputError(
            f"magnitudes have the shape {light.shape}; for these images the model reads ({num_rows}, {len(bands)}): "
            f"one row per galaxy with its magnitudes in {named}."
        )
    further = _numbers("columns", columns) if inputs.columns else None
    if further is not None and further.shape != (num_rows, len(inputs.columns)):
        raise InputError(
            f"columns have the shape {further.shape}; the model reads ({num_rows}, {len(inputs.columns)}): "
            f"{', '.join(inputs.columns)} of each galaxy."
        )
    if pixels is None:
        cutouts = np.empty((num_rows, len(bands), 0, 0), np.float32)
    else:
        with np.errstate(over="ignore"):  # a pixel of 1e39 becomes infinite, which counts as missing
            cutouts = centre_crop(pixels.astype(np.float32, copy=False), side)
    unknown = np.full(num_rows, np.nan)
    return Block(
        cutouts,
        np.full((num_rows, len(bands)), np.nan) if light is None else light.astype(np.float64, copy=False),
        unknown,
        np.arange(num_rows),
        None if further is None else further.astype(np.float64, copy=False),
    )


def _fits(shape: tuple[int, ...], num_rows: int, num_bands: int, side_px: int) -> bool:
    """Tell whether these are square cutouts of all bands, at least as large as those that are read."""
    return len(shape) == 4 and shape[:2] == (num_rows, num_bands) and shape[2] == shape[3] >= side_px


def _numbers(name: str, values: ArrayLike | None) -> NDArray[Any]:
    if values is None:
        raise InputError(f"{name} are missing, which the model reads.")
    try:
        array: NDArray[Any] = np.asanyarray(values)
        if isinstance(array, np.ma.MaskedArray):  # as columns of astropy's tables are; below a mask is some number
            array = np.ma.filled(array.astype(np.float64), np.nan)
    except ValueError as error:
        raise InputError(f"{name} cannot be read as an array ({error}).") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} hold {array.dtype} and not numbers.")
    return np.asarray(array)
