"""Galaxies of a user's table in one form: units checked, corrected for extinction, identified, labels judged."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from inference import cleaning
from inference.models import shipped
from inference.models.card import ModelCard
from inference.quality import Quality
from scripts.command.errors import CommandError, SourceError, UsageError
from scripts.data.columns import BANDS, Columns, recognize
from scripts.data.galaxies import TEXT_COLUMNS
from scripts.data.light import fault_of_light
from scripts.data.split_column import read_split
from scripts.data.table_file import BATCH_ROWS, Batch, NotWholeError, TableFile
from scripts.data.units import Conversion, conversions, degrees_of, in_words
from scripts.simulation.photometry import ASINH_SOFTENING, NANOMAGGY, asinh_magnitudes

SFD_COEFFICIENTS = np.array([4.239, 3.303, 2.285, 1.698, 1.263])
"""Extinction in SDSS u, g, r, i, z per E(B-V) of Schlegel, Finkbeiner & Davis 1998, for R_V = 3.1 (Schlafly &
Finkbeiner 2011, ApJ 737, 103, table 6)."""

MAX_RADIUS_ARCSEC = 100.0
LOGARITHMIC = 1e-14
"""Softening far below the light of any galaxy, magnitude 35 [maggy]: negative light becomes a magnitude above 30."""


MAX_ID_BYTES = 64
"""Of an identifier that is text."""


def row_type(num_bands: int = len(BANDS), num_further: int = 0, *, has_source_id: bool = False) -> np.dtype[Any]:
    """Return the type of one galaxy.

    Magnitudes are dereddened where that could be done; codes of missing ones (-9999, 0, NaN) stay as they are. NaN is
    unknown.
    """
    return np.dtype(
        [
            ("object_id", "i8"),
            ("ra_deg", "f8"),
            ("dec_deg", "f8"),
            ("magnitudes", "f8", num_bands),
            ("extinction", "f8", num_bands),
            ("flux_error", "f8", num_bands),
            ("petrosian_minus_model", "f8", num_bands),
            ("disc_radius", "f8"),
            ("bulge_radius", "f8"),
            ("half_light_radius", "f8"),
            ("axis_ratio", "f8"),
            ("bulge_axis_ratio", "f8"),
            ("bulge_fraction", "f8"),
            ("redshift", "f8"),
            ("quality", "u1"),
            ("split", "u1"),
            ("further", "f8", (num_further,)),
            *([("source_id", f"S{MAX_ID_BYTES}")] if has_source_id else []),
        ]
    )


@dataclass(frozen=True)
class Records:
    """Galaxies on disk, so that any number is read by row and by any process."""

    path: Path
    """File of records of `row_type`."""

    num_rows: int
    columns: Columns
    """What was read as what."""

    rules: Counter[str]
    """Rules of the report that only the table shows."""

    notes: tuple[str, ...] = ()
    """What was converted, or read in an unusual way."""

    has_source_id: bool = False
    """Whether rows are numbered because their identifiers are not whole numbers, and these kept as text."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """What the table of a dataset has of them as text."""
        is_there = {"split": "split" in self.columns.single, "source_id": self.has_source_id}
        return tuple(name for name in TEXT_COLUMNS if is_there[name])

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the records from `start` to before `stop`."""
        kind = row_type(len(self.columns.bands), len(self.columns.further), has_source_id=self.has_source_id)
        return np.fromfile(self.path, dtype=kind, count=stop - start, offset=start * kind.itemsize)


