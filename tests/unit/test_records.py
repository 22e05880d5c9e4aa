"""What becomes of the numbers of a table: light, extinction, errors, sizes, positions, labels and identifiers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from msgspec.structs import replace

from inference.models import shipped
from inference.quality import Quality
from scripts.command.errors import SourceError, UsageError
from scripts.data import records, table_file, user_table
from scripts.data.records import Records, observed_flux, read_records
from scripts.data.table_file import ArrayTable
from scripts.data.user_table import open_table
from scripts.simulation.photometry import asinh_magnitudes

NAN = np.nan
MAGNITUDES = np.array([19.2, 17.5, 16.6, 16.1, 15.8])
FLUX = observed_flux(MAGNITUDES)


def galaxies(num: int, pattern: str = "{b}", light: Any = MAGNITUDES, **columns: Any) -> dict[str, np.ndarray]:
    """Return the columns of alike galaxies; of those that are named, one value for each galaxy."""
    bands = {pattern.format(b=band): np.full(num, light[number], float) for number, band in enumerate("ugriz")}
    return bands | {name: np.asarray(values) for name, values in columns.items()}


def of_bands(pattern: str, values: Any) -> dict[str, np.ndarray]:
    """Return a column per band with the same values."""
    return {pattern.format(b=band): np.array(values, float) for band in "ugriz"}


def read(folder: Path, columns: dict[str, np.ndarray], fields: str = "") -> tuple[Records, np.ndarray]:
    found = read_records(ArrayTable.of(Path("my.npz"), columns), fields, folder / "records")
    return found, found.rows(0, found.num_rows)


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows are read at a time."""
    for module in (records, table_file, user_table):
        monkeypatch.setattr(module, "BATCH_ROWS", 2)


# ----------------------------------------------------------------------------------------------------- light


@pytest.mark.parametrize("code", [-9999.0, -10_000.0, 0.0, NAN])
def test_a_code_of_a_missing_magnitude_stays_what_it_is(code: float, tmp_path: Path) -> None:
    columns = galaxies(2, **of_bands("extinction_{b}", [0.1, 0.1])) | {"g": np.array([code, 17.5])}

    _, rows = read(tmp_path, columns)

    np.testing.assert_array_equal(rows["magnitudes"][:, 1], [code, 17.4])


def test_only_extinction_that_can_be_is_taken_and_the_rest_is_counted(tmp_path: Path) -> None:
    stated = np.array([0, 0.1, 49.9, 50, -0.1, NAN, -9999])
    columns = galaxies(7, **of_bands("extinction_{b}", np.zeros(7))) | {"extinction_g": stated}

    found, rows = read(tmp_path, columns)

    np.testing.assert_array_equal(rows["extinction"][:, 1], [0, 0.1, 49.9, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows["magnitudes"][:, 1], 17.5 - rows["extinction"][:, 1])
    assert found.rules["extinction missing"] == 4


@pytest.mark.parametrize(
    ("fields", "magnitude", "num_missing"), [("", 16.5, 1), ("dereddened=no", 16.5, 1), ("dereddened=yes", 16.6, 0)]
)
def test_what_is_corrected_already_is_not_corrected_again(
    fields: str, magnitude: float, num_missing: int, tmp_path: Path
) -> None:
    found, rows = read(tmp_path, galaxies(2, **of_bands("A_{b}", [0.1, NAN])), fields)

    assert rows["magnitudes"][:, 2] == pytest.approx([magnitude, 16.6])
    assert found.rules["extinction missing"] == num_missing
    assert rows["extinction"].tolist() == [[0.1] * 5, [0.0] * 5]


def test_columns_of_extinction_go_before_a_reddening(tmp_path: Path) -> None:
    _, of_ebv = read(tmp_path, galaxies(1, ebv=[0.02]))
    _, of_columns = read(tmp_path, galaxies(1, ebv=[0.02], **of_bands("A_{b}", [0.3])))

    # Schlafly & Finkbeiner 2011, table 6, R_V = 3.1.
    assert of_ebv["extinction"][0] == pytest.approx([0.08478, 0.06606, 0.0457, 0.03396, 0.02526])
    assert of_columns["extinction"][0].tolist() == [0.3] * 5


def test_much_extinction_in_r_is_flagged(tmp_path: Path) -> None:
    limit = shipped().card.max_extinction_r
    assert limit is not None
    stated = np.array([0.9, 1.1, 0.1]) * limit

    _, rows = read(tmp_path, galaxies(3, **of_bands("A_{b}", [2 * limit] * 3)) | {"A_r": stated})

    assert rows["quality"].tolist() == [0, Quality.HIGH_EXTINCTION.value, 0]


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (galaxies(4, "flux_{b}", FLUX, **of_bands("flux_err_{b}", [0.5, 0, -1, NAN])), [0.5, NAN, NAN, NAN]),
        (galaxies(4, "flux_{b}", FLUX, **of_bands("flux_ivar_{b}", [4, 0, -1, NAN])), [0.5, NAN, NAN, NAN]),
        (galaxies(4, **of_bands("err_{b}", [0.01, 0, -1, np.inf])), [0.01 * FLUX[2] * np.log(10) / 2.5, NAN, NAN, NAN]),
        (galaxies(4), [NAN] * 4),
    ],
    ids=["sigma", "inverse variance", "magnitudes", "none"],
)
def test_errors_become_those_of_the_flux(columns: dict[str, np.ndarray], expected: list[float], tmp_path: Path) -> None:
    _, rows = read(tmp_path, columns)

    assert rows["flux_error"][:, 2] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("is_flux", [True, False])
