"""Turns blocks of galaxies into redshifts, in micro-batches that the user's batch size does not change."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import EngineError

MICRO_BATCH = 32
"""Galaxies per pass through the network: fastest on one core, whose cache holds them, whatever batch size was asked."""


class Engine(Protocol):
    """A library that computes redshifts with one set of weights."""

    name: str
    """Library and version, e.g. ``torch 2.13.0``."""

    num_threads: int
    """Threads it computes with."""

    weights_sha256: str
    """Checksum of the checkpoint file."""

    num_parameters: int
    """Parameters of the network."""

    precision: str
    """Precision of the products: ``fp32`` unless another was asked for."""

    note: str | None
    """Why this is not the engine that was asked for, if it is not."""

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `predict_redshift` for the arrays."""
        ...


def predict_redshift(
    engine: Engine,
    images: NDArray[np.float32],
    magnitudes: NDArray[np.float64],
    *,
    micro_batch: int = MICRO_BATCH,
) -> NDArray[np.float32]:
    """Predict one photometric redshift per galaxy.

    Parameters
    ----------
    engine : Engine
    images : array, shape (N, 5, 32, 32), float32
        Cutouts in the bands u, g, r, i, z [nanomaggies per pixel].
    magnitudes : array, shape (N, 5), float64
        Dereddened apparent magnitudes in the same bands [mag].
    micro_batch : int
        Galaxies per pass: changes memory and speed.

    Returns
    -------
    array, shape (N,), float32
        Redshift of each galaxy [dimensionless], in input order.

    Raises
    ------
    EngineError
        If a redshift is not finite although every input is.

    References
    ----------
    Staylor et al. 2025, arXiv:2501.06249.
    """
    z_phot = np.empty(len(images), dtype=np.float32)
    for start in range(0, len(images), micro_batch):
        part = slice(start, start + micro_batch)
        z_phot[part] = engine.predict(images[part], magnitudes[part])
    bad = np.flatnonzero(~np.isfinite(z_phot))
    if len(bad):
        raise EngineError(
            f"{engine.name} gave {len(bad)} redshifts that are not finite, the first for row {bad[0]} with magnitudes "
            f"{magnitudes[bad[0]].tolist()}. The photometry is far outside what the model knows: clean the table."
        )
    return z_phot