def read_records(
    table: TableFile,
    fields: str,
    path: Path,
    tick: Callable[[int], None] = lambda _: None,
    *,
    card: ModelCard | None = None,
) -> Records:
    """Read a table once, front to back, into records.

    Parameters
    ----------
    table : TableFile
    fields : str
        The user's names of columns, as in ``u=MAG_U,z_spec=ZBEST``.
    path : Path
        File to write.
    tick : callable
        Called with the number of new rows.
    card : ModelCard, optional
        Of a model: bands and further numbers to read, what counts as much extinction. The shipped one's when absent.

    Raises
    ------
    SourceError
        If a column is not what it is read as, or the table has no rows. What is wrong with single galaxies is kept.
    """
    card = card or shipped().card
    reads, limit = card.inputs, card.max_extinction_r
    columns = recognize(table.columns, fields, source=table.name, bands=reads.bands, further=reads.columns)
    _refuse_ebv_without_coefficients(columns, table.name)
    try:
        return _read(table, columns, path, tick, _kinds(columns), limit)
    except NotWholeError as error:
        name = columns.single["object_id"]
        kinds = {**_kinds(columns), name: "text"}
        note = f"{name} holds {error}, not whole numbers from 0 to 2^63: rows are numbered, {name} is kept as source_id"
        if re.search(r"\d[eE]\+?\d\d", str(error)):
            note += "; a spreadsheet has rounded them, and they no longer distinguish galaxies"
        return _read(table, columns, path, tick, kinds, limit, note)


def _read(
    table: TableFile,
    columns: Columns,
    path: Path,
    tick: Callable[[int], None],
    kinds: dict[str, str],
    max_extinction_r: float | None,
    note: str = "",
) -> Records:
    converted = conversions(table, columns)
    num_rows, rules, notes = 0, Counter[str](), dict.fromkeys([*table.notes, *in_words(converted)])
    table.odd_cells.clear()
    with _written(path, table.name) as file:
        for stated in table.batches(kinds):
            batch = _in_units(stated, columns, converted, table.name, notes)
            rows = _records(batch, columns, table.name, first_row=num_rows, has_source_id=bool(note))
            rows["quality"] |= _high_extinction(rows, columns, max_extinction_r)
            rules += _judge_labels(rows, batch, columns)
            rules["extinction missing"] += _num_without_extinction(batch, columns, table.name)
            rules["no position on the sky"] += _num_without_position(rows, columns)
            file.write(rows.tobytes())
            num_rows += len(rows)
            tick(len(rows))
    if not num_rows:
        raise SourceError(f"{table.path} holds no galaxies: it has column names but no rows.")
    notes |= dict.fromkeys([*([note] if note else []), *_odd_cells(table)])
    records = Records(path, num_rows, columns, rules, tuple(notes), bool(note))
    rules["object_id repeated"] = int(repeated(records).sum())
    return records


@contextmanager
def _written(path: Path, source: str) -> Iterator[BinaryIO]:
    """Open the file of records; what cannot be written is said with its place."""
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:  # not of the table: whoever reads it says what is wrong with it
        raise CommandError(
            f"The records of {source} cannot be written to {path.parent}: {error.strerror or error}."
        ) from error


def _in_units(
    stated: Batch, columns: Columns, converted: dict[str, Conversion], source: str, notes: dict[str, None]
) -> dict[str, NDArray[Any]]:
    """Return the columns in the units that are read, and those that are one value of several; notes what was done."""
    batch = dict(stated)
    for name, (column, position) in columns.elements.items():
        values = _widened(batch[column], position + 1)
        if values.ndim != 2 or position >= values.shape[1]:
            num = values.shape[1] if values.ndim == 2 else 1
            raise UsageError(f"FIELDS: {name} asks for value {position}, counted from 0, of {num} in {source}.")
        batch[name] = values[:, position]
    is_text = {columns.single.get(field) for field in ("class", "split", "object_id")}
    for name, values in list(batch.items()):
        if name in converted:
            batch[name] = converted[name](values)
        elif values.dtype.kind == "U" and name not in is_text:
            is_hours = name == columns.single.get("ra")
            batch[name] = degrees_of(values, is_hours=is_hours, source=f"{source}: {name}")
            notes[f"{name} read as {'hours' if is_hours else 'degrees'}, minutes and seconds"] = None
    return batch


def _odd_cells(table: TableFile) -> Iterator[str]:
    for (name, example), num in table.odd_cells.items():
        yield f"{name}: {num:,} {'cell holds' if num == 1 else 'cells hold'} no number, as {example!r}, read as missing"


