"""Columns of surveys are recognized by their usual names; what cannot be is named with what was found."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scripts.command.errors import SourceError, UsageError
from scripts.data.columns import BANDS, FACTS, SINGLE, Columns, recognize
from scripts.data.galaxies import Origin
from scripts.data.light import fault_of_light


def bands(pattern: str) -> list[str]:
    return [pattern.format(b=band) for band in BANDS]


def columns(*names: str, given: str = "") -> Columns:
    return recognize(names, given, source="my.csv")


@pytest.mark.parametrize(
    ("names", "quantity", "is_dereddened"),
    [
        (bands("u{b}"[1:]), "magnitude", False),
        (bands("modelMag_{b}"), "magnitude", False),
        (bands("MODELMAG_{b}"), "magnitude", False),
        (bands("dered_{b}"), "magnitude", True),
        (bands("dered_mag_{b}"), "magnitude", True),
        (bands("dered_flux_{b}"), "flux", True),
        (bands("MAG_AUTO_{b}_DERED"), "magnitude", True),
        (bands("psfMag_{b}"), "magnitude", False),
        (bands("{b}mag"), "magnitude", False),
        (bands("modelFlux_{b}"), "flux", False),
        (bands("flux_{b}"), "flux", False),
        (["MODELFLUX"], "flux", False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_usual_names_of_five_bands_are_recognized(names: list[str], quantity: str, is_dereddened: bool) -> None:
    found = columns("objID", *names)

    assert found.light == tuple(names)
    assert (found.quantity, found.is_dereddened) == (quantity, is_dereddened)


def test_magnitudes_that_are_corrected_go_before_others() -> None:
    assert columns(*bands("psfMag_{b}"), *bands("modelMag_{b}"), *bands("dered_{b}")).light[0] == "dered_u"


def test_a_galaxy_magnitude_goes_before_that_of_a_point_source() -> None:
    assert columns(*bands("psfMag_{b}"), *bands("modelMag_{b}")).light[0] == "modelMag_u"


def test_what_else_sdss_tables_hold_is_recognized() -> None:
    found = columns(
        *bands("modelMag_{b}"), *bands("modelMagErr_{b}"), *bands("extinction_{b}"), *bands("petroMag_{b}"),
        *("objID", "ra", "dec", "z", "zWarning", "class", "clean", "petroR50_r", "expRad_r", "expAB_r"),
    )  # fmt: skip

    assert (found.errors[0], found.error_kind) == ("modelMagErr_u", "sigma")
    assert (found.extinction[4], found.petrosian[2]) == ("extinction_z", "petroMag_r")
    assert found.single == {
        "object_id": "objID",
        "ra": "ra",
        "dec": "dec",
        "z_spec": "z",
        "z_warning": "zWarning",
        "class": "class",
        "clean": "clean",
        "disc_radius": "expRad_r",
        "half_light_radius": "petroR50_r",
        "axis_ratio": "expAB_r",
    }


def test_z_is_a_band_where_it_stands_beside_u_g_r_i() -> None:
    assert "z_spec" not in columns(*BANDS).single
    assert columns(*BANDS, "redshift").single["z_spec"] == "redshift"


@pytest.mark.parametrize("names", [[*"ugriz", "Z"], [*"UGRIZ", "z"]], ids="".join)
def test_the_band_and_the_redshift_may_differ_by_the_case_of_a_letter(names: list[str]) -> None:
    found = columns(*names)

    assert (found.light, found.single) == (tuple(names[:5]), {"z_spec": names[5]})


def test_a_unit_may_be_given_with_a_column() -> None:
    found = columns("id", *bands("F{b}"), given=",".join(f"flux_{band}=F{band} [nJy]" for band in BANDS))

    assert found.light == tuple(bands("F{b}"))
    assert found.units == dict.fromkeys(bands("F{b}"), "nJy")


@pytest.mark.parametrize("pattern", ["SDSS_{b}", "{b}_psf", "p.dered_{b}", "FLUX_{b}_TOTAL"])
def test_names_that_differ_in_the_band_alone_are_given_to_be_copied(pattern: str) -> None:
    names = bands(pattern)

    with pytest.raises(SourceError) as error:
        columns("objid", "rerun", *names, *bands(f"e_{pattern}_err"))

    for given in re.findall(r'"([^"]+)"', str(error.value)):
        assert columns(*names, given=given).light == tuple(names)
    assert 'FIELDS="u=' in str(error.value)


def test_given_names_win() -> None:
    given = ",".join(f"{band}=M{band.upper()}" for band in BANDS) + ", z_spec = ZBEST"

    found = columns(*bands("modelMag_{b}"), "MU", "MG", "MR", "MI", "MZ", "ZBEST", "z", given=given)

    assert found.light == ("MU", "MG", "MR", "MI", "MZ")
    assert found.single["z_spec"] == "ZBEST"


def test_given_fluxes_are_fluxes() -> None:
    given = ",".join(f"flux_{band}=F{band}" for band in BANDS)

    assert columns(*bands("F{b}"), given=given).quantity == "flux"


def test_a_field_without_a_column_is_not_read() -> None:
    assert "object_id" not in columns("id", *BANDS, given="object_id=").single


@pytest.mark.parametrize(
    ("names", "given", "dereddened", "words"),
    [
        (bands("dered_{b}"), "", True, "dered_u to dered_z are corrected, as their names say"),
        ([*BANDS, *bands("A_{b}")], "", True, "u to z were corrected by A_u to A_z"),
        (
            [*BANDS, "EBV"],
            "",
            True,
            "u to z were corrected by E(B-V) = EBV, coefficients of Schlafly & Finkbeiner 2011",
        ),
        (BANDS, "dereddened=yes", True, "u to z are corrected, as FIELDS says"),
        ([*BANDS, "EBV"], "dereddened=yes", True, "u to z are corrected, as FIELDS says"),
        ([*BANDS, "EBV"], "dereddened=no", True, "u to z were corrected by E(B-V) = EBV, coefficients of Schlafly"),
        (BANDS, "dereddened=no", False, "u to z are not corrected, as FIELDS says"),
        (BANDS, "", None, ""),
    ],
)
def test_what_is_known_of_the_extinction_is_said(
    names: Sequence[str], given: str, dereddened: bool | None, words: str
) -> None:
    found = columns(*names, given=given)

    assert found.dereddened is dereddened
    assert found.extinction_in_words.startswith(words)
    assert bool(found.extinction_in_words) == bool(words)


def test_extinction_that_is_not_known_is_asked_for_in_one_line() -> None:
    line = Origin(dereddened=columns(*BANDS).dereddened).extinction_line

    assert "whether the magnitudes are corrected for it is not known" in line
    assert 'FIELDS="dereddened=yes" or "dereddened=no"' in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dereddened=maybe", "dereddened=maybe is not valid: it is yes or no"),
        ("pixel_scale_arcsec=wide", "pixel_scale_arcsec=wide is not valid: it is the size of a pixel"),
        ("pixel_scale_arcsec=-1", "pixel_scale_arcsec=-1 is not valid"),
        ("u=NOPE", "my.csv has no column NOPE, which FIELDS names as u. Columns found: a, b"),
        ("colour=a", "'colour=a' is not field=column with one of the fields object_id"),
        ("u", "'u' is not field=column"),
        ("u=a,g=b", "FIELDS names only some of u, g, r, i, z: give r, i, z too"),
    ],
)
def test_a_wrong_mapping_is_named(given: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        columns("a", "b", given=given)

    assert message in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ra", "dec"], "no magnitudes or fluxes in u, g, r, i, z were recognized. Columns found: ra, dec."),
        (
            bands("modelMag_{b}")[:4],
            'modelMag_z is missing next to modelMag_u. If the survey has none, FIELDS="z=" lets it be estimated',
        ),
    ],
)
def test_a_missing_band_is_named_with_what_was_found(names: list[str], message: str) -> None:
    with pytest.raises(SourceError) as error:
        columns(*names)

    assert message in str(error.value)
    assert 'FIELDS="u=MAG_U' in str(error.value)


# ---------------------------------------------------------------------------------------------- light

MAGNITUDES = np.array([19.2, 17.5, 16.6, 16.1, 15.8]) + np.linspace(-1, 1, 20)[:, None]
FLUXES = 10 ** (-0.4 * (MAGNITUDES - 22.5))
FAINT_FLUXES = 10 ** (-0.4 * (MAGNITUDES + 2.7 - 22.5))
"""Of galaxies so faint that fluxes in nanomaggies are numbers like 10 to 30."""


@pytest.mark.parametrize(
    ("pattern", "values"), [("{b}", MAGNITUDES), ("flux_{b}", FLUXES), ("flux_{b}", FAINT_FLUXES)], ids=str
)
def test_galaxies_in_their_unit_pass(pattern: str, values: np.ndarray) -> None:
    assert fault_of_light(values, columns(*bands(pattern))) == ""


@pytest.mark.parametrize(
    ("pattern", "values", "message"),
    [
        ("{b}", FLUXES, "outside 10 to 30: these are not magnitudes"),
        ("{b}", FAINT_FLUXES, "brighter in u than in r, as fluxes are: these are not magnitudes"),
        ("flux_{b}", MAGNITUDES, "falling from u to r as magnitudes do: these are not fluxes"),
        ("flux_{b}", FLUXES * 1e-9, "these are not nanomaggies"),
        ("flux_{b}", FLUXES * 1e20, "these are not nanomaggies"),
    ],
)
def test_numbers_in_another_unit_are_named(pattern: str, values: np.ndarray, message: str) -> None:
    assert message in fault_of_light(values, columns(*bands(pattern)))


def test_codes_of_missing_values_are_no_unit() -> None:
    values = MAGNITUDES.copy()
    values[:9] = -9999
    values[9:15, 0] = 0

    assert fault_of_light(values, columns(*BANDS)) == ""


def test_every_field_is_in_the_documents() -> None:
    page = Path("docs/inputs.md").read_text()

    assert [field for field in (*SINGLE, *FACTS) if not re.search(rf"`{field}[=`]", page)] == []


@pytest.mark.parametrize(("name", "said"), [("psfMag", "which miss light of galaxies"), ("petroMag", "Petrosian")])
def test_light_that_is_not_all_of_a_galaxy_is_said(name: str, said: str) -> None:
    assert said in columns(*bands(f"{name}_{{b}}")).describe()
    assert "; psfMag" not in columns(*bands("modelMag_{b}"), *bands("psfMag_{b}")).describe()
