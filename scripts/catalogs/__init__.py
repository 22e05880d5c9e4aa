"""Redshifts as a catalog, FITS and Parquet: of a run, or with `write_catalog` of a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from inference import Redshifts


def write_catalog(path: str | Path, result: "Redshifts", *, object_id: ArrayLike, **known: ArrayLike) -> None:
    """Write predictions as `make catalog` writes those of a run: units, UCDs and the meaning of every flag in the file.

    Parameters
    ----------
    path : str or Path
        Ends in ``.fits`` or ``.parquet``, or in ``.hdf5`` for p(z) as a qp ensemble; replaced if it exists.
    result : Redshifts
        What `inference.RedshiftModel.predict` returned for N galaxies.
    object_id : array, shape (N,), int64
        Identifiers.
    **known : array, shape (N,)
        ``ra_deg``, ``dec_deg`` [degree], ``mag_r`` [mag] or ``z_spec``, NaN where unknown, as the column is where it
        is not given.

    Raises
    ------
    CommandError
        If there is no such column or format, or an array has another length.
    """
    from scripts.catalogs.columns import unknown_rows
    from scripts.catalogs.fits_file import FitsWriter
    from scripts.catalogs.merge import Galaxies, fill_summary
    from scripts.catalogs.parquet_file import ParquetWriter
    from scripts.catalogs.provenance import CREATOR, Card, flag_cards
    from scripts.catalogs.qp_file import QpWriter
    from scripts.command.errors import CommandError
    from scripts.command.whole_file import written_whole

    path, num_rows = Path(path), len(result.redshift)
    if path.suffix not in (".fits", ".parquet", ".hdf5"):
        raise CommandError(f"{path} ends neither in .fits nor in .parquet or .hdf5.")
    if unknown := sorted(known.keys() - {"ra_deg", "dec_deg", "mag_r", "z_spec"}):
        raise CommandError(f"A catalog has no column {', '.join(unknown)}; it has ra_deg, dec_deg, mag_r and z_spec.")
    rows = unknown_rows(num_rows)
    predicted = {"z_phot": result.redshift, "z_phot_err": result.sigma, "flags": result.flags}
    for name, values in {"object_id": object_id, **predicted, **known}.items():
        column = np.asarray(values)
        if column.shape != (num_rows,):
            raise CommandError(f"{name} has the shape {column.shape}; these are {num_rows} galaxies.")
        rows[name] = column
    pz = np.empty((num_rows, 0), np.float32) if result.pz is None else result.pz
    if result.pz is not None:
        fill_summary(rows, pz)
    cards = {"CREATOR": Card(CREATOR, "program that wrote this file"), **flag_cards()}
    with written_whole(path) as partial:
        if path.suffix == ".hdf5":
            with QpWriter(partial, cards) as ensemble:
                ensemble.write(Galaxies(rows, pz))
            return
        writer = FitsWriter(partial, cards, num_rows) if path.suffix == ".fits" else ParquetWriter(partial, cards)
        with writer:
            writer.write(rows)
