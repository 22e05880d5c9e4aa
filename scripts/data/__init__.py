"""Galaxies from tables, published files and cutouts, judged and written as datasets; notebooks use `read_galaxies`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from inference.block import Block
    from scripts.data.cleaning_report import CleaningReport


class ReadGalaxies(NamedTuple):
    """N galaxies of a source."""

    block: "Block"
    """Images, dereddened magnitudes as measured, redshifts (NaN where there is no usable one) and identifiers."""

    ra_deg: NDArray[np.float64]
    """Right ascension, J2000, shape (N,) [degree]; NaN where unknown."""

    dec_deg: NDArray[np.float64]
    """Declination, J2000, shape (N,) [degree]; NaN where unknown."""

    quality: NDArray[np.uint8]
    """Flags of `inference.quality.Quality`, shape (N,)."""

    report: "CleaningReport"
    """What cleaning found; ``rich.print(report.shown())`` shows it as `make dataset` does."""

    source_id: NDArray[np.str_] | None
    """Identifiers as the source has them, shape (N,), where they are not whole numbers and rows are numbered."""


def read_galaxies(path: str | Path, fields: str = "", *, seed: int = 0) -> ReadGalaxies:
    """Read all galaxies of a source into memory, 20 kB each.

    Parameters
    ----------
    path : str or Path
        What ``make dataset SOURCE=`` takes: a table, a published ``.pt`` or ``.npz``, or a folder of shards or of FITS
        cutouts with their table.
    fields : str
        Columns of a table that are not recognized by their names, as in ``"u=MAG_U,z_spec=ZBEST"``.
    seed : int
        Decides what is drawn for the images of a table without any, which are rendered from its photometry.

    Returns
    -------
    ReadGalaxies
        In the order of the source; nothing is left out, what is wrong is flagged.

    Raises
    ------
    scripts.command.errors.CommandError
        If the source cannot be read; the message says what was found and what is needed.

    Examples
    --------
    >>> galaxies = read_galaxies("my.csv")
    >>> result = load_model().predict(galaxies.block.images, galaxies.block.magnitudes)
    """
    from dataclasses import replace

    from inference.cleaning import is_label
    from scripts.data.cleaning_report import inspect
    from scripts.data.galaxies import read_block
    from scripts.data.source import open_source

    with TemporaryDirectory(prefix="records-") as scratch:
        source = open_source(Path(path).expanduser(), fields=fields, scratch=Path(scratch), seed=seed)
        block = read_block(source.galaxies, 0, len(source.galaxies))
        facts = source.galaxies.facts(0, len(block))
    found = inspect(block.images, block.magnitudes, block.redshifts, facts.quality, source.origin.bands)
    block = replace(block, redshifts=np.where(is_label(block.redshifts), block.redshifts, np.nan))
    report = source.report + found.report
    return ReadGalaxies(block, facts.ra_deg, facts.dec_deg, found.quality, report, facts.source_id)
