"""Which column of a table means what: names that surveys use, and those the user gives."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scripts.command.errors import SourceError, UsageError

BANDS = "ugriz"
Quantity = Literal["magnitude", "flux"]
ErrorKind = Literal["sigma", "inverse variance"]


@dataclass(frozen=True)
class BandNames:
    """Names of five columns, or of one column with five values, with ``{b}`` for the band."""

    pattern: str
    quantity: Quantity
    errors: tuple[tuple[str, ErrorKind], ...] = ()
    is_dereddened: bool = False


# The first that a table has is read. Names are compared without regard to case.
LIGHT = (
    BandNames("dered_{b}", "magnitude", (("modelMagErr_{b}", "sigma"), ("err_{b}", "sigma")), is_dereddened=True),
    BandNames("modelMag_{b}", "magnitude", (("modelMagErr_{b}", "sigma"), ("err_{b}", "sigma"))),
    BandNames("modelFlux_{b}", "flux", (("modelFluxIvar_{b}", "inverse variance"),)),
    BandNames("modelFlux", "flux", (("modelFlux_ivar", "inverse variance"),)),
    BandNames("cModelMag_{b}", "magnitude", (("cModelMagErr_{b}", "sigma"),)),
    BandNames("cModelFlux_{b}", "flux", (("cModelFluxIvar_{b}", "inverse variance"),)),
    BandNames("cModelFlux", "flux", (("cModelFlux_ivar", "inverse variance"),)),
    BandNames("mag_{b}", "magnitude", (("magerr_{b}", "sigma"), ("mag_err_{b}", "sigma"), ("err_{b}", "sigma"))),
    BandNames("{b}mag", "magnitude", (("e_{b}mag", "sigma"),)),
    BandNames("{b}_mag", "magnitude", (("{b}_magerr", "sigma"), ("{b}_err", "sigma"))),
    BandNames(
        "flux_{b}",
        "flux",
        (("flux_err_{b}", "sigma"), ("fluxerr_{b}", "sigma"), ("flux_ivar_{b}", "inverse variance")),
    ),
    BandNames("{b}", "magnitude", (("err_{b}", "sigma"), ("{b}_err", "sigma"), ("{b}err", "sigma"))),
    BandNames("petroMag_{b}", "magnitude", (("petroMagErr_{b}", "sigma"),)),
    BandNames("petroFlux_{b}", "flux", (("petroFluxIvar_{b}", "inverse variance"),)),
    BandNames("psfMag_{b}", "magnitude", (("psfMagErr_{b}", "sigma"),)),
)
PETROSIAN = (
    BandNames("petroMag_{b}", "magnitude"),
    BandNames("petroFlux_{b}", "flux"),
    BandNames("petroFlux", "flux"),
)
EXTINCTION = ("ext_{b}", "extinction_{b}", "extinction", "A_{b}")

SINGLE = {
    "object_id": ("object_id", "objid", "objectid", "obj_id", "id", "source_id", "dr8objid", "specobjid"),
    "ra": ("ra", "ra_deg", "raj2000", "plug_ra", "alpha_j2000"),
    "dec": ("dec", "dec_deg", "dej2000", "decj2000", "plug_dec", "delta_j2000"),
    "z_spec": ("z_spec", "zspec", "specz", "spec_z", "redshift", "z_sp", "zsp", "z"),
    "z_warning": ("zwarning", "z_warning", "zwarn"),
    "class": ("class", "spectype"),
    "clean": ("clean",),
    "ebv": ("ebv", "e_bv", "e(b-v)", "sfd_ebv"),
    "disc_radius": ("expRad_r", "disc_radius", "disk_radius"),
    "bulge_radius": ("deVRad_r", "bulge_radius"),
    "half_light_radius": ("petroR50_r", "r50", "half_light_radius"),
    "axis_ratio": ("expAB_r", "deVAB_r", "axis_ratio"),
    "file": ("file", "filename", "cutout", "path"),
}
"""Names that columns with one value per galaxy go by; radii are in arcsec, `ra` and `dec` in degrees."""

GIVEN = {"{b}": "magnitude", "flux_{b}": "flux", "err_{b}": "error", "ext_{b}": "extinction", "petro_{b}": "Petrosian"}
"""What can be named for each band, with the band in the place of ``{b}``."""


@dataclass(frozen=True)
class Columns:
    """The columns of one table that are read."""

    light: tuple[str, ...]
    """Five columns, or one with five values per galaxy."""

    quantity: Quantity
    is_dereddened: bool
    errors: tuple[str, ...]
    error_kind: ErrorKind
    extinction: tuple[str, ...]
    petrosian: tuple[str, ...]
    petrosian_quantity: Quantity
    single: Mapping[str, str]
    """Field to column."""
    units: Mapping[str, str]
    """Column to the unit that the user says it is in."""

    @property
    def names(self) -> list[str]:
        """Every column to read, once."""
        return list(
            dict.fromkeys([*self.light, *self.errors, *self.extinction, *self.petrosian, *self.single.values()])
        )

    def describe(self) -> str:
        """Say in one line what is read as what."""
        state = "corrected for extinction" if self.is_dereddened else "as observed"
        unit = "mag" if self.quantity == "magnitude" else "nanomaggies"
        others = [f"{field} = {name}" for field, name in self.single.items()]
        return "; ".join([f"{self.quantity} = {in_short(self.light)} [{unit}], {state}", *others])


def in_short(names: Sequence[str]) -> str:
    """Name the first and the last of some columns."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def recognize(names: Sequence[str], given: str, *, source: str) -> Columns:
    """Decide which columns of a table to read.

    Parameters
    ----------
    names : sequence of str
        Columns of the table.
    given : str
        The user's own, as in ``u=MAG_U,g=MAG_G,z_spec=ZBEST`` or, with a unit, ``flux_u=F_U[nJy]``; a field without a
        column (``z_spec=``) is not read.
    source : str
        The table, for messages.

    Raises
    ------
    SourceError
        If five bands cannot be found.
    UsageError
        If a name given is not there.
    """
    given_columns, units = _parse(given, names)
    chosen = _Chosen(names, given_columns, source)
    light, errors, kind = chosen.light()
    petrosian = chosen.petrosian(light)
    return Columns(
        light=chosen.columns(light.pattern),
        quantity=light.quantity,
        is_dereddened=light.is_dereddened,
        errors=errors,
        error_kind=kind,
        extinction=chosen.extinction(),
        petrosian=chosen.columns(petrosian.pattern) if petrosian else (),
        petrosian_quantity=petrosian.quantity if petrosian else light.quantity,
        single=dict(chosen.single(taken=chosen.columns(light.pattern))),
        units=units,
    )


