"""In what unit a column is, and its values in the unit that is read."""

import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from scripts.command.errors import SourceError
from scripts.data.columns import Columns, in_short
from scripts.data.table_file import TableFile

AB = u.zero_point_flux(3631 * u.Jy)
"""Magnitude 0 is 1 maggy is 3631 Jy."""

NEEDED = {
    "magnitude": u.mag,
    "magnitude error": u.mag,
    "flux": u.nmgy,
    "radius": u.arcsec,
    "position": u.deg,
    "redshift": u.dimensionless_unscaled,
}
NAMES = {u.mag: "mag", u.nmgy: "nanomaggy", u.arcsec: "arcsec", u.deg: "degree", u.dimensionless_unscaled: "no unit"}

SPELLINGS = {
    r"\b(nano-?magg(y|ies)|nano-?mgy|nmgy)\b": "nmgy",
    r"\b(micro-?|u)jy\b": "uJy",
    r"\b(nano-?|n)jy\b": "nJy",
    r"\b(ab|asinh)[ _]?mag\b|\b(ab )?magnitudes?\b|\bluptitudes?\b": "mag",
    r"^\"$|^''$|\barc-?sec(ond)?s?\b": "arcsec",
    r"\bdegrees?\b": "deg",
    r"\bradians?\b": "rad",
    r"^\"?h:m:s\"?$": "hourangle",
    r"^\"?d:m:s\"?$": "deg",
}
"""What surveys write, and what astropy reads."""

CODES = (-9_999.0, -99_999.0, -999_999.0)
"""Of missing values: no unit changes them."""


