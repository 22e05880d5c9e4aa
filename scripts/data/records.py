"""Galaxies of a user's table in one form: units checked, corrected for extinction, identified, labels judged."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference import cleaning
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.data.columns import BANDS, Columns, recognize
from scripts.data.light import fault_of_light
from scripts.data.split_column import read_split
from scripts.data.units import conversions, degrees_of, in_words
from scripts.data.user_table import Batch, TableFile
from scripts.simulation.photometry import ASINH_SOFTENING, NANOMAGGY, asinh_magnitudes

SFD_COEFFICIENTS = np.array([4.239, 3.303, 2.285, 1.698, 1.263])
"""Extinction in SDSS u, g, r, i, z per E(B-V) of Schlegel, Finkbeiner & Davis 1998, for R_V = 3.1 (Schlafly &
Finkbeiner 2011, ApJ 737, 103, table 6)."""

MAX_RADIUS_ARCSEC = 100.0
LOGARITHMIC = 1e-14
"""Softening far below the light of any galaxy, magnitude 35 [maggy]: negative light becomes a magnitude above 30."""


def row_type(num_bands: int = len(BANDS), num_further: int = 0) -> np.dtype[Any]:
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

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the records from `start` to before `stop`."""
        kind = row_type(len(self.columns.bands), len(self.columns.further))
        return np.fromfile(self.path, dtype=kind, count=stop - start, offset=start * kind.itemsize)


def read_records(
    table: TableFile,
    fields: str,
    path: Path,
    tick: Callable[[int], None] = lambda _: None,
    *,
    bands: tuple[str, ...] = BANDS,
    further: Sequence[str] = (),
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
    bands : tuple of str
        Bands to read.
    further : sequence of str
        Further numbers to read.

    Raises
    ------
    SourceError
        If a column is not what it is read as, or the table has no rows. What is wrong with single galaxies is kept.
    """
    columns = recognize(table.columns, fields, source=table.name, bands=bands, further=further)
    _refuse_ebv_without_coefficients(columns, table.name)
    converted = conversions(table, columns)
    num_rows, rules, notes = 0, Counter[str](), dict.fromkeys([*table.notes, *in_words(converted)])
    with path.open("wb") as file:
        for stated in table.batches(_kinds(columns)):
            batch = dict(stated)
            for name, values in stated.items():
                if name in (columns.single.get("class"), columns.single.get("split")):
                    continue
                if values.dtype.kind == "U":
                    is_hours = name == columns.single.get("ra")
                    batch[name] = degrees_of(values, is_hours=is_hours, source=f"{table.name}: {name}")
                    notes[f"{name} read as {'hours' if is_hours else 'degrees'}, minutes and seconds"] = None
                elif name in converted:
                    batch[name] = converted[name](values)
            rows = _records(batch, columns, table.name, first_row=num_rows)
            rules += _judge_labels(rows, batch, columns)
            rules["extinction missing"] += _num_without_extinction(batch, columns, table.name)
            rows.tofile(file)
            num_rows += len(rows)
            tick(len(rows))
    if not num_rows:
        raise SourceError(f"{table.path} has column names but no rows.")
    records = Records(path, num_rows, columns, rules, tuple(notes))
    rules["object_id repeated"] = int(repeated(records).sum())
    return records


def repeated(records: Records) -> NDArray[np.bool_]:
    """Return which rows carry an identifier that an earlier row has; holds 17 bytes of memory per row."""
    identifiers = np.empty(records.num_rows, dtype=np.int64)
    for start in range(0, records.num_rows, 100_000):
        stop = min(start + 100_000, records.num_rows)
        identifiers[start:stop] = records.rows(start, stop)["object_id"]
    ordered = np.sort(identifiers)
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    is_repeated = np.zeros(records.num_rows, dtype=bool)
    if len(several):
        rows = np.flatnonzero(np.isin(identifiers, several))
        is_repeated[rows] = True
        is_repeated[rows[np.unique(identifiers[rows], return_index=True)[1]]] = False
    return is_repeated


def _kinds(columns: Columns) -> dict[str, str]:
    kinds = {"object_id": "whole", "class": "text", "split": "text", "ra": "angle", "dec": "angle"}
    special = {name: kinds[field] for field, name in columns.single.items() if field in kinds}
    return {name: special.get(name, "number") for name in columns.names if name != columns.single.get("file")}


def _records(batch: Batch, columns: Columns, source: str, *, first_row: int) -> NDArray[Any]:
    num = len(next(iter(batch.values())))
    rows = np.zeros(num, dtype=row_type(len(columns.bands), len(columns.further)))
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
    is_position = (one("ra") >= 0) & (one("ra") <= 360) & (np.abs(one("dec")) <= 90)
    rows["ra_deg"], rows["dec_deg"] = (np.where(is_position, one(field), np.nan) for field in ("ra", "dec"))
    rows["redshift"] = one("z_spec")
    for number, name in enumerate(columns.further):
        rows["further"][:, number] = batch[name]
    if "split" in single:
        rows["split"] = read_split(batch[single["split"]], f"{source}: {single['split']}")
    rows["object_id"] = _identify(batch, columns, num, source, first_row)
    rows["quality"] = _known_flags(rows, measured, columns)
    return rows


def _bands(batch: Batch, names: tuple[str, ...], bands: tuple[str, ...], source: str) -> NDArray[np.float64]:
    """Stack the bands of N galaxies: shape (N, B)."""
    stacked = batch[names[0]] if len(names) == 1 else np.stack([batch[name] for name in names], axis=1)
    if stacked.ndim != 2 or stacked.shape[1] != len(bands):
        raise SourceError(
            f"{source}: {', '.join(names)} must hold one value for each of {', '.join(bands)} per galaxy."
        )
    return stacked


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


def _identify(batch: Batch, columns: Columns, num: int, source: str, first_row: int) -> NDArray[np.int64]:
    if "object_id" not in columns.single:
        return np.arange(first_row + 1, first_row + num + 1, dtype=np.int64)
    name = columns.single["object_id"]
    identifiers: NDArray[np.int64] = batch[name]
    if (identifiers < 0).any():
        row = int(np.flatnonzero(identifiers < 0)[0])
        raise SourceError(
            f"{source}: {name} is {identifiers[row]} in row {first_row + row + 1}; identifiers are not negative. "
            'FIELDS="object_id=" numbers the rows instead.'
        )
    return identifiers


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
    if "r" in bands:
        flags[cleaning.has_high_extinction(rows["extinction"][:, bands.index("r")])] |= Quality.HIGH_EXTINCTION.value
    return flags


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
