"""The columns of a catalog: what each one holds, in which unit, and what stands where nothing is known."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.quality import Quality

LOST = 128
"""Flag of a galaxy whose rank gave no prediction: the bit that `Quality` leaves free."""

NO_ID = np.iinfo(np.int64).min
"""Stands for an unknown object_id. A null would make readers turn all identifiers into floats, which round them."""


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    """Its name in every format."""

    dtype: str
    """Type of its values; NaN stands for an unknown float."""

    ucd: str
    """Meaning in the vocabulary of the Virtual Observatory (UCD1+)."""

    description: str
    """Meaning in words."""

    unit: str | None = None
    """Unit as FITS and VOUnits spell it."""


COLUMNS = (
    Column("object_id", "i8", "meta.id;meta.main", "Identifier of the galaxy in its dataset"),
    Column("ra_deg", "f8", "pos.eq.ra;meta.main", "Right ascension, ICRS", "deg"),
    Column("dec_deg", "f8", "pos.eq.dec;meta.main", "Declination, ICRS", "deg"),
    Column("z_phot", "f4", "src.redshift.phot", "Photometric redshift, predicted from cutout and magnitudes"),
    Column("z_phot_err", "f4", "stat.error;src.redshift.phot", "Calibrated half-width of the 68 % interval of z_phot"),
    Column("z_mode", "f4", "src.redshift.phot", "Redshift of the highest density of p(z)"),
    Column("z_mean", "f4", "src.redshift.phot;stat.mean", "Mean of p(z)"),
    Column("z_median", "f4", "src.redshift.phot;stat.median", "Median of p(z)"),
    Column("z_l68", "f4", "src.redshift.phot;stat.min", "Lower limit of 68 %: 16 % of p(z) are below"),
    Column("z_u68", "f4", "src.redshift.phot;stat.max", "Upper limit of 68 %: 84 % of p(z) are below"),
    Column("z_l95", "f4", "src.redshift.phot;stat.min", "Lower limit of 95 %: 2.5 % of p(z) are below"),
    Column("z_u95", "f4", "src.redshift.phot;stat.max", "Upper limit of 95 %: 97.5 % of p(z) are below"),
    Column("odds", "f4", "stat.probability;src.redshift.phot", "Share of p(z) within z_mode +- 0.05 (1 + z_mode)"),
    Column("flags", "u1", "meta.code.qual", "Sum of bits, each with its meaning in FLAG_bit; 0 is clean"),
    Column("z_spec", "f8", "src.redshift", "Spectroscopic redshift, where known"),
    Column("mag_r", "f4", "phot.mag;em.opt.R", "r magnitude (AB), corrected for Galactic extinction", "mag"),
)

ROW = np.dtype([(column.name, column.dtype) for column in COLUMNS])
"""One row in memory."""

SOURCE_ID = Column("source_id", "S", "meta.id", "Identifier of the galaxy in the table that the dataset was made from")
"""Where identifiers are no whole numbers, and rows are numbered: text, as long as the longest."""


def row_type(source_id_bytes: int = 0) -> np.dtype[Any]:
    """Return `ROW`, with identifiers of the source of so many bytes next to ours where there are any."""
    if not source_id_bytes:
        return ROW
    own = (SOURCE_ID.name, f"S{source_id_bytes}")
    return np.dtype([ROW.descr[0], own, *ROW.descr[1:]])


def as_ascii(texts: Iterable[str | None]) -> NDArray[np.bytes_]:
    """Return text as FITS may hold it: what is not ASCII as Python escapes it."""
    return np.array([(text or "").encode("ascii", "backslashreplace") for text in texts], dtype=np.bytes_)


def columns_of(row: np.dtype[Any]) -> list[Column]:
    """Return what the columns of a row hold."""
    known = {column.name: column for column in (*COLUMNS, SOURCE_ID)}
    return [known[name] for name in row.names or ()]


FLAG_MEANINGS = {
    Quality.IMPUTED_BAND: "a magnitude is missing and was estimated from the other bands",
    Quality.FILLED_PIXELS: "pixels are missing and were replaced with sky",
    Quality.LOW_SIGNAL: "flux in g, r, i or z below 5 standard errors",
    Quality.COLOR_OUTLIER: "a colour unlike those of the training galaxies",
    Quality.HIGH_EXTINCTION: "Galactic extinction in r above the limit of the model, 0.5 mag of the shipped ones",
    Quality.OUT_OF_DOMAIN: "input unlike what the model was trained on",
    Quality.REFUSED: "too little was measured: no redshift",
}


def flags_in_words() -> dict[int, str]:
    """Return every bit of the column ``flags`` with its name and meaning."""
    named = {flag.value: f"{flag.name}: {meaning}" for flag, meaning in FLAG_MEANINGS.items()}
    return {**named, LOST: "LOST: the rank of this galaxy failed, nothing was predicted"}


def unknown_rows(num_rows: int, row: np.dtype[Any] = ROW) -> NDArray[Any]:
    """Return rows in which nothing is known: shape (N,)."""
    rows = np.zeros(num_rows, dtype=row)
    for column in COLUMNS:
        if column.dtype.startswith("f"):
            rows[column.name] = np.nan
    rows["object_id"] = NO_ID
    return rows