@dataclass(frozen=True)
class Conversion:
    """How values in a stated unit become those that are read."""

    unit: str
    needed: str
    factor: float
    offset: float

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert; NaN and codes of missing values stay what they are."""
        return np.where(np.isin(values, CODES), values, values * self.factor + self.offset)


def read_unit(text: str) -> Any:
    """Read a unit as surveys write it.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    spelled = text.strip()
    for pattern, name in SPELLINGS.items():
        spelled = re.sub(pattern, name, spelled, flags=re.IGNORECASE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return u.Unit(spelled)
        except ValueError:
            return u.Unit(spelled.lower())


def conversion(text: str, quantity: str, *, is_inverse_variance: bool = False) -> Conversion:
    """Find how values of a stated unit become magnitudes (AB), nanomaggies, arcsec or degrees.

    Parameters
    ----------
    text : str
        The unit as stated.
    quantity : str
        Key of `NEEDED`.
    is_inverse_variance : bool
        Whether the values are 1 over the square of errors, and the unit too.

    Raises
    ------
    ValueError
        If the unit is none, or has another dimension.
    """
    unit, needed, offset = read_unit(text), NEEDED[quantity], 0.0
    if is_inverse_variance:
        unit = unit**-0.5
    if isinstance(unit, u.MagUnit) and needed == u.mag:
        if quantity == "magnitude" and unit.physical_unit != u.AB:
            offset = -2.5 * np.log10(unit.physical_unit.to(u.mgy, equivalencies=AB))
        unit = unit.function_unit
    # A cutout's pixel is what its flux is in.
    per_pixel = unit * u.pix if quantity == "flux" and u.pix in getattr(unit, "bases", ()) else unit
    factor = per_pixel.to(needed, equivalencies=AB) ** (-2 if is_inverse_variance else 1)
    return Conversion(text, NAMES[needed], float(factor), float(offset))


def conversions(table: TableFile, columns: Columns) -> dict[str, Conversion]:
    """Find which columns must be converted; those without a unit are taken to be in the one that is read.

    Raises
    ------
    SourceError
        If a column's unit is of another kind.
    """
    of_elements = {name: table.units.get(column, "") for name, (column, _) in columns.elements.items()}
    usual = dict.fromkeys(columns.light, columns.usual_unit)
    stated = {**usual, **table.units, **of_elements, **columns.units}
    found = {}
    for name, field, quantity in _quantities(columns):
        unit = stated.get(name, "")
        is_inverse = field == "error" and columns.error_kind == "inverse variance"
        # An error without a unit is in that of its flux.
        of_light = stated.get(columns.light[columns.errors.index(name)], "") if field == "error" and not unit else ""
        unit = unit or of_light
        if not unit:
            continue
        try:
            found[name] = conversion(unit, quantity, is_inverse_variance=is_inverse and not of_light)
            if is_inverse and of_light:
                found[name] = replace(found[name], unit=f"{unit}^-2", factor=found[name].factor ** -2)
        except (ValueError, TypeError) as error:
            if quantity == "redshift" and not isinstance(error, u.UnitsError):
                continue  # such as "none"
            raise SourceError(f"{table.name}: {name} is in {unit!r}; {_what_helps(field, quantity, unit)}") from error
    return {name: one for name, one in found.items() if (one.factor, one.offset) != (1, 0)}


SEXAGESIMAL = re.compile(r"([+-]?)(\d+)[:hd°\s]\s*(\d+)[:m'\s]\s*(\d+(?:\.\d*)?)[s\"]?")


def degrees_of(text: NDArray[np.str_], *, is_hours: bool, source: str) -> NDArray[np.float64]:
    """Read angles such as 12:34:00.5, of hours or degrees, or degrees; what is none is NaN [degree].

    Raises
    ------
    SourceError
        If no text is an angle; `source` names the column.
    """
    # astropy's Angle takes a third of a millisecond for each.
    degrees = np.full(len(text), np.nan)
    for row, value in enumerate(text.tolist()):
        if found := SEXAGESIMAL.fullmatch(value):
            sign, whole, minutes, seconds = found.groups()
            size = (int(whole) + int(minutes) / 60 + float(seconds) / 3600) * (15 if is_hours else 1)
            degrees[row] = -size if sign == "-" else size
        elif value:
            with suppress(ValueError):
                degrees[row] = float(value.replace("D", "e"))  # as Fortran writes exponents
    stated = [value for value in text.tolist() if value]
    if stated and np.isnan(degrees).all():
        raise SourceError(f"{source} holds {stated[0]!r}, which is not an angle such as 12:34:00.5.")
    return degrees


def in_words(found: dict[str, Conversion]) -> Iterator[str]:
    """Say what is converted, one line for each unit."""
    for one in dict.fromkeys(found.values()):
        names = [name for name, other in found.items() if other == one]
        yield f"{in_short(names)} converted from {one.unit} to {one.needed}"


def _quantities(columns: Columns) -> Iterator[tuple[str, str, str]]:
    """Yield column, field and quantity."""
    for name in columns.errors:
        yield name, "error", "magnitude error" if columns.quantity == "magnitude" else "flux"
    yield from ((name, "petro_u", columns.petrosian_quantity) for name in columns.petrosian)
    yield from ((name, "u", columns.quantity) for name in columns.light)
    yield from ((name, "ext_u", "magnitude error") for name in columns.extinction)
    of_field = {
        **dict.fromkeys(("disc_radius", "bulge_radius", "half_light_radius"), "radius"),
        **dict.fromkeys(("ra", "dec"), "position"),
        "ebv": "magnitude error",
        "z_spec": "redshift",
    }
    yield from ((name, field, of_field[field]) for field, name in columns.single.items() if field in of_field)


def _what_helps(field: str, quantity: str, text: str) -> str:
    needed = f"{NAMES[NEEDED[quantity]]} is needed."
    for other, fields in (("flux", "flux_u=…,flux_g=…,…"), ("magnitude", "u=…,g=…,…")):
        if field == "u" and other != quantity:
            try:
                conversion(text, other)
            except (ValueError, TypeError):
                continue
            return f'{needed} If it is a {other}, say so: FIELDS="{fields}".'
    if quantity == "flux":
        return f"{needed} Units of flux density, such as nJy, are converted; calibrate others first."
    if quantity == "magnitude":
        return f"{needed} Convert it first."
    return f'{needed} Convert it first, or leave it out with an empty field, as in FIELDS="{field}=".'
