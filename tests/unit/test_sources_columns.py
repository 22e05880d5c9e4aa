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


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        ("{b}_cModelFlux", "nJy"),
        ("{b}_free_cModelFlux", "nJy"),
        ("{b}_cmodel_flux", "nJy"),
        ("flux_{b}", ""),
        ("{b}", ""),
    ],
)
def test_fluxes_of_rubin_are_in_nanojanskys_without_saying_so(pattern: str, unit: str) -> None:
    assert columns(*bands(pattern)).usual_unit == unit


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


@pytest.mark.parametrize(
    ("names", "given", "errors", "kind"),
    [
        (bands("modelMag_{b}"), "", (), "sigma"),
        (bands("modelMag_{b}") + bands("err_{b}"), "", tuple(bands("err_{b}")), "sigma"),
        (bands("mag_{b}") + bands("mag_err_{b}"), "", tuple(bands("mag_err_{b}")), "sigma"),
        (bands("flux_{b}") + bands("flux_ivar_{b}"), "", tuple(bands("flux_ivar_{b}")), "inverse variance"),
        (["modelFlux", "modelFlux_ivar"], "", ("modelFlux_ivar",), "inverse variance"),
        (
            bands("flux_{b}") + bands("flux_ivar_{b}") + bands("S{b}"),
            ",".join(f"err_{band}=S{band}" for band in BANDS),
            tuple(bands("S{b}")),
            "sigma",
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_errors_are_those_of_the_light_that_is_read(
    names: list[str], given: str, errors: tuple[str, ...], kind: str
) -> None:
    found = columns(*names, given=given)

    assert (found.errors, found.error_kind) == (errors, kind)


@pytest.mark.parametrize(
    ("names", "given", "petrosian", "quantity"),
    [
        ([*BANDS], "", (), "magnitude"),
        (bands("flux_{b}"), "", (), "flux"),
        ([*BANDS, *bands("petroFlux_{b}")], "", tuple(bands("petroFlux_{b}")), "flux"),
        ([*bands("flux_{b}"), *bands("petroMag_{b}")], "", tuple(bands("petroMag_{b}")), "magnitude"),
        (
            [*BANDS, *bands("petroFlux_{b}"), *bands("P{b}")],
            ",".join(f"petro_{band}=P{band}" for band in BANDS),
            tuple(bands("P{b}")),
            "magnitude",
        ),
    ],
)
def test_petrosian_light_may_be_of_another_quantity(
    names: list[str], given: str, petrosian: tuple[str, ...], quantity: str
) -> None:
    found = columns(*names, given=given)

    assert (found.petrosian, found.petrosian_quantity) == (petrosian, quantity)


def test_a_name_with_brackets_is_that_of_a_column_where_there_is_one() -> None:
    names = [*bands("F{b}"), "F[nJy]", "ra[2]", "position"]
    light = ",".join(f"flux_{band}=F{band}" for band in BANDS)

    found = columns(*names, given=f"{light}, ebv=F[nJy], ra=ra[2], dec=position[1]")

    assert (found.single["ebv"], found.single["ra"], found.single["dec"]) == ("F[nJy]", "ra[2]", "position[1]")
    assert (found.units, found.elements) == ({}, {"position[1]": ("position", 1)})
    assert found.names == [*bands("F{b}"), "ra[2]", "position", "F[nJy]"]


def test_a_pixel_scale_and_a_word_hold_for_all_galaxies() -> None:
    found = columns(*BANDS, given="pixel_scale_arcsec=0.3,dereddened=YES")

    assert (found.pixel_scale_arcsec, found.said_dereddened, found.is_dereddened) == (0.3, True, True)
    assert columns(*BANDS).pixel_scale_arcsec is None
    assert not columns(*bands("dered_{b}"), given="dereddened=no").is_dereddened


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (
            ["id", "RA", "redshift", *BANDS],
            "",
            "magnitude = u to z [mag], as they are; object_id = id; ra = RA; z_spec = redshift",
        ),
        (
            [*bands("flux_{b}"), *bands("A_{b}")],
            "",
            "flux = flux_u to flux_z [nanomaggies], as observed; no identifiers: rows are numbered; no positions; "
            "no redshifts",
        ),
        (["id", "ra", "redshift", "modelFlux"], "dereddened=no", "flux = modelFlux [nanomaggies], as observed; obj"),
        (["id", *bands("dered_{b}")], "", "magnitude = dered_u to dered_z [mag], corrected for extinction; object_id"),
        (
            [*"grz"],
            "u=,i=",
            "magnitude = g to z [mag], as they are; u, i estimated from the other bands; no identifiers",
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_what_is_read_as_what_is_said_in_one_line(names: list[str], given: str, said: str) -> None:
    described = columns(*names, given=given).describe()

    assert described.startswith(said)
    assert ("no redshifts" in described) == (not {"redshift"} & set(names))


def test_further_numbers_that_a_model_reads_are_found_or_named() -> None:
    def reading(*names: str, given: str = "") -> Columns:
        return recognize([*BANDS, *names], given, source="my.csv", further=("half_light_radius", "concentration"))

    found = reading("Concentration", "petroR50_r")

    assert (found.further, found.further_fields) == (
        ("petroR50_r", "Concentration"),
        ("half_light_radius", "concentration"),
    )
    assert "; half_light_radius = petroR50_r; Concentration; no identifiers" in found.describe()
    assert found.names == [*BANDS, "petroR50_r", "Concentration"]
    assert reading("concentration", "c", "r50", given="concentration=c").further == ("r50", "c")
    for missing, given in (("concentration", ""), ("half_light_radius", "half_light_radius=")):
        names = {"concentration", "r50"} - {missing}
        with pytest.raises(
            SourceError, match=rf'^my\.csv: the model also reads {missing}, .*FIELDS="{missing}=…".* found: u, g, r'
        ):
            reading(*sorted(names), given=given)


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
        ("pixel_scale_arcsec=0", "pixel_scale_arcsec=0 is not valid"),
        ("pixel_scale_arcsec=inf", "pixel_scale_arcsec=inf is not valid"),
        ("u=NOPE", "my.csv has no column NOPE, which FIELDS names as u. Columns found: a, b"),
        ("colour=a", "'colour=a' is not field=column with one of the fields object_id"),
        ("u", "'u' is not field=column"),
        ("u=a,g=b", "FIELDS names only some of u, g, r, i, z: give r, i, z too"),
        ("err_u=a", 'err_z: give err_g, err_r, err_i, err_z too, or say that the survey has none, "err_g=,err_r=,err'),
        ("r=", "FIELDS says that r is absent: of u, g, r, i, z two can be estimated, but not r"),
        ("u=,g=,i=", "FIELDS says that u, g, i are absent: of u, g, r, i, z two can be estimated"),
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
        (["u", *(f"c{i}" for i in range(29))], "c27, c28. Name them as in"),
        (["u", *(f"c{i}" for i in range(30))], "c27, c28 and 1 more. Name them as in"),
        ([], "Columns found: none."),
        ([*"ug"], "r, i, z are missing next to u. A model can be trained for the bands there are"),
        ([*"ugiz"], "r is missing next to u. A model can be trained for the bands there are"),
        (
            [*"rgz"],
            'u, i are missing next to g. If the survey has none, FIELDS="u=,i=" lets it be estimated, which every '
            "galaxy is flagged for; better, a model can be trained for the bands there are",
        ),
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
    assert 'Name them as in FIELDS="u=MAG_U,g=MAG_G,…" for magnitudes or "flux_u=F_U,flux_g=F_G,…"' in str(error.value)


def test_bands_of_another_survey_cannot_be_estimated() -> None:
    with pytest.raises(UsageError, match=r"FIELDS says that Y is absent: .* and none of other bands"):
        recognize(["J", "H"], "Y=", source="my.csv", bands=("Y", "J", "H"))
    with pytest.raises(SourceError, match=r"Ymag is missing next to Jmag\. A model can be trained"):
        recognize(["Jmag", "Hmag"], "", source="my.csv", bands=("Y", "J", "H"))
    assert recognize(["Jmag", "Hmag"], "", source="my.csv", bands=("J", "H")).light == ("Jmag", "Hmag")


@pytest.mark.parametrize(
    ("names", "given", "error", "message"),
    [
        ([*BANDS, "ra", "ra"], "", SourceError, "my.csv has 2 columns named ra: rename all but the one that is meant"),
        ([*BANDS, "ra", "RA"], "", SourceError, 'columns ra and RA: which is ra? FIELDS="ra=ra" or "ra=RA" says it'),
        ([*BANDS, "ra", "RA"], "ra=RA", None, ""),
        ([*BANDS, "note", "note"], "", None, ""),
        ([*BANDS], "u=u,g=u,r=r,i=i,z=z", UsageError, "FIELDS names u for several bands of my.csv"),
        ([*BANDS, "e"], ",".join(f"err_{band}=e" for band in BANDS), UsageError, "names e for several bands"),
        ([*BANDS, "a"], ",".join(f"ext_{band}=a" for band in BANDS), UsageError, "names a for several bands"),
        ([*BANDS, "p"], ",".join(f"petro_{band}=p" for band in BANDS), UsageError, "names p for several bands"),
        ([*"grz"], "u=,i=", None, ""),
    ],
    ids=str,
)
def test_a_name_that_could_mean_two_things_is_asked_for(
    names: list[str], given: str, error: type[Exception] | None, message: str
) -> None:
    if error is None:
        assert columns(*names, given=given).light[1] == "g"
        return
    with pytest.raises(error) as caught:
        columns(*names, given=given)

    assert message in str(caught.value)


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


def test_what_they_hold_is_said_with_the_way_out() -> None:
    said = fault_of_light(FLUXES, columns(*BANDS))

    low, high = np.percentile(FLUXES, [5, 95])
    assert said.startswith(f"u, g, r, i, z hold values from {low:.4g} to {high:.4g} (5 to 95 %), outside 10 to 30: ")
    assert said.endswith('If they are fluxes in nanomaggies, say so: FIELDS="flux_u=…,flux_g=…,…".')


@pytest.mark.parametrize(("num", "is_said"), [(9, False), (10, True), (20, True)])
@pytest.mark.parametrize("pattern", ["{b}", "flux_{b}"])
def test_a_few_galaxies_can_all_be_odd(pattern: str, num: int, is_said: bool) -> None:
    values = (FAINT_FLUXES if pattern == "{b}" else MAGNITUDES).copy()
    values[num:] = np.nan

    assert bool(fault_of_light(values, columns(*bands(pattern)))) == is_said


@pytest.mark.parametrize(("num_u", "is_said"), [(9, False), (10, True)])
def test_u_and_r_are_compared_where_both_are_measured(num_u: int, is_said: bool) -> None:
    values = FAINT_FLUXES.copy()
    values[num_u:, 0] = -9999

    assert ("brighter in u than in r" in fault_of_light(values, columns(*BANDS))) == is_said


@pytest.mark.parametrize(
    ("median", "is_said"), [(0.03, True), (0.05, False), (5.0, False), (0.9e5, False), (1.2e5, True)]
)
def test_fluxes_of_galaxies_are_neither_tiny_nor_huge(median: float, is_said: bool) -> None:
    values = np.full((20, 5), median) * [0.1, 0.5, 1, 1.4, 1.8]

    said = fault_of_light(values, columns(*bands("flux_{b}")))

    assert ('FIELDS="flux_u=F_U[nJy],flux_g=F_G[nJy],…"' in said) == is_said


@pytest.mark.parametrize(
    ("names", "blue", "red"),
    [("grz", 0, 1), ("zrg", 2, 1), ("ri", 0, 1), ("zir", 2, 0), ("YJH", 0, 2), ("HYJ", 1, 0), ("rab", 0, 0)],
)
def test_the_bands_that_are_compared_are_the_bluest_and_r_or_the_reddest(names: str, blue: int, red: int) -> None:
    """Between them magnitudes fall; of bands without an order nothing is known."""
    of_bands = recognize([f"flux_{band}" for band in names], "", source="my.csv", bands=tuple(names))
    values = np.full((20, len(names)), 19.0)
    values[:, blue] += 1

    said = fault_of_light(values, of_bands)

    assert (f"falling from {names[blue]} to {names[red]} as magnitudes do" in said) == (blue != red)


def test_most_galaxies_decide_whether_numbers_are_magnitudes() -> None:
    values = np.array([[19.0, 18, 17, 16, 15]] * 20)
    values[:10] *= 10

    assert "outside 10 to 30" in fault_of_light(values, columns(*BANDS))
    values[9] /= 10
    assert fault_of_light(values, columns(*BANDS)) == ""


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
