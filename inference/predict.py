"""Turns blocks of galaxies into redshifts, in micro-batches that the user's batch size does not change."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import EngineError

MICRO_BATCH = 32
"""Galaxies per pass through a graph: fastest on one core, whose cache holds them, whatever batch size was asked."""


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

    micro_batch: int
    """Galaxies per call with which it is fastest."""

    note: str | None
    """Why this is not the engine that was asked for, if it is not."""

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch, or a row of numbers; see `predict_values` for the arrays.

        The engine of a network that reads further columns takes them as a third array.
        """
        ...


def predict_values(
    engine: Engine,
    images: NDArray[np.float32],
    magnitudes: NDArray[np.float64],
    columns: NDArray[np.float64] | None = None,
    *,
    num_values: int = 1,
    micro_batch: int | None = None,
) -> NDArray[np.float32]:
    """Predict one photometric redshift per galaxy, or what else the network gives.

    Parameters
    ----------
    engine : Engine
    images : array, shape (N, B, H, W), float32
        Cutouts in the bands of the model [nanomaggies per pixel].
    magnitudes : array, shape (N, B), float64
        Apparent magnitudes in the same bands [mag].
    columns : array, shape (N, K), float64, optional
        Further numbers, for a network that reads some.
    num_values : int
        Numbers per galaxy that the network gives.
    micro_batch : int, optional
        Galaxies per call, as the engine prefers when absent: changes memory and speed.

    Returns
    -------
    array, shape (N,) or (N, num_values), float32
        Redshift of each galaxy [dimensionless], or its row of numbers, in input order.

    Raises
    ------
    EngineError
        If a number is not finite although every input is, or there are more or fewer than the card says.

    References
    ----------
    Staylor et al. 2025, arXiv:2501.06249.
    """
    shape = (len(images),) if num_values == 1 else (len(images), num_values)
    values = np.empty(shape, dtype=np.float32)
    step = micro_batch or engine.micro_batch
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        further = () if columns is None else (columns[part],)
        found = engine.predict(images[part], magnitudes[part], *further)
        if found.shape[1:] != shape[1:]:
            raise EngineError(f"{engine.name} gave numbers of shape {found.shape[1:]} per galaxy, not {shape[1:]}.")
        values[part] = found
    bad = np.flatnonzero(~(np.isfinite(values) if num_values == 1 else np.isfinite(values).all(axis=1)))
    if len(bad):
        raise EngineError(
            f"{engine.name} gave {len(bad)} redshifts that are not finite, the first for row {bad[0]} with magnitudes "
            f"{magnitudes[bad[0]].tolist()}. The photometry is far outside what the model knows: clean the table."
        )
    return values