def _num_without_position(rows: NDArray[Any], columns: Columns) -> int:
    return int(np.isnan(rows["ra_deg"]).sum()) if {"ra", "dec"} <= columns.single.keys() else 0


def repeated(records: Records) -> NDArray[np.bool_]:
    """Return which rows carry an identifier that an earlier row has; holds 17 bytes of memory per row."""
    identifiers = np.empty(records.num_rows, dtype=np.int64)
    for start in range(0, records.num_rows, BATCH_ROWS):
        stop = min(start + BATCH_ROWS, records.num_rows)
        identifiers[start:stop] = records.rows(start, stop)["object_id"]
    ordered = np.sort(identifiers)
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    is_repeated = np.isin(identifiers, several)
    rows = np.flatnonzero(is_repeated)
    is_repeated[rows[np.unique(identifiers[rows], return_index=True)[1]]] = False
    return is_repeated


def _kinds(columns: Columns) -> dict[str, str]:
    kinds = {"object_id": "whole", "class": "text", "split": "text", "ra": "angle", "dec": "angle"}
    special = {name: kinds[field] for field, name in columns.single.items() if field in kinds}
    return {name: special.get(name, "number") for name in columns.names if name != columns.single.get("file")}


def _records(
    batch: Batch, columns: Columns, source: str, *, first_row: int, has_source_id: bool = False
) -> NDArray[Any]:
    num = len(next(iter(batch.values())))
    kind = row_type(len(columns.bands), len(columns.further), has_source_id=has_source_id)
    rows = np.zeros(num, dtype=kind)
    single = columns.single

    def one(field: str) -> NDArray[np.float64]:
        return batch[single[field]] if field in single else np.full(num, np.nan)

    extinction = _extinction(batch, columns, num, source)
    measured = _bands(batch, columns.light, columns.bands, source)
    if first_row == 0 and (fault := fault_of_light(measured, columns)):
        raise SourceError(f"{source}: {fault}")
    rows["magnitudes"] = _magnitudes(
        measured, columns.quantity, columns.bands, np.zeros_like(extinction) if columns.is_dereddened else extinction
    )
    rows["extinction"] = extinction
    rows["flux_error"] = _flux_error(batch, columns, measured, num, source)
    rows["petrosian_minus_model"] = _petrosian_minus_model(batch, columns, rows["magnitudes"], extinction, source)
    for field in ("disc_radius", "bulge_radius", "half_light_radius"):
        value = one(field)
        rows[field] = np.where((value > 0) & (value < MAX_RADIUS_ARCSEC), value, np.nan)
    for field in ("axis_ratio", "bulge_axis_ratio"):
        rows[field] = np.where((one(field) > 0) & (one(field) <= 1), one(field), np.nan)
    fraction = one("bulge_fraction")
    rows["bulge_fraction"] = np.where((fraction >= 0) & (fraction <= 1), fraction, np.nan)
    ra = np.where((one("ra") < 0) & (one("ra") >= -180), one("ra") + 360, one("ra"))
    is_position = (ra >= 0) & (ra <= 360) & (np.abs(one("dec")) <= 90)
    rows["ra_deg"], rows["dec_deg"] = (np.where(is_position, values, np.nan) for values in (ra, one("dec")))
    rows["redshift"] = one("z_spec")
    for number, name in enumerate(columns.further):
        rows["further"][:, number] = batch[name]
    if "split" in single:
        rows["split"] = read_split(batch[single["split"]], f"{source}: {single['split']}")
    rows["object_id"] = np.arange(first_row + 1, first_row + num + 1)
    if has_source_id:
        rows["source_id"] = _source_ids(batch[single["object_id"]], f"{source}: {single['object_id']}")
    elif "object_id" in single:
        rows["object_id"] = batch[single["object_id"]]
    rows["quality"] = _known_flags(rows, measured, columns)
    return rows


