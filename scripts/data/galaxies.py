"""Galaxies that a dataset is made of, and what is known of them besides what the network reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from inference.block import SDSS, Block, Layout, join
from inference.contract.dataset import ImageOrigin

TEXT_COLUMNS = ("split", "source_id")
"""Of a dataset's table, where the source says them: what training may use a galaxy for, identifiers that are text."""

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

    split: NDArray[np.uint8] | None = None
    """Number of the part in `split_column.PARTS`, shape (N,); None where the user names none."""

    source_id: NDArray[np.str_] | None = None
    """Identifiers of the source where they are not whole numbers, shape (N,); None where they are."""

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Self:
        return type(self)(**{name: values[rows] for name, values in self._arrays.items()})

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: values for name, values in vars(self).items() if values is not None}

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Which of `TEXT_COLUMNS` are known."""
        return tuple(name for name in TEXT_COLUMNS if getattr(self, name) is not None)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put the facts of several stretches of the same galaxies one after the other."""
        # What one part knows all of them do.
        return cls(**{name: np.concatenate([part._arrays[name] for part in parts]) for name in parts[0]._arrays})

    @classmethod
    def unknown(cls, num_rows: int) -> Self:
        """Nothing is known of the galaxies."""
        return cls(np.full(num_rows, np.nan), np.full(num_rows, np.nan), np.zeros(num_rows, dtype=np.uint8))


@dataclass(frozen=True)
class Origin:
    """What holds for all galaxies of a dataset, as its card says it."""

    image_origin: ImageOrigin | None = None
    """Where the images come from; None where it is not known."""

    pixel_scale_arcsec: float | None = None
    """Angular size of a pixel [arcsec]; None where it is not known."""

    dereddened: bool | None = None
    """Whether the magnitudes are corrected for Galactic extinction; None where it is not known."""

    extinction: str = ""
    """How that is known, in words."""

    bands: tuple[str, ...] = SDSS.bands
    """Bands of images and magnitudes, in their order."""

    side_px: int = SDSS.side_px
    """Side of the images [pixels]; 0 where there are none."""

    columns: tuple[str, ...] = ()
    """Names of the further numbers."""

    text_columns: tuple[str, ...] = ()
    """Which of `TEXT_COLUMNS` its table has."""

    @property
    def extinction_line(self) -> str:
        """What a user should know of the extinction, or say."""
        if self.dereddened is not None:
            missing = (
                "" if self.dereddened else '; FIELDS="ebv=…" or "ext_u=…,ext_g=…,…" names columns that say how much'
            )
            return f"{self.extinction or 'the magnitudes are corrected, as the dataset says'}{missing}"
        return (
            "whether the magnitudes are corrected for it is not known, and they are taken as they are: "
            'FIELDS="dereddened=yes" or "dereddened=no" says it, "ebv=…" or "ext_u=…,ext_g=…,…" corrects them'
        )

    @property
    def layout(self) -> Layout:
        """What a shard of it holds."""
        return Layout(self.bands, self.bands, self.side_px, has_magnitudes=True, columns=self.columns)

    @property
    def arrays(self) -> dict[str, str]:
        """Array name to shape, dtype and unit, in words."""
        bands, num = f"bands {' '.join(self.bands)}", len(self.bands)
        corrected = {True: "", False: "not ", None: "perhaps "}[self.dereddened]
        images = (
            f"(N, {num}, {self.side_px}, {self.side_px}) float32 [nanomaggy / pixel], {bands}, sky-subtracted, "
            "extinction included"
        )
        return {
            **({"images": images} if self.side_px else {}),
            "magnitudes": f"(N, {num}) float64 [mag], AB, {bands}, {corrected}corrected for Galactic extinction",
            "redshifts": "(N,) float64, spectroscopic (real galaxies) or true (synthetic galaxies)",
            "object_id": "(N,) int64, positive, unique in the dataset",
            **dict.fromkeys(self.columns, "(N,) float64, as in the source"),
        }

    @property
    def card_fields(self) -> dict[str, Any]:
        """What the card says of it, by the card's names."""
        names = ("image_origin", "pixel_scale_arcsec", "dereddened", "extinction", "bands", "arrays")
        return {name: getattr(self, name) for name in names}


UNKNOWN = Origin()


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
