"""Galaxies that a dataset is made of, and what is known of them besides what the network reads."""

from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from inference.block import Block, join

ROWS_PER_BATCH = 1_000
"""Rows made at a time: bounds the memory of the generator's intermediate arrays."""


@dataclass(frozen=True)
class Facts:
    """What is known of N galaxies besides what the network reads."""

    ra_deg: NDArray[np.float64]
    """Right ascension, J2000, shape (N,) [degree]; NaN where unknown."""

    dec_deg: NDArray[np.float64]
    """Declination, J2000, shape (N,) [degree]; NaN where unknown."""

    quality: NDArray[np.uint8]
    """LOW_SIGNAL and HIGH_EXTINCTION, which cutouts and magnitudes do not show; shape (N,)."""

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def unknown(cls, num_rows: int) -> Self:
        """Nothing is known of the galaxies."""
        return cls(np.full(num_rows, np.nan), np.full(num_rows, np.nan), np.zeros(num_rows, dtype=np.uint8))


class Galaxies(Protocol):
    """A source of N galaxies, each a function of its position alone."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Block:
        """Make the galaxies from `start` to before `stop`."""
        ...

    def facts(self, start: int, stop: int) -> Facts:
        """Return what else is known of the galaxies from `start` to before `stop`."""
        ...


def read_block(galaxies: Galaxies, start: int, stop: int) -> Block:
    """Make the galaxies from `start` to before `stop`, any number of them, in one block."""
    firsts = range(start, stop, ROWS_PER_BATCH)
    return join([galaxies.rows(first, min(first + ROWS_PER_BATCH, stop)) for first in firsts])