def _bands(batch: Batch, names: tuple[str, ...], bands: tuple[str, ...], source: str) -> NDArray[np.float64]:
    """Stack the bands of N galaxies: shape (N, B)."""
    if len(names) == 1:
        stacked = _widened(batch[names[0]], len(bands))
    else:
        absent = np.full(len(next(iter(batch.values()))), np.nan)
        stacked = np.stack([batch[name] if name else absent for name in names], axis=1)
    if stacked.ndim != 2 or stacked.shape[1] != len(bands):
        raise SourceError(
            f"{source}: {', '.join(names)} must hold one value for each of {', '.join(bands)} per galaxy."
        )
    return stacked


def _widened(values: NDArray[Any], num: int) -> NDArray[Any]:
    """Return lists with so many missing values each where no row of the batch has a list."""
    return np.full((len(values), num), np.nan) if values.ndim == 2 and not values.shape[1] else values


def _is_code(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_code: NDArray[np.bool_] = ~np.isfinite(values) | (values == 0) | (values <= -9999)
    return is_code


def _extinction(batch: Batch, columns: Columns, num: int, source: str) -> NDArray[np.float64]:
    """Return the extinction in each band [mag]; 0 where none is stated."""
    value = _stated_extinction(batch, columns, source)
    if value is None:
        return np.zeros((num, len(columns.bands)))
    return np.where(_is_extinction(value), value, 0.0)


def _stated_extinction(batch: Batch, columns: Columns, source: str) -> NDArray[np.float64] | None:
    if columns.extinction:
        return _bands(batch, columns.extinction, columns.bands, source)
    if "ebv" in columns.single:
        coefficients = np.array([SFD_COEFFICIENTS[BANDS.index(band)] for band in columns.bands])
        of_ebv: NDArray[np.float64] = batch[columns.single["ebv"]][:, None] * coefficients
        return of_ebv
    return None


def _refuse_ebv_without_coefficients(columns: Columns, source: str) -> None:
    unknown = [band for band in columns.bands if band not in BANDS]
    if unknown and "ebv" in columns.single and not columns.extinction and not columns.is_dereddened:
        raise SourceError(
            f"{source}: E(B-V) = {columns.single['ebv']} gives the extinction in SDSS {', '.join(BANDS)}; for "
            f'{", ".join(unknown)} give it in columns, FIELDS="ext_{columns.bands[0]}=…,…", or say '
            'FIELDS="dereddened=yes" or "ebv=,dereddened=no".'
        )


def _is_extinction(value: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_extinction: NDArray[np.bool_] = (value >= 0) & (value < MAX_EXTINCTION)
    return is_extinction


def _num_without_extinction(batch: Batch, columns: Columns, source: str) -> int:
    """Count the galaxies that stay as observed although others are corrected."""
    value = _stated_extinction(batch, columns, source)
    if value is None or columns.is_dereddened:
        return 0
    return int(np.sum(~_is_extinction(value).all(axis=1)))


MAX_EXTINCTION = 50.0
"""Larger values are codes for missing ones [mag]."""


def _magnitudes(
    measured: NDArray[np.float64], quantity: str, bands: tuple[str, ...], extinction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Magnitudes corrected for extinction; codes of missing values stay themselves."""
    light = np.where(_is_code(measured), 1.0, measured)
    magnitudes = asinh_magnitudes(light, _softening(bands)) if quantity == "flux" else light
    return np.where(_is_code(measured), measured, magnitudes - extinction)


def _softening(bands: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the softening of asinh magnitudes [maggy]; where SDSS has none, one so small that they are logarithmic."""
    return np.array([ASINH_SOFTENING[BANDS.index(band)] if band in BANDS else LOGARITHMIC for band in bands])


def _flux_error(
    batch: Batch, columns: Columns, measured: NDArray[np.float64], num: int, source: str
) -> NDArray[np.float64]:
    """Return the standard error of the flux as observed [nanomaggy]; NaN where unknown."""
    if not columns.errors:
        return np.full((num, len(columns.bands)), np.nan)
    error = _bands(batch, columns.errors, columns.bands, source)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if columns.error_kind == "inverse variance":
            error = error**-0.5
        if columns.quantity == "magnitude":
            error = error * observed_flux(measured, _softening(columns.bands)) * np.log(10) / 2.5
        return np.where(np.isfinite(error) & (error > 0), error, np.nan)


def _petrosian_minus_model(
    batch: Batch,
    columns: Columns,
    magnitudes: NDArray[np.float64],
    extinction: NDArray[np.float64],
    source: str,
) -> NDArray[np.float64]:
    if not columns.petrosian or columns.petrosian == columns.light:
        return np.full(magnitudes.shape, np.nan)
    light = _bands(batch, columns.petrosian, columns.bands, source)
    petrosian = _magnitudes(light, columns.petrosian_quantity, columns.bands, extinction)
    is_missing = cleaning.missing_bands(petrosian) | cleaning.missing_bands(magnitudes)
    return np.where(is_missing, np.nan, petrosian - magnitudes)


def observed_flux(
    magnitudes: NDArray[np.float64], softening: NDArray[np.float64] = ASINH_SOFTENING
) -> NDArray[np.float64]:
    """Flux [nanomaggy] of asinh magnitudes, shape (N, B): the inverse of `asinh_magnitudes`."""
    flux: NDArray[np.float64] = np.sinh(-np.log(10) / 2.5 * magnitudes - np.log(softening))
    flux *= 2 * softening / NANOMAGGY
    return flux


def _source_ids(texts: NDArray[np.str_], where: str) -> NDArray[np.bytes_]:
    encoded = np.char.encode(texts, "utf-8")
    if encoded.dtype.itemsize > MAX_ID_BYTES:
        longest = max(texts.tolist(), key=len)
        raise SourceError(
            f"{where} holds {longest[:40]!r}…, longer than {MAX_ID_BYTES} bytes: no identifier. "
            'FIELDS="object_id=" leaves it out.'
        )
    return encoded


def _known_flags(rows: NDArray[Any], measured: NDArray[np.float64], columns: Columns) -> NDArray[np.uint8]:
    """Find what the magnitudes of a row do not show."""
    bands = columns.bands
    with np.errstate(over="ignore", invalid="ignore"):
        light = np.where(_is_code(measured), np.nan, measured)
        flux = measured if columns.quantity == "flux" else observed_flux(light, _softening(bands))
        signal_to_noise = np.where(_is_code(measured), np.nan, flux / rows["flux_error"])
    flags = np.zeros(len(rows), dtype=np.uint8)
    # The rule passes over the first of its columns, which is u: the atmosphere leaves little of it.
    counted = signal_to_noise[:, [band != "u" for band in bands]]
    flags[cleaning.has_low_signal(np.insert(counted, 0, np.nan, axis=1))] |= Quality.LOW_SIGNAL.value
    return flags


def _high_extinction(rows: NDArray[Any], columns: Columns, limit: float | None) -> NDArray[np.uint8]:
    """Flag what the magnitudes do not show either, once they are corrected."""
    if "r" not in columns.bands:
        return np.zeros(len(rows), dtype=np.uint8)
    is_high = cleaning.has_high_extinction(rows["extinction"][:, columns.bands.index("r")], limit)
    return is_high * np.uint8(Quality.HIGH_EXTINCTION.value)


def _judge_labels(rows: NDArray[Any], batch: Batch, columns: Columns) -> Counter[str]:
    """Take the label from rows whose spectrum is not that of a galaxy, well measured; count the reasons.

    A flag without a value says nothing, and costs no label.
    """
    single, has_label = columns.single, cleaning.is_label(rows["redshift"])
    reasons: dict[str, NDArray[np.bool_]] = {}
    if "z_warning" in single:
        reasons["zWarning not 0"] = np.nan_to_num(batch[single["z_warning"]], nan=0) != 0
    if "class" in single:
        reasons["class not GALAXY"] = ~np.isin(np.char.upper(batch[single["class"]]), ("GALAXY", ""))
    if "clean" in single:
        reasons["clean not 1"] = np.nan_to_num(batch[single["clean"]], nan=1) != 1
    for is_bad in reasons.values():
        rows["redshift"][is_bad & has_label] = np.nan
    return Counter({rule: int((is_bad & has_label).sum()) for rule, is_bad in reasons.items()})