def test_little_signal_in_a_band_but_u_is_flagged(is_flux: bool, tmp_path: Path) -> None:
    """Of each galaxy one band has a fifth of its light as error; the last has no measurement of it."""
    share = np.full((7, 5), 0.01)
    share[range(5), range(5)], share[5, 3], share[6, 3] = 0.21, 0.19, 0.21
    error = FLUX * share if is_flux else share * 2.5 / np.log(10)
    names = ("flux_{b}", "flux_err_{b}") if is_flux else ("{b}", "err_{b}")
    errors = {names[1].format(b=band): error[:, number] for number, band in enumerate("ugriz")}
    columns = galaxies(7, names[0], FLUX if is_flux else MAGNITUDES, **errors)
    columns[names[0].format(b="i")][6] = -9999

    _, rows = read(tmp_path, columns)

    low = Quality.LOW_SIGNAL.value
    assert rows["quality"].tolist() == [0, low, low, low, low, 0, 0]


# ------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("pattern", "light"), [("petroMag_{b}", [16.8, -9999, 16.8]), ("petroFlux_{b}", [FLUX[2] * 10**-0.08, 0, 1.0])]
)
def test_petrosian_light_is_compared_where_both_are_measured(pattern: str, light: list[float], tmp_path: Path) -> None:
    columns = galaxies(3, "modelMag_{b}", **of_bands("extinction_{b}", [0.1] * 3), **of_bands(pattern, light))
    columns["modelMag_r"][2] = -9999

    _, rows = read(tmp_path, columns)

    # Both are corrected alike.
    assert rows["petrosian_minus_model"][:, 2] == pytest.approx([0.2, NAN, NAN], abs=1e-4, nan_ok=True)


def test_light_is_not_compared_with_itself(tmp_path: Path) -> None:
    for pattern in ("petroMag_{b}", "{b}"):
        _, rows = read(tmp_path, galaxies(1, pattern))
        assert np.isnan(rows["petrosian_minus_model"]).all()


def test_only_shares_from_0_to_1_are_taken(tmp_path: Path) -> None:
    stated = np.array([-0.01, 0, 0.5, 1, 1.01, NAN])

    _, rows = read(tmp_path, galaxies(6, fracDeV_r=stated, expAB_r=stated, deVAB_r=stated))

    np.testing.assert_array_equal(rows["bulge_fraction"], [NAN, 0, 0.5, 1, NAN, NAN])
    for name in ("axis_ratio", "bulge_axis_ratio"):
        np.testing.assert_array_equal(rows[name], [NAN, NAN, 0.5, 1, NAN, NAN])


# -------------------------------------------------------------------------------------------------- positions


def test_right_ascension_may_be_counted_from_minus_180(tmp_path: Path) -> None:
    found, rows = read(tmp_path, galaxies(4, ra=[-180, -0.5, -180.5, 0], dec=[0.0] * 4))

    np.testing.assert_array_equal(rows["ra_deg"], [180, 359.5, NAN, 0])
    assert found.rules["no position on the sky"] == 1


@pytest.mark.parametrize("name", ["ra", "dec"])
def test_one_coordinate_is_no_position_and_is_not_counted(name: str, tmp_path: Path) -> None:
    found, rows = read(tmp_path, galaxies(2, **{name: [1.0, 2.0]}))

    assert np.isnan([rows["ra_deg"], rows["dec_deg"]]).all()
    assert found.rules["no position on the sky"] == 0


# ----------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("column", "values", "is_kept", "rule"),
    [
        ("zwarning", [0, 4, NAN, 0], [True, False, True, False], "zWarning not 0"),
        ("class", ["galaxy", "QSO", "", "GALAXY"], [True, False, True, False], "class not GALAXY"),
        ("clean", [1, 0, NAN, 1], [True, False, True, False], "clean not 1"),
    ],
)
def test_a_flag_takes_the_label_that_there_is(
    column: str, values: list[Any], is_kept: list[bool], rule: str, tmp_path: Path
) -> None:
    """The last galaxy has none."""
    found, rows = read(tmp_path, galaxies(4, redshift=[0.1, 0.1, 0.1, NAN], **{column: values}))

    assert np.isfinite(rows["redshift"]).tolist() == is_kept
    assert found.rules[rule] == 1


def test_a_flag_of_a_galaxy_without_a_label_is_not_counted(tmp_path: Path) -> None:
    found, rows = read(tmp_path, galaxies(2, redshift=[-9999.0, 0.1], zwarning=[4, 0]))

    assert rows["redshift"].tolist() == [-9999.0, 0.1]
    assert found.rules["zWarning not 0"] == 0