def _parse(given: str, names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read FIELDS: field to column, and column to unit."""
    fields, units = {}, {}
    for part in filter(str.strip, given.split(",")):
        name, is_pair, column = (piece.strip() for piece in part.partition("="))
        if not is_pair or name not in _ALLOWED:
            raise UsageError(
                f"FIELDS: {part.strip()!r} is not field=column with one of the fields {', '.join(SINGLE)}, "
                f"{', '.join(pattern.format(b='u') for pattern in GIVEN)} (and so on for g, r, i, z)."
            )
        if column not in names and (with_unit := re.fullmatch(r"(.*\S)\s*\[(.+)\]", column)):
            column, units[with_unit[1]] = with_unit.groups()
        fields[name] = column
    return fields, units


_GIVEN_LIGHT = (BandNames("{b}", "magnitude"), BandNames("flux_{b}", "flux"))
_ALLOWED = {*SINGLE, *(pattern.format(b=band) for pattern in GIVEN for band in BANDS)}


class _Chosen:
    def __init__(self, names: Sequence[str], given: dict[str, str], source: str) -> None:
        self._names, self._given, self._source = list(names), given, source
        for field, column in given.items():
            if column and column not in self._names:
                raise UsageError(f"{source} has no column {column}, which FIELDS names as {field}. {self._found()}")
        self._given_bands = {
            pattern: self._all_given(pattern)
            for pattern in GIVEN
            if any(pattern.format(b=band) in given for band in BANDS)
        }

    def light(self) -> tuple[BandNames, tuple[str, ...], ErrorKind]:
        given = [names for names in _GIVEN_LIGHT if names.pattern in self._given_bands]
        for names in given or LIGHT:
            if self.columns(names.pattern):
                for pattern, kind in (("err_{b}", "sigma"), *names.errors):
                    if errors := self.columns(pattern):
                        return names, errors, kind
                return names, (), "sigma"
        raise SourceError(
            f"{self._source}: {self._nearest()} {self._found()} "
            'Name them as in FIELDS="u=MAG_U,g=MAG_G,…" for magnitudes or "flux_u=F_U,…" for nanomaggies.'
        )

    def columns(self, pattern: str) -> tuple[str, ...]:
        if pattern in self._given_bands:
            return self._given_bands[pattern]
        wanted = [pattern] if "{b}" not in pattern else [pattern.format(b=band) for band in BANDS]
        # A table may distinguish the band z from the redshift Z by the case of the letter alone.
        for spell in (str, str.lower, str.upper):
            if set(spelled := [spell(name) for name in wanted]) <= set(self._names):
                return tuple(spelled)
        found = [next(self._find(name), "") for name in wanted]
        return tuple(found) if all(found) else ()

    def petrosian(self, light: BandNames) -> BandNames | None:
        given = BandNames("petro_{b}", light.quantity)
        return next((names for names in (given, *PETROSIAN) if self.columns(names.pattern)), None)

    def extinction(self) -> tuple[str, ...]:
        return next((found for pattern in EXTINCTION if (found := self.columns(pattern))), ())

    def single(self, taken: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for field, aliases in SINGLE.items():
            if field in self._given:
                if self._given[field]:
                    yield field, self._given[field]
                continue
            found = [name for alias in aliases for name in self._find(alias) if name not in taken]
            if found:
                yield field, found[0]

    def _find(self, name: str) -> Iterator[str]:
        """Yield the columns of that name, the same case first."""
        yield from (found for found in self._names if found == name)
        yield from (found for found in self._names if found != name and found.lower() == name.lower())

    def _all_given(self, pattern: str) -> tuple[str, ...]:
        fields = [pattern.format(b=band) for band in BANDS]
        missing = [field for field in fields if not self._given.get(field)]
        if missing:
            raise UsageError(f"FIELDS names only some bands of {fields[0]}: {', '.join(missing)} must be given too.")
        return tuple(self._given[field] for field in fields)

    def _nearest(self) -> str:
        for names in LIGHT:
            bands = [band for band in BANDS if any(self._find(names.pattern.format(b=band)))]
            if len(bands) >= 2 and "{b}" in names.pattern:
                missing = [names.pattern.format(b=band) for band in BANDS if band not in bands]
                return f"{', '.join(missing)} is missing next to {names.pattern.format(b=bands[0])}."
        return "no magnitudes or fluxes in u, g, r, i, z were recognized."

    def _found(self) -> str:
        shown = ", ".join(self._names[:30]) + (f" and {len(self._names) - 30} more" if len(self._names) > 30 else "")
        return f"Columns found: {shown or 'none'}."
