"""Tables as real tools write them: each of these was once read wrongly or refused without help."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from torch.utils.data import TensorDataset

from inference.cleaning import shipped_limits
from inference.quality import Quality
from scripts.command.errors import CommandError, SourceError
from scripts.data import read_galaxies
from scripts.data.records import read_records
from scripts.data.user_table import open_table

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean

ROW = "19.638,18.529,17.632,16.579,17.262"
MAGNITUDES = [19.638, 18.529, 17.632, 16.579, 17.262]


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "my.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def masked(folder: Path) -> Path:
    table = Table({band: np.full(3, MAGNITUDES[number]) for number, band in enumerate("ugriz")})
    table["objid"] = MaskedColumn([5, 6, 7], mask=[False, True, False], fill_value=999_999)
    table["zspec"] = [0.1, 0.2, 0.3]
    table["zwarning"] = MaskedColumn([0, 7, 4], mask=[False, True, False], fill_value=-1)
    table.write(folder / "my.fits")
    return folder / "my.fits"


def test_a_masked_identifier_is_none(tmp_path: Path) -> None:
    found = read_galaxies(masked(tmp_path))

    assert found.block.object_id.tolist() == [1, 2, 3]
    assert found.source_id.tolist() == ["5", "", "7"]


@pytest.mark.parametrize(
    "identifiers",
    [
        ["SDSS J1000+2000", "SDSS J1000+2001"],
        ["", "7"],
        ["-9999", "7"],
        ["9223372036854775808", "10000000000000000000000000"],
    ],
)
def test_identifiers_that_are_no_whole_numbers_stay_with_their_galaxies(identifiers: list[str], tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, "id,u,g,r,i,z\n" + "".join(f"{one},{ROW}\n" for one in identifiers)))

    assert found.block.object_id.tolist() == [1, 2]
    assert found.source_id.tolist() == identifiers
    assert "rows are numbered, id is kept as source_id" in found.report.notes[0]


def test_a_cell_that_is_no_number_costs_that_cell(tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, f"u,g,r,i,z,zspec\n{ROW},0.1\n{ROW}, \n{ROW},bad\n{ROW},?\n"))

    np.testing.assert_array_equal(found.block.redshifts, [0.1, np.nan, np.nan, np.nan])
    assert found.report.notes == ("zspec: 2 cells hold no number, as 'bad', read as missing",)


def test_words_and_exponents_of_other_programs_are_numbers(tmp_path: Path) -> None:
    found = read_galaxies(
        write(tmp_path, f"u,g,r,i,z,zspec,clean\n{ROW},1.2D-01,True\n{ROW},0.1,False\n{ROW},0.1,true\n")
    )

    np.testing.assert_array_equal(found.block.redshifts, [0.12, np.nan, 0.1])


@pytest.mark.parametrize("is_first", [True, False])
def test_blanks_between_white_space_are_no_values_where_columns_have_places(is_first: bool, tmp_path: Path) -> None:
    cells = [f"{value:6.2f}" for value in MAGNITUDES]
    lines = [
        "     u     g     r     i     z  zspec",
        "".join([*cells, "   0.1 "]),
        "".join([cells[0], " " * 6, *cells[2:], "   0.2 "]),
        "".join([*cells, "       "]),
    ]
    ids = ["id", " 0", " 1", " 2"]
    rows = [f"{one} {line}" if is_first else f"{line} {one}" for one, line in zip(ids, lines, strict=True)]

    found = read_galaxies(write(tmp_path, "\n".join([rows[0], "# a comment", *rows[1:], ""])))

    np.testing.assert_array_equal(found.block.object_id, [0, 1, 2])
    np.testing.assert_array_equal(np.isnan(found.block.magnitudes[:, 1]), [False, True, False])
    np.testing.assert_array_equal(found.block.redshifts, [0.1, 0.2, np.nan])
    assert found.report.notes == ("columns read at fixed places, blank where there is no value",)


def test_a_value_that_leaves_its_place_is_an_error(tmp_path: Path) -> None:
    row = "  ".join(f"{value:5.2f}" for value in MAGNITUDES)
    lines = ["    u      g      r      i      z", " " * 5 + row[5:], *[row] * 31_000, f"{row[:5]}1{row[6:]}", ""]

    with pytest.raises(SourceError, match="has a value between its columns"):
        read_galaxies(write(tmp_path, "\n".join(lines)))


def test_a_list_of_another_length_costs_its_row(tmp_path: Path) -> None:
    fluxes = [[5.0, 20.0, 40.0, 60.0, 70.0]] * 3 + [[5.0], None]
    pyarrow.parquet.write_table(pa.table({"modelFlux": fluxes}), tmp_path / "my.parquet")

    found = read_galaxies(tmp_path / "my.parquet")

    is_missing = np.isnan(found.block.magnitudes).all(axis=1)
    np.testing.assert_array_equal(is_missing, [False] * 3 + [True] * 2)
    assert found.report.notes == ("modelFlux: 1 cell holds no number, as 'a list of 1', read as missing",)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 5)], ids=["any length", "five"])
def test_a_batch_without_any_list_costs_its_rows(
    kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.data.user_table.BATCH_ROWS", 2)
    fluxes = pa.array([None, None, *[[5.0, 20.0, 40.0, 60.0, 70.0]] * 3, None], kind)
    pyarrow.parquet.write_table(pa.table({"modelFlux": fluxes}), tmp_path / "my.parquet")

    found = read_galaxies(tmp_path / "my.parquet")

    is_missing = np.isnan(found.block.magnitudes).all(axis=1)
    np.testing.assert_array_equal(is_missing, [True] * 2 + [False] * 3 + [True])


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, f"u,g,r,i,z\n{ROW}\n"))

    with pytest.raises(CommandError, match=r"records of my\.csv cannot be written to /dev: No space left on device"):
        read_records(table, "", Path("/dev/full"))


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.fits"
    Table({band: np.full(300, MAGNITUDES[number]) for number, band in enumerate("ugriz")}).write(path)
    path.write_bytes(path.read_bytes()[:-2880])

    with pytest.raises(SourceError, match=r"my\.fits cannot be read to its end, it may be cut off or damaged"):
        read_galaxies(path)


def test_identifiers_that_a_spreadsheet_rounded_are_named(tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, f"objid,u,g,r,i,z\n1.23765E+18,{ROW}\n1.23765E+18,{ROW}\n"))

    assert "a spreadsheet has rounded them" in found.report.notes[0]


def test_bands_that_a_survey_does_not_have_are_estimated_and_flagged(tmp_path: Path) -> None:
    path = write(tmp_path, "id,g,r,z\n1,18.5,17.6,17.3\n")

    block, _, _, quality, *_ = read_galaxies(path, "u=,i=")

    assert np.isnan(block.magnitudes[0, [0, 3]]).all()
    assert quality.tolist() == [Quality.IMPUTED_BAND.value]
    for fields, message in (("", 'FIELDS="u=,i="'), ("g=g,r=r,z=z", '"u=,i="'), ("r=,u=", "not r")):
        with pytest.raises(CommandError, match=message):
            read_galaxies(path, fields)


def test_one_value_of_a_column_of_several_is_named_by_its_place(tmp_path: Path) -> None:
    fluxes = 10 ** (-0.4 * (np.array([[1, 1, *MAGNITUDES]]) - 22.5))
    Table({"NMGY": fluxes}).write(tmp_path / "nsa.fits")
    fields = ",".join(f"flux_{band}=NMGY[{number}]" for number, band in enumerate("ugriz", start=2))

    assert read_galaxies(tmp_path / "nsa.fits", fields).block.magnitudes[0] == pytest.approx(MAGNITUDES, abs=0.01)
    with pytest.raises(CommandError, match=r"NMGY\[7\] asks for value 7, counted from 0, of 7"):
        read_galaxies(tmp_path / "nsa.fits", fields.replace("[6]", "[7]"))


def test_a_masked_flag_costs_no_label(tmp_path: Path) -> None:
    found = read_galaxies(masked(tmp_path), "object_id=")

    np.testing.assert_array_equal(found.block.redshifts, [0.1, 0.2, np.nan])
    assert found.report.rules["zWarning not 0"] == 1


def test_flags_without_a_value_cost_no_label(tmp_path: Path) -> None:
    rows = f"{ROW},0.1,,,\n{ROW},0.1,0,GALAXY,1\n{ROW},0.1,0,STAR,1\n{ROW},0.1,0,GALAXY,0\n"

    found = read_galaxies(write(tmp_path, f"u,g,r,i,z,redshift,zwarning,class,clean\n{rows}"))

    np.testing.assert_array_equal(found.block.redshifts, [0.1, 0.1, np.nan, np.nan])


def test_decimal_commas_are_read_and_reported(tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, f"id;u;g;r;i;z\n1;{ROW.replace(',', ';').replace('.', ',')}\n"))

    assert found.block.magnitudes.tolist() == [MAGNITUDES]
    assert found.report.notes == ("numbers read with decimal commas",)


def test_a_letter_may_cross_the_end_of_what_is_looked_at(tmp_path: Path) -> None:
    start = f"name,u,g,r,i,z\nx,{ROW}\n"
    rows = "".join(f"{'x' * 1000},{ROW}\n" for _ in range(1010))
    filler = "x" * (2**20 - 1 - len(start) - len(rows))

    path = write(tmp_path, f"{start}{rows}{filler}é,{ROW}\n")

    assert path.read_bytes()[2**20 - 1 : 2**20 + 1] == "é".encode()
    assert len(read_galaxies(path).block) == 1012


def test_text_of_another_encoding_matters_only_where_it_is_read(tmp_path: Path) -> None:
    latin = f"name,u,g,r,i,z\nGalaxie déformée,{ROW}\n".encode("latin-1")

    for column in (b"name", b"class", "né".encode("latin-1")):
        found = read_galaxies(write(tmp_path, latin.replace(b"name", column, 1)))
        assert found.block.magnitudes.tolist() == [MAGNITUDES]
        assert found.report.notes == ("text read as latin-1",)


def test_sexagesimal_positions_are_read_and_reported(tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, f"ra,dec,u,g,r,i,z\n12:34:00.5,-00:12:33.1,{ROW}\n,,{ROW}\n"))

    assert found.ra_deg == pytest.approx([188.502083333, np.nan], nan_ok=True)
    assert found.dec_deg == pytest.approx([-0.209194444, np.nan], nan_ok=True)
    assert found.report.notes == (
        "ra read as hours, minutes and seconds",
        "dec read as degrees, minutes and seconds",
    )


def test_a_position_that_is_none_is_counted_or_named(tmp_path: Path) -> None:
    found = read_galaxies(write(tmp_path, f"ra,dec,u,g,r,i,z\n12 34 00,1:0:0,{ROW}\n12:x,1:0:0,{ROW}\n"))

    assert found.ra_deg == pytest.approx([188.5, np.nan], nan_ok=True)
    assert found.report.rules["no position on the sky"] == 1
    with pytest.raises(SourceError, match=r"my\.csv: ra holds '12:x', which is not an angle such as 12:34:00\.5"):
        read_galaxies(write(tmp_path, f"ra,dec,u,g,r,i,z\n12:x,1:0:0,{ROW}\n"))


def test_the_catalogue_of_a_fits_ldac_is_its_second_table(tmp_path: Path) -> None:
    header = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", "80A", array=["x"])])
    catalogue = fits.BinTableHDU(Table({band: [MAGNITUDES[number]] for number, band in enumerate("ugriz")}))
    fits.HDUList([fits.PrimaryHDU(), header, catalogue]).writeto(tmp_path / "my.fits")

    assert read_galaxies(tmp_path / "my.fits").block.magnitudes.tolist() == [MAGNITUDES]


@pytest.mark.parametrize("change", [lambda tensor: tensor[2:5], lambda tensor: tensor[2:5].requires_grad_()])
def test_tensors_may_be_slices_or_require_gradients(
    change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    images = torch.randn(8, 5, 32, 32)
    magnitudes = torch.tensor(MEAN_MAGNITUDES).repeat(8, 1) + torch.arange(8)[:, None] / 100
    torch.save(TensorDataset(change(images), change(magnitudes)), tmp_path / "my.pt")

    block = read_galaxies(tmp_path / "my.pt").block

    assert np.array_equal(block.images, images[2:5].detach().numpy())
    assert np.array_equal(block.magnitudes, magnitudes[2:5].detach().numpy())
