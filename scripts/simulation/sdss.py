"""The 10,000 real SDSS galaxies that the kcorrect package ships, cleaned and split by source."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from inference import cleaning
from scripts.command.errors import SourceError
from scripts.simulation.photometry import Photometry

MAX_EXTINCTION_R = 0.5
"""Of a galaxy of the sample [mag]."""
SHA256 = "d7e87e8abc45167e48889a0e824870760a2e6dde20650a6e41a72164859bf578"
"""Of `kcorrect/data/test/gst_tests_small.fits` in kcorrect 5.1.9."""

TRAIN_PERCENT = 70
SELECTION_PERCENT = 10
"""Share of the train sources that training keeps aside for choosing and calibrating."""

Part = Literal["train", "selection", "held_out"]


class SourceCatalogError(SourceError):
    """The catalogue of real galaxies is absent or not the expected file."""


@dataclass(frozen=True)
class SourceCatalog:
    """Clean real galaxies."""

    photometry: Photometry
    redshift: NDArray[np.float64]
    """Spectroscopic redshift, shape (N,)."""

    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    """Position, J2000, shape (N,) [degree]."""

    part: NDArray[np.str_]
    """`train`, `selection` or `held_out` for each galaxy, shape (N,)."""

    removed: dict[str, int]
    """Galaxies rejected by each cleaning rule; one galaxy may break several."""

    num_removed: int
    """Galaxies rejected by any rule."""

    def of(self, *parts: Part) -> Self:
        """Keep the galaxies of some parts, in catalogue order."""
        return self._rows(np.isin(self.part, parts))

    def first(self, num: int) -> Self:
        """Keep at most the first galaxies."""
        return self._rows(slice(num))

    def _rows(self, rows: slice | NDArray[np.bool_]) -> Self:
        return replace(
            self,
            photometry=self.photometry[rows],
            redshift=self.redshift[rows],
            ra_deg=self.ra_deg[rows],
            dec_deg=self.dec_deg[rows],
            part=self.part[rows],
        )


@cache
def load_sources() -> SourceCatalog:
    """Read, check, clean and split the real galaxies.

    Returns
    -------
    SourceCatalog
        9,934 galaxies in the order of the file.

    Raises
    ------
    SourceCatalogError
        If kcorrect 5.1.9 is not installed or its file has changed.
    """
    path = kcorrect_data("test", "gst_tests_small.fits")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise SourceCatalogError(f"{path} is not the file of kcorrect 5.1.9. Install that version again.")
    with fits.open(path) as file:
        table = file[1].data
        columns = {name: np.asarray(table[name], dtype=np.float64) for name in _COLUMNS}
    digests = [_position_digest(*position) for position in zip(columns["RA"], columns["DEC"], strict=True)]
    photometry = Photometry(
        object_id=np.array([object_id(digest) for digest in digests], dtype=np.int64),
        model_flux=columns["MODELFLUX"],
        model_flux_error=columns["MODELFLUX_IVAR"] ** -0.5,
        petrosian_flux=columns["PETROFLUX"],
        extinction=columns["EXTINCTION"],
    )
    faults = _faults(photometry, columns["Z"])
    good = ~np.any(list(faults.values()), axis=0)
    return SourceCatalog(
        photometry=photometry[good],
        redshift=columns["Z"][good],
        ra_deg=columns["RA"][good],
        dec_deg=columns["DEC"][good],
        part=np.array([part_of(digest) for digest in digests])[good],
        removed={rule: int(is_bad.sum()) for rule, is_bad in faults.items()},
        num_removed=int(np.sum(~good)),
    )


_COLUMNS = ("RA", "DEC", "MODELFLUX", "MODELFLUX_IVAR", "PETROFLUX", "EXTINCTION", "Z")


def kcorrect_data(*parts: str) -> Path:
    """Locate a data file of the kcorrect package without running it: importing it takes seconds.

    Raises
    ------
    SourceCatalogError
        If the package is not installed.
    """
    spec = find_spec("kcorrect")
    if spec is None or not spec.submodule_search_locations:
        raise SourceCatalogError("kcorrect 5.1.9, whose real galaxies and templates are used here, is not installed.")
    return Path(spec.submodule_search_locations[0]).joinpath("data", *parts)


def _position_digest(ra_deg: float, dec_deg: float) -> bytes:
    # A hash of the position, not of the row number: a galaxy keeps its part whatever file it comes from.
    return hashlib.sha256(f"{ra_deg:.6f} {dec_deg:+.6f}".encode()).digest()


def object_id(digest: bytes) -> int:
    """Positive 63-bit identifier made from a position's hash."""
    return (int.from_bytes(digest[:8], "big") >> 1) | 1


def part_of(digest: bytes) -> Part:
    """Part of the split a position belongs to, drawn from other bits of its hash than the identifier."""
    if int.from_bytes(digest[8:16], "big") % 100 >= TRAIN_PERCENT:
        return "held_out"
    return "selection" if int.from_bytes(digest[16:24], "big") % 100 < SELECTION_PERCENT else "train"


def _faults(photometry: Photometry, redshift: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Apply the rules of `inference.cleaning`; a colour is odd compared with those of these very galaxies."""
    magnitudes = photometry.magnitudes
    signal_to_noise = photometry.model_flux / photometry.model_flux_error
    return {
        "magnitude outside 10-30": np.any(cleaning.missing_bands(magnitudes), axis=1),
        f"colour beyond {cleaning.MAX_COLOR_SIGMA:g} robust sigma": cleaning.are_odd(
            magnitudes, *cleaning.color_spread(magnitudes)
        ),
        f"signal-to-noise below {cleaning.MIN_SIGNAL_TO_NOISE:g} in g, r, i or z": cleaning.has_low_signal(
            signal_to_noise
        ),
        f"extinction in r above {MAX_EXTINCTION_R:g} mag": cleaning.has_high_extinction(
            photometry.extinction[:, 2], MAX_EXTINCTION_R
        ),
        "redshift not positive": ~cleaning.is_label(redshift),
    }