# ------------------------------------------------------------------------------------------------ identifiers


@pytest.mark.usefixtures("short_blocks")
def test_rows_without_identifiers_are_numbered_through_all_blocks(tmp_path: Path) -> None:
    seen: list[int] = []

    found = read_records(ArrayTable.of(Path("my.npz"), galaxies(5)), "", tmp_path / "records", seen.append)

    assert found.rows(0, 5)["object_id"].tolist() == [1, 2, 3, 4, 5]
    assert found.rows(1, 3)["object_id"].tolist() == [2, 3]
    assert (found.num_rows, seen, found.rules["object_id repeated"]) == (5, [2, 2, 1], 0)


@pytest.mark.usefixtures("short_blocks")
def test_repeated_identifiers_are_found_in_other_blocks(tmp_path: Path) -> None:
    found, rows = read(tmp_path, galaxies(5, id=[7, 3, 7, 7, 3]))

    assert rows["object_id"].tolist() == [7, 3, 7, 7, 3]
    assert found.rules["object_id repeated"] == 3
    assert records.repeated(found).tolist() == [False, False, True, True, True]


@pytest.mark.usefixtures("short_blocks")
def test_a_table_that_is_read_again_for_its_identifiers_counts_every_row_once(tmp_path: Path) -> None:
    """Only in the third row it turns out that they are no whole numbers."""
    columns = galaxies(3, id=np.array(["7", "8", "SDSS J1"], object), zspec=np.array(["0.1", "bad", "0.3"]))

    found, rows = read(tmp_path, columns)

    assert (found.num_rows, found.has_source_id, found.text_columns) == (3, True, ("source_id",))
    assert rows["source_id"].tolist() == [b"7", b"8", b"SDSS J1"]
    assert rows["object_id"].tolist() == [1, 2, 3]
    assert found.notes == (
        "id holds 'SDSS J1', not whole numbers from 0 to 2^63: rows are numbered, id is kept as source_id",
        "zspec: 1 cell holds no number, as 'bad', read as missing",
    )


def test_an_identifier_may_take_64_bytes(tmp_path: Path) -> None:
    _, rows = read(tmp_path, galaxies(1, id=np.array(["é" * 32])))

    assert rows["source_id"][0].decode() == "é" * 32
    with pytest.raises(SourceError, match=rf'^my\.npz: id holds \'{"é" * 33}\'…, longer than 64 bytes.*"object_id="'):
        read(tmp_path, galaxies(2, id=np.array(["short", "é" * 33])))


# --------------------------------------------------------------------------------------- columns of several values


def test_a_column_must_hold_a_value_for_every_band(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^my\.npz: modelFlux must hold one value for each of u, g, r, i, z per gal"):
        read(tmp_path, {"modelFlux": np.ones((3, 4))})
    with pytest.raises(SourceError, match="must hold one value for each of u, g, r, i, z"):
        read(tmp_path, {"modelFlux": np.ones(3)})


def test_a_value_of_a_column_of_one_is_the_first(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^FIELDS: position\[0\] asks for value 0, counted from 0, of 1 in my\.npz\.$"
    ):
        read(tmp_path, galaxies(1, position=[1.0]), "ra=position[0]")


@pytest.mark.usefixtures("short_blocks")
def test_values_of_lists_that_are_nowhere_in_a_block_are_missing(tmp_path: Path) -> None:
    light = {band: [MAGNITUDES[number]] * 3 for number, band in enumerate("ugriz")}
    pyarrow.parquet.write_table(pa.table({**light, "radii": [None, None, [1.0, 2.0]]}), tmp_path / "my.parquet")

    found = read_records(open_table(tmp_path / "my.parquet"), "disc_radius=radii[1]", tmp_path / "records")

    np.testing.assert_array_equal(found.rows(0, 3)["disc_radius"], [NAN, NAN, 2])


def test_a_flux_in_a_band_that_sdss_does_not_have_is_a_plain_magnitude_in_it(tmp_path: Path) -> None:
    card = shipped().card
    inputs = replace(card.inputs, bands=("g", "r", "y"))
    card = replace(card, inputs=inputs, photometry=None, domain=None)
    columns = {f"flux_{band}": np.array([0.01, -0.01, FLUX[2]]) for band in card.inputs.bands}
    errors = {f"flux_err_{band}": np.array([0.001, 0.001, 0.1]) for band in card.inputs.bands}

    found = read_records(ArrayTable.of(Path("a"), columns | errors), "", tmp_path / "records", card=card)
    rows = found.rows(0, 3)

    assert rows["magnitudes"][0, 1] == pytest.approx(asinh_magnitudes(np.full((1, 5), 0.01))[0, 2])
    assert rows["magnitudes"][[0, 2], 2] == pytest.approx([27.5, 16.6], abs=1e-3)
    assert rows["magnitudes"][1, 2] > 30
    assert rows["quality"].tolist() == [0, Quality.LOW_SIGNAL.value, 0]
