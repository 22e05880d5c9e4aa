"""Galaxies of a user's table in one form: units checked, corrected for extinction, identified, labels judged."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference import cleaning
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.data.columns import Columns, recognize
from scripts.data.light import fault_of_light
from scripts.data.units import conversions, degrees_of, in_words
from scripts.data.user_table import Batch, TableFile
from scripts.simulation.photometry import ASINH_SOFTENING, NANOMAGGY, asinh_magnitudes

SFD_COEFFICIENTS = np.array([5.155, 3.793, 2.751, 2.086, 1.479])
"""Extinction in u, g, r, i, z per E(B-V) of Schlegel, Finkbeiner & Davis 1998 (Stoughton et al. 2002, table 22)."""

MAX_RADIUS_ARCSEC = 100.0

ROW = np.dtype(
    [
        ("object_id", "i8"),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("magnitudes", "f8", 5),
        ("extinction", "f8", 5),
        ("flux_error", "f8", 5),
        ("petrosian_minus_model", "f8", 5),
        ("disc_radius", "f8"),
        ("bulge_radius", "f8"),
        ("half_light_radius", "f8"),
        ("axis_ratio", "f8"),
        ("redshift", "f8"),
        ("quality", "u1"),
    ]
)
"""One galaxy. Magnitudes are dereddened; codes of missing ones (-9999, 0, NaN) stay as they are. NaN is unknown."""


@dataclass(frozen=True)
class Records:
    """Galaxies on disk, so that any number is read by row and by any process."""

    path: Path
    """File of `ROW` records."""

    num_rows: int
    columns: Columns
    """What was read as what."""

    rules: Counter[str]
    """Rules of the report that only the table shows."""

    notes: tuple[str, ...] = ()
    """What was converted, or read in an unusual way."""

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the records from `start` to before `stop`."""
        return np.fromfile(self.path, dtype=ROW, count=stop - start, offset=start * ROW.itemsize)


