"""Stated units are converted by astropy and named in the report; what cannot be converted is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from inference.cleaning import shipped_limits
from scripts.command.errors import SourceError
from scripts.data import ReadGalaxies, read_galaxies
from scripts.data.records import observed_flux, read_records
from scripts.data.table_file import ArrayTable
from scripts.data.units import CODES, conversion, degrees_of

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean

NANOMAGGIES = observed_flux(MEAN_MAGNITUDES + np.linspace(-0.5, 0.5, 12)[:, None])
FLUX_UNITS = {
    "nanomaggies": 1.0,
    "nmgy": 1.0,
    "maggy": 1e-9,
    "nJy": 3631.0,
    "uJy": 3.631,
    "mJy": 3.631e-3,
    "Jy": 3.631e-6,
}
"""How many of each are 1 nanomaggy: magnitude 0 is 3631 Jy."""


def fluxes(unit: str) -> dict[str, np.ndarray]:
    return {f"modelFlux_{band}": NANOMAGGIES[:, number] * FLUX_UNITS[unit] for number, band in enumerate("ugriz")}


def read_fits(folder: Path, columns: dict[str, np.ndarray], **units: str) -> ReadGalaxies:
    made = [fits.Column(name, "D", unit=units.get(name), array=array) for name, array in columns.items()]
    fits.BinTableHDU.from_columns(made).writeto(folder / "my.fits")
    return read_galaxies(folder / "my.fits")


def galaxies(**changes: Any) -> dict[str, np.ndarray]:
    magnitudes = MEAN_MAGNITUDES + np.linspace(-0.5, 0.5, 12)[:, None]
    columns = {f"modelMag_{band}": magnitudes[:, number] for number, band in enumerate("ugriz")}
    return {**columns, "ra": np.linspace(10, 20, 12), "dec": np.linspace(-5, 5, 12), "z": np.full(12, 0.1), **changes}


# ------------------------------------------------------------------------------------------ properties


@given(st.sampled_from(sorted(FLUX_UNITS)), st.floats(-1e6, 1e6))
def test_a_flux_in_any_unit_is_the_same_number_of_nanomaggies(unit: str, flux: float) -> None:
    converted = conversion(unit, "flux")(np.array([flux * FLUX_UNITS[unit]]))

    if flux * FLUX_UNITS[unit] not in CODES:
        assert converted[0] == pytest.approx(flux, rel=1e-9)


@given(st.sampled_from(sorted(FLUX_UNITS)), st.floats(1e-3, 1e6))
def test_an_inverse_variance_is_that_of_the_converted_error(unit: str, error: float) -> None:
    stated = conversion(f"{unit}^-2", "flux", is_inverse_variance=True)

    assert stated(np.array([error**-2]))[0] ** -0.5 == pytest.approx(conversion(unit, "flux").factor * error, rel=1e-9)


@given(st.sampled_from(["nJy", "uJy", "Jy", "nmgy"]), st.floats(5, 35))
def test_a_magnitude_of_any_zero_point_is_that_of_its_flux(unit: str, magnitude: float) -> None:
    flux = conversion(unit, "flux").factor * 10 ** (-0.4 * magnitude)

    converted = conversion(f"mag({unit})", "magnitude")(np.array([magnitude]))

    assert converted[0] == pytest.approx(22.5 - 2.5 * np.log10(flux), abs=1e-9)


@given(
    st.sampled_from([("deg", u.deg), ("degrees", u.deg), ("rad", u.rad), ("arcmin", u.arcmin), ('"', u.arcsec)]),
    st.floats(0, 1e4),
)
def test_angles_are_what_astropy_makes_of_them(unit: tuple[str, Any], angle: float) -> None:
    for quantity, needed in (("position", u.deg), ("radius", u.arcsec)):
        expected = (angle * unit[1]).to_value(needed)
        assert conversion(unit[0], quantity)(np.array([angle]))[0] == pytest.approx(expected, rel=1e-12)


@given(st.sampled_from(["nJy", "Jy", "nmgy"]), st.sampled_from([*CODES, 0.0, np.nan, np.inf, -np.inf]))
def test_codes_of_missing_values_have_no_unit(unit: str, code: float) -> None:
    assert conversion(unit, "flux")(np.array([code])) == pytest.approx([code], nan_ok=True)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59_999), st.sampled_from("+- "), st.booleans())
def test_sexagesimal_angles_are_what_astropy_makes_of_them(
    whole: int, minutes: int, thousandths: int, sign: str, is_hours: bool
) -> None:
    text = f"{sign.strip()}{whole:02}:{minutes:02}:{thousandths / 1000:06.3f}"

    expected = Angle(text, unit=u.hourangle if is_hours else u.deg).deg

    assert degrees_of(np.array([text, ""]), is_hours=is_hours, source="ra")[0] == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("unit", FLUX_UNITS)
def test_fluxes_of_a_table_are_converted_and_the_report_says_so(unit: str, tmp_path: Path) -> None:
    columns = fluxes(unit)

    found = read_fits(tmp_path, columns, **dict.fromkeys(columns, unit))

    assert observed_flux(found.block.magnitudes) == pytest.approx(NANOMAGGIES, rel=1e-9)
    said = f"modelFlux_u to modelFlux_z converted from {unit} to nanomaggy"
    assert found.report.notes == (() if unit in ("nmgy", "nanomaggies") else (said,))
    assert json.loads(found.report.to_json())["notes"] == list(found.report.notes)


def test_errors_without_a_unit_are_in_that_of_their_fluxes(tmp_path: Path) -> None:
    signal_to_noise, columns = np.array([4.0, 6.0] * 6)[:, None], fluxes("nJy")
    ivar = (NANOMAGGIES * 3631 / signal_to_noise) ** -2

    found = read_fits(
        tmp_path,
        {**columns, **{f"modelFluxIvar_{band}": ivar[:, number] for number, band in enumerate("ugriz")}},
        **dict.fromkeys(columns, "nJy"),
    )

    assert found.quality.astype(bool).tolist() == [True, False] * 6
    assert "modelFluxIvar_u to modelFluxIvar_z converted from nJy^-2 to nanomaggy" in found.report.notes


@pytest.mark.parametrize(
    ("name", "unit", "values", "said"),
    [
        ("modelFluxIvar", "nJy^-2", (5 * 3631.0) ** -2, "nJy^-2"),
        ("modelFluxIvar", "", (5 * 3631.0) ** -2, "nJy^-2"),
        ("flux_err", "uJy", 5 * 3.631, "uJy"),
        ("flux_err", "", 5 * 3631.0, "nJy"),
    ],
)
def test_errors_of_any_unit_become_those_in_nanomaggies(
    name: str, unit: str, values: float, said: str, tmp_path: Path
) -> None:
    light = "modelFlux" if name == "modelFluxIvar" else "flux"
    columns = {f"{light}_{band}": NANOMAGGIES[:, number] * 3631 for number, band in enumerate("ugriz")}
    errors = {f"{name}_{band}": np.full(12, values) for band in "ugriz"}
    units = {**dict.fromkeys(columns, "nJy"), **dict.fromkeys(errors, unit)}
    table = ArrayTable.of(Path("my.npz"), columns | errors, units)

    found = read_records(table, "", tmp_path / "records")

    assert found.rows(0, 12)["flux_error"] == pytest.approx(5, rel=1e-9)
    assert found.notes[0].startswith(f"{name}_u to ")
    assert found.notes[0].endswith(f" converted from {said} to nanomaggy")


def test_units_of_astropy_in_parquet_and_csv_are_read(tmp_path: Path) -> None:
    table = Table(fluxes("uJy"), units=dict.fromkeys(fluxes("uJy"), "uJy"))
    table.write(tmp_path / "my.parquet")
    table.write(tmp_path / "my.csv", format="ascii.ecsv", delimiter=",")

    for ending in ("parquet", "csv"):
        found = read_galaxies(tmp_path / f"my.{ending}")
        assert observed_flux(found.block.magnitudes) == pytest.approx(NANOMAGGIES, rel=1e-9)


def test_units_of_parquet_columns_are_read(tmp_path: Path) -> None:
    schema = pa.schema([pa.field(f"flux_{b}", pa.float64(), metadata={"unit": "uJy"}) for b in "ugriz"])
    pyarrow.parquet.write_table(pa.table(list(NANOMAGGIES.T * 3.631), schema=schema), tmp_path / "my.parquet")

    found = read_galaxies(tmp_path / "my.parquet")

    assert observed_flux(found.block.magnitudes) == pytest.approx(NANOMAGGIES, rel=1e-9)


def test_units_that_the_user_gives_are_believed(tmp_path: Path) -> None:
    columns = {f"F{band}": NANOMAGGIES[:, number] * 3631 for number, band in enumerate("ugriz")}

    Table(columns).write(tmp_path / "my.csv")

    found = read_galaxies(tmp_path / "my.csv", ",".join(f"flux_{band}=F{band}[nJy]" for band in "ugriz"))

    assert observed_flux(found.block.magnitudes) == pytest.approx(NANOMAGGIES, rel=1e-9)


@pytest.mark.parametrize("unit", ["mag", "mag(AB)", "ABmag", "asinh mag", "luptitudes", "Magnitude", "MAG"])
def test_magnitudes_of_sdss_are_read_as_they_are(unit: str) -> None:
    found = conversion(unit, "magnitude")

    assert (found.factor, found.offset) == (1, 0)


def test_positions_and_radii_are_converted(tmp_path: Path) -> None:
    columns = galaxies(expRad_r=np.full(12, 1 / 60), ra=np.deg2rad(galaxies()["ra"]))

    found = read_fits(tmp_path, columns, ra="rad", dec="arcmin", expRad_r="arcmin")

    assert found.ra_deg == pytest.approx(galaxies()["ra"])
    assert found.dec_deg == pytest.approx(galaxies()["dec"] / 60)
    assert "expRad_r converted from arcmin to arcsec" in found.report.notes


@pytest.mark.parametrize(
    ("column", "unit", "message"),
    [
        ("modelMag_u", "ct", "modelMag_u is in 'ct'; mag is needed. Convert it first."),
        ("modelMag_u", "Jy", "modelMag_u is in 'Jy'; mag is needed. If it is a flux, say so: FIELDS=\"flux_u="),
        ("modelMag_u", "mag(ST)", "modelMag_u is in 'mag(ST)'; mag is needed."),
        ("ra", "m", "ra is in 'm'; degree is needed. Convert it first, or leave it out with an empty field"),
        ("z", "km/s", "z is in 'km/s'; no unit is needed."),
    ],
)
def test_another_kind_of_unit_is_refused(column: str, unit: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        read_fits(tmp_path, galaxies(), **{column: unit})

    assert f"my.fits: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("ct", "Units of flux density, such as nJy, are converted; calibrate others first."),
        ("furlong", "Units of flux density"),
        ("mag", 'If it is a magnitude, say so: FIELDS="u='),
    ],
)
def test_fluxes_that_are_none_are_refused(unit: str, message: str, tmp_path: Path) -> None:
    columns = {f"flux_{b}": pa.array(NANOMAGGIES[:, n]) for n, b in enumerate("ugriz")}
    schema = pa.schema([pa.field(name, pa.float64(), metadata={"unit": unit}) for name in columns])
    pyarrow.parquet.write_table(pa.table(columns, schema=schema), tmp_path / "my.parquet")

    with pytest.raises(SourceError) as error:
        read_galaxies(tmp_path / "my.parquet")

    assert f"my.parquet: flux_u is in {unit!r}; nanomaggy is needed. {message}" in str(error.value)


def test_a_redshift_with_a_word_for_its_unit_is_read(tmp_path: Path) -> None:
    units = {**{band: dict[str, str]() for band in "ugriz"}, "redshift": {"unit": "none"}}
    schema = pa.schema([pa.field(name, pa.float64(), metadata=unit) for name, unit in units.items()])
    columns = [*(MEAN_MAGNITUDES[n] + np.zeros(3) for n in range(5)), np.full(3, 0.1)]
    pyarrow.parquet.write_table(pa.table(columns, schema=schema), tmp_path / "my.parquet")

    assert read_galaxies(tmp_path / "my.parquet").block.redshifts.tolist() == [0.1] * 3
