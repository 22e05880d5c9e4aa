"""Which column of a table means what: names that surveys use, and those the user gives."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scripts.command.errors import SourceError, UsageError

BANDS = ("u", "g", "r", "i", "z")
"""Of SDSS: what is looked for where nothing else is asked for."""
COEFFICIENTS_SOURCE = "coefficients of Schlafly & Finkbeiner 2011"
Quantity = Literal["magnitude", "flux"]
ErrorKind = Literal["sigma", "inverse variance"]


@dataclass(frozen=True)
class BandNames:
    """Names of a column per band, or of one column with a value per band, with ``{b}`` for the band."""

    pattern: str
    quantity: Quantity
    errors: tuple[tuple[str, ErrorKind], ...] = ()
    is_dereddened: bool = False
    unit: str = ""
    """What a survey measures them in, where its files need not say it."""


# The first that a table has is read. Names are compared without regard to case.
LIGHT = (
    BandNames("dered_{b}", "magnitude", (("modelMagErr_{b}", "sigma"), ("err_{b}", "sigma")), is_dereddened=True),
    BandNames("modelMag_{b}", "magnitude", (("modelMagErr_{b}", "sigma"), ("err_{b}", "sigma"))),
    BandNames("modelFlux_{b}", "flux", (("modelFluxIvar_{b}", "inverse variance"),)),
    BandNames("modelFlux", "flux", (("modelFlux_ivar", "inverse variance"),)),
    BandNames("dered_mag_{b}", "magnitude", is_dereddened=True),
    BandNames("dered_flux_{b}", "flux", is_dereddened=True),
    BandNames("MAG_AUTO_{b}_DERED", "magnitude", (("MAGERR_AUTO_{b}", "sigma"),), is_dereddened=True),
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
    BandNames("magnitudes", "magnitude"),
    BandNames("{b}_cModelMag", "magnitude", (("{b}_cModelMagErr", "sigma"),)),
    BandNames("{b}_cModelFlux", "flux", (("{b}_cModelFluxErr", "sigma"),), unit="nJy"),
    BandNames("{b}_free_cModelFlux", "flux", (("{b}_free_cModelFluxErr", "sigma"),), unit="nJy"),
    BandNames("{b}_cmodel_mag", "magnitude", (("{b}_cmodel_magerr", "sigma"), ("{b}_cmodel_magsigma", "sigma"))),
    BandNames(
        "{b}_cmodel_flux", "flux", (("{b}_cmodel_fluxerr", "sigma"), ("{b}_cmodel_fluxsigma", "sigma")), unit="nJy"
    ),
    BandNames("mag_{b}_cModel", "magnitude", (("magerr_{b}_cModel", "sigma"),)),
    BandNames("MAG_GAAP_{b}", "magnitude", (("MAGERR_GAAP_{b}", "sigma"),)),
    BandNames("mag_{b}_lsst", "magnitude", (("mag_err_{b}_lsst", "sigma"),)),
    BandNames("mag_auto_{b}", "magnitude", (("magerr_auto_{b}", "sigma"),)),
    BandNames("{b}MeanKronMag", "magnitude", (("{b}MeanKronMagErr", "sigma"),)),
    BandNames("{b}KronMag", "magnitude", (("{b}KronMagErr", "sigma"),)),
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
    "object_id": (
        *("object_id", "objid", "objectid", "obj_id", "id", "source_id", "dr8objid", "specobjid", "coadd_object_id"),
        *("nsaid", "ls_id", "dr7objid", "targetid", "cataid", "galaxy_id", "main_id", "number"),
    ),
    "ra": (
        *("ra", "ra_deg", "radeg", "raj2000", "ra_icrs", "_raj2000", "plug_ra", "alpha_j2000", "rastack", "coord_ra"),
        *("ramean", "target_ra", "right_ascension", "ra_j2000"),
    ),
    "dec": (
        *("dec", "dec_deg", "dedeg", "dej2000", "de_icrs", "_dej2000", "decj2000", "plug_dec", "delta_j2000"),
        *("decstack", "coord_dec", "decmean", "target_dec", "declination", "dec_j2000"),
    ),
    "z_spec": ("z_spec", "zspec", "specz", "spec_z", "redshift", "z_sp", "zsp", "redshifts", "rvz_redshift", "z"),
    "z_warning": ("zwarning", "z_warning", "zwarn"),
    "class": ("class", "spectype"),
    "clean": ("clean",),
    "ebv": ("ebv", "e_bv", "e(b-v)", "sfd_ebv"),
    "split": (),
    "disc_radius": ("expRad_r", "disc_radius", "disk_radius"),
    "bulge_radius": ("deVRad_r", "bulge_radius"),
    "half_light_radius": ("petroR50_r", "r50", "half_light_radius"),
    "axis_ratio": ("expAB_r", "axis_ratio"),
    "bulge_axis_ratio": ("deVAB_r", "bulge_axis_ratio"),
    "bulge_fraction": ("fracDeV_r", "bulge_fraction"),
    "file": ("file", "filename", "cutout", "path"),
}
"""Names that columns with one value per galaxy go by; radii are in arcsec, `ra` and `dec` in degrees. A split, which
says what training uses a galaxy for, is only read where the user names it."""

MAX_ABSENT = 2
"""So many of u, g, r, i, z can be estimated from the others."""
OTHER_MODELS = "A model can be trained for the bands there are: `make train`, docs/models.md."

FACTS = {"dereddened": "yes or no", "pixel_scale_arcsec": "the size of a pixel, such as 0.396"}
"""What can be said of all galaxies in the place of a column, and what it must be."""

ABSENT = {
    "object_id": "no identifiers: rows are numbered",
    "ra": "no positions",
    "z_spec": "no redshifts",
}
"""What is said of a table in which a field was not recognized."""

NOT_TOTAL = {"psf": "those of points, which miss light of galaxies", "petro": "Petrosian, and models read total ones"}
"""What is said of light whose name begins so: redshifts were learned from model magnitudes."""

GIVEN = {"{b}": "magnitude", "flux_{b}": "flux", "err_{b}": "error", "ext_{b}": "extinction", "petro_{b}": "Petrosian"}
"""What can be named for each band, with the band in the place of ``{b}``."""


@dataclass(frozen=True)
class Columns:
    """The columns of one table that are read."""

    bands: tuple[str, ...]
    """What is looked for, in this order."""
    light: tuple[str, ...]
    """A column per band, or one with a value per band."""

    quantity: Quantity
    is_dereddened: bool
    """Whether these are corrected for Galactic extinction, by their name or as the user says."""
    said_dereddened: bool | None
    """What the user says of that."""
    errors: tuple[str, ...]
    error_kind: ErrorKind
    extinction: tuple[str, ...]
    petrosian: tuple[str, ...]
    petrosian_quantity: Quantity
    single: Mapping[str, str]
    """Field to column."""
    units: Mapping[str, str]
    """Column to the unit that the user says it is in."""
    usual_unit: str
    """What light has where neither the user nor the file says a unit; empty for magnitudes and nanomaggies."""
    elements: Mapping[str, tuple[str, int]]
    """Columns that are one value of a column of several, such as ``NMGY[2]``, to that column and the position in it."""
    further: tuple[str, ...] = ()
    """Columns of further numbers that a model reads."""
    further_fields: tuple[str, ...] = ()
    """What the model calls them."""
    pixel_scale_arcsec: float | None = None
    """Angular size of a pixel as the user says it [arcsec]."""

    @property
    def names(self) -> list[str]:
        """Every column to read, once."""
        found = [*self.light, *self.errors, *self.extinction, *self.petrosian, *self.further, *self.single.values()]
        return list(dict.fromkeys(self.elements.get(name, (name,))[0] for name in found if name))

    @property
    def missing_bands(self) -> tuple[str, ...]:
        """Bands that the table does not have, as the user says."""
        return tuple(band for band, name in zip(self.bands, self.light, strict=False) if not name)

    @property
    def has_extinction(self) -> bool:
        """Whether some column says how much extinction there is."""
        return bool(self.extinction) or "ebv" in self.single

    @property
    def dereddened(self) -> bool | None:
        """Whether the magnitudes that come of it are corrected for Galactic extinction; None where it is not known."""
        if self.is_dereddened or self.has_extinction:
            return True
        return self.said_dereddened

    @property
    def extinction_in_words(self) -> str:
        """How that is known; empty where it is not."""
        light = in_short(self.light)
        if self.said_dereddened and self.is_dereddened:
            return f"{light} are corrected, as FIELDS says"
        if self.is_dereddened:
            return f"{light} are corrected, as their names say"
        if self.extinction:
            return f"{light} were corrected by {in_short(self.extinction)}"
        if "ebv" in self.single:
            return f"{light} were corrected by E(B-V) = {self.single['ebv']}, {COEFFICIENTS_SOURCE}"
        return f"{light} are not corrected, as FIELDS says" if self.said_dereddened is False else ""

    def _is_called(self, start: str) -> bool:
        return next(filter(None, self.light)).lower().startswith(start)

    def describe(self) -> str:
        """Say in one line what is read as what."""
        is_observed = self.has_extinction or self.said_dereddened is False
        state = "corrected for extinction" if self.is_dereddened else "as observed" if is_observed else "as they are"
        unit = "mag" if self.quantity == "magnitude" else "nanomaggies"
        others = [f"{field} = {name}" for field, name in self.single.items()]
        others += [name for name in self.further if name not in self.single.values()]
        others += [f"{', '.join(self.missing_bands)} estimated from the other bands"] if self.missing_bands else []
        others += [f"{in_short(self.light)} are {what}" for start, what in NOT_TOTAL.items() if self._is_called(start)]
        others += [what for field, what in ABSENT.items() if field not in self.single]
        return "; ".join([f"{self.quantity} = {in_short(self.light)} [{unit}], {state}", *others])


def in_short(names: Sequence[str]) -> str:
    """Name the first and the last of some columns."""
    names = [name for name in names if name]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def recognize(
    names: Sequence[str], given: str, *, source: str, bands: tuple[str, ...] = BANDS, further: Sequence[str] = ()
) -> Columns:
    """Decide which columns of a table to read.

    Parameters
    ----------
    names : sequence of str
        Columns of the table.
    given : str
        The user's own, as in ``u=MAG_U,g=MAG_G,z_spec=ZBEST`` or, with a unit, ``flux_u=F_U[nJy]``; a field without a
        column (``z_spec=``) is not read. ``dereddened=yes`` and ``pixel_scale_arcsec=0.396`` hold for all galaxies.
    source : str
        The table, for messages.
    bands : tuple of str
        Bands to look for.
    further : sequence of str
        Further numbers to look for, each a field like those of `SINGLE`.

    Raises
    ------
    SourceError
        If a band or a further number cannot be found.
    UsageError
        If a name given is not there.
    """
    given_columns, units, elements = _parse(given, names, bands, further)
    names = [*names, *elements]
    facts = {name: given_columns.pop(name) for name in FACTS if name in given_columns}
    said_dereddened, pixel_scale_arcsec = _yes_or_no(facts.get("dereddened")), _scale(facts.get("pixel_scale_arcsec"))
    chosen = _Chosen(names, given_columns, source, bands)
    light, errors, kind = chosen.light()
    petrosian = chosen.petrosian(light)
    columns = Columns(
        bands=bands,
        light=chosen.columns(light.pattern),
        quantity=light.quantity,
        is_dereddened=light.is_dereddened if said_dereddened is None else said_dereddened,
        said_dereddened=said_dereddened,
        errors=errors,
        error_kind=kind,
        extinction=chosen.extinction(),
        petrosian=chosen.columns(petrosian.pattern) if petrosian else (),
        petrosian_quantity=petrosian.quantity if petrosian else light.quantity,
        single=dict(chosen.single(taken=chosen.columns(light.pattern))),
        units=units,
        usual_unit=light.unit,
        elements=elements,
        further=tuple(chosen.further(field) for field in further),
        further_fields=tuple(further),
        pixel_scale_arcsec=pixel_scale_arcsec,
    )
    chosen.refuse_doubtful(columns)
    return columns


def _yes_or_no(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in ("yes", "no"):
        raise UsageError(f"FIELDS: dereddened={text} is not valid: it is {FACTS['dereddened']}.")
    return text.lower() == "yes"


def _scale(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise UsageError(
            f"FIELDS: pixel_scale_arcsec={text} is not valid: it is {FACTS['pixel_scale_arcsec']} [arcsec]."
        )
    return scale


def _parse(
    given: str, names: Sequence[str], bands: tuple[str, ...], further: Sequence[str]
) -> tuple[dict[str, str], dict[str, str], dict[str, tuple[str, int]]]:
    """Read FIELDS: field to column, column to unit, and columns that are one value of several."""
    fields, units, elements = {}, {}, {}
    allowed = {*SINGLE, *FACTS, *further, *(pattern.format(b=band) for pattern in GIVEN for band in bands)}
    for part in filter(str.strip, given.split(",")):
        name, is_pair, column = (piece.strip() for piece in part.partition("="))
        if not is_pair or name not in allowed:
            raise UsageError(
                f"FIELDS: {part.strip()!r} is not field=column with one of the fields "
                f"{', '.join(dict.fromkeys([*SINGLE, *further]))}, "
                f"{', '.join(pattern.format(b=bands[0]) for pattern in GIVEN)} (and so on for {', '.join(bands[1:])}), "
                f"{', '.join(FACTS)}."
            )
        if column not in names and (with_unit := re.fullmatch(r"(.*\S)\s*\[(.*\D.*)\]", column)):
            column, units[with_unit[1]] = with_unit.groups()
        if column not in names and (element := re.fullmatch(r"(.*\S)\[(\d+)\]", column)):
            elements[column] = (element[1], int(element[2]))
        fields[name] = column
    return fields, units, elements


_GIVEN_LIGHT = (BandNames("{b}", "magnitude"), BandNames("flux_{b}", "flux"))


class _Chosen:
    def __init__(self, names: Sequence[str], given: dict[str, str], source: str, bands: tuple[str, ...]) -> None:
        self._names, self._given, self._source, self._bands = list(names), given, source, bands
        for field, column in given.items():
            if column and column not in self._names:
                raise UsageError(f"{source} has no column {column}, which FIELDS names as {field}. {self._found()}")
        # A band without a column, as in FIELDS="u=,i=", is one that the survey does not have.
        self._absent = {band for band in bands if not all(given.get(field, "-") for field in (band, f"flux_{band}"))}
        self._given_bands = {
            pattern: self._all_given(pattern)
            for pattern in GIVEN
            if any(given.get(pattern.format(b=band)) for band in bands)
        }
        self._refuse_too_few_bands()

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
            f'Name them as in FIELDS="{self._example()}" for magnitudes or "{self._example("flux_")}" for nanomaggies.'
        )

    def further(self, field: str) -> str:
        """Return the column of a further number."""
        aliases = [self._given[field]] if field in self._given else [field, *SINGLE.get(field, ())]
        found = next((name for alias in aliases for name in self._find(alias)), "")
        if not found:
            raise SourceError(
                f'{self._source}: the model also reads {field}, which was not recognized. FIELDS="{field}=…" names its '
                f"column. {self._found()}"
            )
        return found

    def _example(self, prefix: str = "") -> str:
        """Return FIELDS with columns that may be meant: of names that differ in the band alone, the shortest."""
        alike = [
            [f"{name[:place]}{spell(band)}{name[place + 1 :]}" for band in self._bands]
            for name in self._names
            for place, letter in enumerate(name)
            for spell in (str.lower, str.upper)
            if letter == spell(self._bands[0])
        ]
        whole = [names for names in alike if set(names) <= set(self._names)]
        columns = min(whole, key=lambda names: len(names[0])) if whole else ()
        if columns:
            return ",".join(f"{prefix}{band}={name}" for band, name in zip(self._bands, columns, strict=True))
        column = "F_" if prefix else "MAG_"
        return ",".join(f"{prefix}{band}={column}{band.upper()}" for band in self._bands[:2]) + ",…"

    def columns(self, pattern: str) -> tuple[str, ...]:
        if pattern in self._given_bands:
            return self._given_bands[pattern]
        if "{b}" not in pattern:
            return tuple(found for found in [next(self._find(pattern), "")] if found)
        there = [band for band in self._bands if band not in self._absent]
        wanted = [pattern.format(b=band) for band in there]
        # A table may distinguish the band z from the redshift Z by the case of the letter alone.
        spellings = ([spell(name) for name in wanted] for spell in (str, str.lower, str.upper))
        found = next((spelled for spelled in spellings if set(spelled) <= set(self._names)), None)
        found = found or [next(self._find(name), "") for name in wanted]
        of_band = dict(zip(there, found, strict=True))
        return tuple(of_band.get(band, "") for band in self._bands) if found and all(found) else ()

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
        fields = [pattern.format(b=band) for band in self._bands]
        missing = [
            field
            for field, band in zip(fields, self._bands, strict=True)
            if not self._given.get(field) and band not in self._absent
        ]
        if missing:
            none = ",".join(f"{field}=" for field in missing)
            raise UsageError(
                f"FIELDS names only some of {', '.join(fields)}: give {', '.join(missing)} too, or say that the survey "
                f'has none, "{none}".'
            )
        return tuple(self._given.get(field, "") for field in fields)

    def _refuse_too_few_bands(self) -> None:
        absent = [band for band in self._bands if band in self._absent]
        if "r" in absent or len(absent) > MAX_ABSENT or (absent and self._bands != BANDS):
            raise UsageError(
                f"FIELDS says that {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} absent: of "
                f"{', '.join(BANDS)} two can be estimated, but not r, and none of other bands. {OTHER_MODELS}"
            )

    def refuse_doubtful(self, columns: Columns) -> None:
        """Ask where a name that is read could mean two columns, or one column would mean two things."""
        given = set(self._given.values())
        for name in columns.names:
            if self._names.count(name) > 1:
                raise SourceError(
                    f"{self._source} has {self._names.count(name)} columns named {name}: rename all but the one that "
                    "is meant."
                )
        read = set(columns.names)
        for field, name in columns.single.items():
            alike = [other for other in self._names if other.lower() == name.lower() and other not in read | {name}]
            if alike and name not in given:
                raise SourceError(
                    f"{self._source} has the columns {name} and {alike[0]}: which is {field}? "
                    f'FIELDS="{field}={name}" or "{field}={alike[0]}" says it.'
                )
        for light in (columns.light, columns.errors, columns.extinction, columns.petrosian):
            twice = next((name for name in light if name and light.count(name) > 1), None)
            if twice:
                raise UsageError(f"FIELDS names {twice} for several bands of {self._source}; each has its own column.")

    def _nearest(self) -> str:
        for names in LIGHT:
            bands = [band for band in self._bands if any(self._find(names.pattern.format(b=band)))]
            if len(bands) >= 2 and "{b}" in names.pattern:
                missing = [names.pattern.format(b=band) for band in self._bands if band not in bands]
                there = names.pattern.format(b=bands[0])
                said = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing next to {there}."
                if self._bands != BANDS or len(missing) > MAX_ABSENT or "r" not in bands:
                    return f"{said} {OTHER_MODELS}"
                absent = ",".join(f"{band}=" for band in self._bands if band not in bands)
                return (
                    f'{said} If the survey has none, FIELDS="{absent}" lets it be estimated, which every galaxy is '
                    f"flagged for; better, {OTHER_MODELS[0].lower()}{OTHER_MODELS[1:]}"
                )
        return f"no magnitudes or fluxes in {', '.join(self._bands)} were recognized."

    def _found(self) -> str:
        shown = ", ".join(self._names[:30]) + (f" and {len(self._names) - 30} more" if len(self._names) > 30 else "")
        return f"Columns found: {shown or 'none'}."