def read_records(table: TableFile, fields: str, path: Path, tick: Callable[[int], None] = lambda _: None) -> Records:
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

    Raises
    ------
    SourceError
        If a column is not what it is read as, or the table has no rows. What is wrong with single galaxies is kept.
    """
    columns = recognize(table.columns, fields, source=table.name)
    converted = conversions(table, columns)
    num_rows, rules, notes = 0, Counter[str](), dict.fromkeys([*table.notes, *in_words(converted)])
    with path.open("wb") as file:
        for stated in table.batches(_kinds(columns)):
            batch = dict(stated)
            for name, values in stated.items():
                if name == columns.single.get("class"):
                    continue
                if values.dtype.kind == "U":
                    is_hours = name == columns.single.get("ra")
                    batch[name] = degrees_of(values, is_hours=is_hours, source=f"{table.name}: {name}")
                    notes[f"{name} read as {'hours' if is_hours else 'degrees'}, minutes and seconds"] = None
                elif name in converted:
                    batch[name] = converted[name](values)
            rows = _records(batch, columns, table.name, first_row=num_rows)
            rules += _judge_labels(rows, batch, columns)
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
    kinds = {"object_id": "whole", "class": "text", "ra": "angle", "dec": "angle"}
    special = {name: kinds[field] for field, name in columns.single.items() if field in kinds}
    return {name: special.get(name, "number") for name in columns.names if name != columns.single.get("file")}


def _records(batch: Batch, columns: Columns, source: str, *, first_row: int) -> NDArray[Any]:
    num = len(next(iter(batch.values())))
    rows = np.zeros(num, dtype=ROW)
    single = columns.single

    def one(field: str) -> NDArray[np.float64]:
        return batch[single[field]] if field in single else np.full(num, np.nan)

    extinction = _extinction(batch, columns, num, source)
    measured = _bands(batch, columns.light, source)
    if first_row == 0 and (fault := fault_of_light(measured, columns)):
        raise SourceError(f"{source}: {fault}")
    rows["magnitudes"] = _magnitudes(measured, columns.quantity, np.zeros(5) if columns.is_dereddened else extinction)
    rows["extinction"] = extinction
    rows["flux_error"] = _flux_error(batch, columns, measured, num, source)
    rows["petrosian_minus_model"] = _petrosian_minus_model(batch, columns, rows["magnitudes"], extinction, source)
    for field in ("disc_radius", "bulge_radius", "half_light_radius"):
        value = one(field)
        rows[field] = np.where((value > 0) & (value < MAX_RADIUS_ARCSEC), value, np.nan)
    rows["axis_ratio"] = np.where((one("axis_ratio") > 0) & (one("axis_ratio") <= 1), one("axis_ratio"), np.nan)
    is_position = (one("ra") >= 0) & (one("ra") <= 360) & (np.abs(one("dec")) <= 90)
    rows["ra_deg"], rows["dec_deg"] = (np.where(is_position, one(field), np.nan) for field in ("ra", "dec"))
    rows["redshift"] = one("z_spec")
    rows["object_id"] = _identify(batch, columns, num, source, first_row)
    rows["quality"] = _known_flags(rows, measured, columns)
    return rows


def _bands(batch: Batch, names: tuple[str, ...], source: str) -> NDArray[np.float64]:
    """Stack the bands of N galaxies: shape (N, 5)."""
    stacked = batch[names[0]] if len(names) == 1 else np.stack([batch[name] for name in names], axis=1)
    if stacked.ndim != 2 or stacked.shape[1] != 5:
        raise SourceError(f"{source}: {', '.join(names)} must hold one value for each of u, g, r, i, z per galaxy.")
    return stacked


def _is_code(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_code: NDArray[np.bool_] = ~np.isfinite(values) | (values == 0) | (values <= -9999)
    return is_code


def _extinction(batch: Batch, columns: Columns, num: int, source: str) -> NDArray[np.float64]:
    if columns.extinction:
        value = _bands(batch, columns.extinction, source)
    elif "ebv" in columns.single:
        value = batch[columns.single["ebv"]][:, None] * SFD_COEFFICIENTS
    else:
        return np.zeros((num, 5))
    return np.where((value >= 0) & (value < MAX_EXTINCTION), value, 0.0)


MAX_EXTINCTION = 50.0
"""Larger values are codes for missing ones [mag]."""


def _magnitudes(measured: NDArray[np.float64], quantity: str, extinction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnitudes corrected for extinction; codes of missing values stay themselves."""
    light = np.where(_is_code(measured), 1.0, measured)
    magnitudes = asinh_magnitudes(light) if quantity == "flux" else light
    return np.where(_is_code(measured), measured, magnitudes - extinction)


def _flux_error(
    batch: Batch, columns: Columns, measured: NDArray[np.float64], num: int, source: str
) -> NDArray[np.float64]:
    """Return the standard error of the flux as observed [nanomaggy]; NaN where unknown."""
    if not columns.errors:
        return np.full((num, 5), np.nan)
    error = _bands(batch, columns.errors, source)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if columns.error_kind == "inverse variance":
            error = error**-0.5
        if columns.quantity == "magnitude":
            error = error * observed_flux(measured) * np.log(10) / 2.5
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
    petrosian = _magnitudes(_bands(batch, columns.petrosian, source), columns.petrosian_quantity, extinction)
    is_missing = cleaning.missing_bands(petrosian) | cleaning.missing_bands(magnitudes)
    return np.where(is_missing, np.nan, petrosian - magnitudes)


def observed_flux(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flux [nanomaggy] of asinh magnitudes, shape (N, 5): the inverse of `asinh_magnitudes`."""
    flux: NDArray[np.float64] = np.sinh(-np.log(10) / 2.5 * magnitudes - np.log(ASINH_SOFTENING))
    flux *= 2 * ASINH_SOFTENING / NANOMAGGY
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
    with np.errstate(over="ignore", invalid="ignore"):
        flux = measured if columns.quantity == "flux" else observed_flux(np.where(_is_code(measured), np.nan, measured))
        signal_to_noise = np.where(_is_code(measured), np.nan, flux / rows["flux_error"])
    flags = np.zeros(len(rows), dtype=np.uint8)
    flags[cleaning.has_low_signal(signal_to_noise)] |= Quality.LOW_SIGNAL.value
    flags[cleaning.has_high_extinction(rows["extinction"][:, 2])] |= Quality.HIGH_EXTINCTION.value
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
