"""Published files and FITS cutouts become datasets with their own images; missing pixels are flagged, never lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from astropy.io import fits
from safetensors.numpy import load_file
from torch.utils.data import TensorDataset

from inference.cleaning import shipped_limits
from inference.quality import Quality
from scripts.command.errors import SourceError, UsageError
from scripts.data import read_galaxies
from scripts.data.fits_cutouts import read_cutout
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.published_file import CubeFile
from scripts.data.user_table import is_table
from scripts.data.verification import find_problems
from scripts.data.writer import make

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean

NUM = 60
"""More than one shard of 1 MB."""


def images(side: int = 32, num: int = NUM) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, 5, side, side)).astype(np.float32)


def magnitudes(num: int = NUM) -> np.ndarray:
    return MEAN_MAGNITUDES + np.linspace(-0.5, 0.5, num)[:, None]


def make_dataset(root: Path, source: Path, *, training: bool = False) -> Path:
    scratch = root / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    variables = DatasetVariables(source=str(source), name="mine", training=training, shard_mb=1)
    plan = plan_dataset(variables, root=root, scratch=scratch)
    make(plan, processes=2)
    return plan.folder


def read(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of all shards, and the quality of the table."""
    card = json.loads((folder / "dataset.json").read_bytes())
    shards = [load_file(folder / entry["name"]) for entry in card["shards"]]
    arrays = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    table = pyarrow.parquet.read_table(folder / "table.parquet")
    return {**arrays, **{name: table.column(name).to_numpy() for name in ("quality", "ra_deg")}}


# ------------------------------------------------------------------------------------ published files


@pytest.mark.parametrize("side", [32, 64])
def test_a_tensor_dataset_keeps_its_images_and_numbers(side: int, tmp_path: Path) -> None:
    tensors = images(side), magnitudes(), np.linspace(0.01, 0.3, NUM)
    torch.save(TensorDataset(*map(torch.from_numpy, tensors)), tmp_path / "data.pt")

    made = read(make_dataset(tmp_path, tmp_path / "data.pt"))

    start = (side - 32) // 2
    assert np.array_equal(made["images"], tensors[0][:, :, start : start + 32, start : start + 32])
    assert np.array_equal(made["magnitudes"], tensors[1])
    assert np.array_equal(made["redshifts"], tensors[2])
    assert made["object_id"].tolist() == list(range(1, NUM + 1))


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Evil(), tmp_path / "data.pt")

    with pytest.raises(SourceError, match=r"data\.pt is not a TensorDataset that loads without running code"):
        make_dataset(tmp_path, tmp_path / "data.pt")
    assert not (tmp_path / "ran").exists()


def labels(num: int = NUM) -> np.ndarray:
    names = ["ra", "dec", "z", "EBV", *(f"modelMag_{band}" for band in "ugriz")]
    table = np.zeros(num, dtype=[(name, "f8") for name in names])
    table["ra"], table["z"], table["EBV"] = np.linspace(1, 9, num), 0.1, 0.01
    for number, band in enumerate("ugriz"):
        table[f"modelMag_{band}"] = magnitudes(num)[:, number]
    return table


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_cube_keeps_its_images_and_labels(save: object, tmp_path: Path) -> None:
    cube = images(64)
    save(tmp_path / "sdss.npz", cube=np.moveaxis(cube, 1, -1), labels=labels())  # type: ignore[operator]

    made = read(make_dataset(tmp_path, tmp_path / "sdss.npz"))

    assert np.array_equal(made["images"], cube[:, :, 16:48, 16:48])
    assert made["magnitudes"][:, 2] == pytest.approx(magnitudes()[:, 2] - 0.02285)
    assert made["ra_deg"] == pytest.approx(labels()["ra"])


def test_a_cube_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    np.savez(tmp_path / "sdss.npz", cube=images(), labels=labels())
    cube = CubeFile(tmp_path / "sdss.npz")

    parts = [cube.read(0, 7), cube.read(7, 20), cube.read(30, 40), cube.read(5, 8)]

    for part, (start, stop) in zip(parts, [(0, 7), (7, 20), (30, 40), (5, 8)], strict=True):
        assert np.array_equal(part, images()[start:stop])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"cube": images(), "labels": labels(3)}, "60 cutouts and 3 labels"),
        ({"cube": images()[:, :4], "labels": labels()}, r"images of shape \(60, 4, 32, 32\)"),
        ({"cube": images()}, r"no magnitudes of shape \(N, 5\)"),
    ],
    ids=["few labels", "four bands", "no labels"],
)
def test_a_cube_that_is_none_is_refused_by_name(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "sdss.npz", **arrays)

    with pytest.raises(SourceError, match=message):
        make_dataset(tmp_path, tmp_path / "sdss.npz")


def test_missing_pixels_are_kept_flagged_and_left_out_of_training(tmp_path: Path) -> None:
    dirty = images()
    dirty[1, 0, 0, :10] = np.nan
    dirty[2, 3] = 0
    dirty[3, 1, 15, 15] = np.nan
    np.savez(tmp_path / "sdss.npz", cube=dirty, labels=labels())

    folder = make_dataset(tmp_path, tmp_path / "sdss.npz")
    everything, training = read(folder), read(make_dataset(tmp_path / "t", tmp_path / "sdss.npz", training=True))

    refused = Quality.FILLED_PIXELS | Quality.REFUSED
    assert everything["quality"][:5].tolist() == [0, Quality.FILLED_PIXELS, refused, refused, 0]
    # The shard holds what was measured; the worker fills it by the same rules.
    assert np.array_equal(everything["images"], dirty, equal_nan=True)
    assert list(find_problems(folder)) == []
    assert np.array_equal(training["images"], np.delete(dirty, [1, 2, 3], axis=0))
    report = json.loads((folder / "cleaning.json").read_bytes())
    assert report["num_filled_pixels"] == 10 + 1024 + 1


# --------------------------------------------------------------------------------------- FITS cutouts


def write_cutouts(folder: Path, *, side: int = 40, as_cube: bool = True, unit: str = "nanomaggy") -> np.ndarray:
    """Three galaxies, of which the last has no file."""
    folder.mkdir()
    rows = "".join(f"{number},{','.join(map(str, MEAN_MAGNITUDES))}\n" for number in (11, 12, 13))
    (folder / "list.csv").write_text(f"object_id,u,g,r,i,z\n{rows}")
    pixels = images(side, num=2)
    for number, bands in zip((11, 12), pixels, strict=True):
        if as_cube:
            fits.writeto(folder / f"{number}.fits", bands, fits.Header([("BUNIT", unit)]))
            continue
        # Out of order, but named.
        planes = [fits.ImageHDU(bands["ugriz".index(band)], name=band) for band in "zirgu"]
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(folder / f"{number}.fits")
    return pixels[:, :, 4:36, 4:36] if side == 40 else pixels


@pytest.mark.parametrize("as_cube", [True, False], ids=["cube", "one image per band"])
def test_fits_cutouts_are_read_beside_their_table(as_cube: bool, tmp_path: Path) -> None:
    pixels = write_cutouts(tmp_path / "stamps", as_cube=as_cube)

    folder = make_dataset(tmp_path, tmp_path / "stamps")
    made = read(folder)

    assert np.array_equal(made["images"][:2], pixels)
    assert made["quality"].tolist() == [0, 0, Quality.FILLED_PIXELS | Quality.REFUSED]
    rules = {rule["rule"]: rule["num_rows"] for rule in json.loads((folder / "cleaning.json").read_bytes())["rules"]}
    assert rules["no cutout"] == 1


def test_a_column_names_the_files_of_cutouts(tmp_path: Path) -> None:
    pixels = write_cutouts(tmp_path / "stamps")
    magnitudes = ",".join(map(str, MEAN_MAGNITUDES))
    (tmp_path / "stamps" / "list.csv").write_text(f"file,u,g,r,i,z\n12.fits,{magnitudes}\n11.fits,{magnitudes}\n")

    made = read(make_dataset(tmp_path, tmp_path / "stamps"))

    assert np.array_equal(made["images"], pixels[::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "ct"}, r"11\.fits is in 'ct' \(BUNIT\); nanomaggies per pixel"),
        ({"unit": "nJy/arcsec2"}, r"11\.fits is in 'nJy/arcsec2' \(BUNIT\)"),
        ({"side": 20}, r"11\.fits holds images of shape \(5, 20, 20\)"),
    ],
)
def test_cutouts_in_another_unit_or_size_are_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    write_cutouts(tmp_path / "stamps", **changes)  # type: ignore[arg-type]

    with pytest.raises(SourceError, match=message):
        make_dataset(tmp_path, tmp_path / "stamps")


def write_cutout(folder: Path, pixels: np.ndarray, **header: object) -> Path:
    fits.writeto(folder / "1.fits", pixels, fits.Header(list(header.items())))
    return folder / "1.fits"


@pytest.mark.parametrize("shape", [(5, 64, 16), (5, 16, 64), (4, 64, 64), (64, 64)])
def test_a_cutout_without_32_pixels_in_five_bands_is_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds images of shape .*; \(5, H, W\) with at least 32 pixels are read"):
        read_cutout(write_cutout(tmp_path, np.zeros(shape, dtype=np.float32)))


def test_a_cutout_in_janskys_is_converted(tmp_path: Path) -> None:
    pixels = images(num=1)[0]

    assert read_cutout(write_cutout(tmp_path, pixels, BUNIT="nJy/pix")) == pytest.approx(pixels / 3631, rel=1e-6)


def test_a_cutout_with_bands_last_is_read(tmp_path: Path) -> None:
    pixels = images(num=1)[0]

    assert np.array_equal(read_cutout(write_cutout(tmp_path, np.moveaxis(pixels, 0, -1))), pixels)


@pytest.mark.parametrize(
    "header",
    [
        {"BANDS": "zirgu"},
        {"FILTERS": "z,i,r,g,u"},
        {"FILTER": "z i r g u"},
        {f"BAND{number}": band for number, band in enumerate("zirgu")},
        {f"FILTER{number}": f"sdss_{band}" for number, band in enumerate("zirgu", start=1)},
    ],
    ids=lambda header: next(iter(header)),
)
def test_the_order_of_the_bands_is_that_of_the_header(header: dict[str, str], tmp_path: Path) -> None:
    pixels = images(num=1)[0]

    assert np.array_equal(read_cutout(write_cutout(tmp_path, pixels, **header)), pixels[::-1])


def test_axes_of_one_pixel_are_none(tmp_path: Path) -> None:
    pixels = images(num=1)[0]

    assert np.array_equal(read_cutout(write_cutout(tmp_path, pixels[None])), pixels)


@pytest.mark.parametrize("name", ["cutouts/{id}.fits", "{id:05}.fits", "{band}/{id}.fits", "{id}/{band}.fits"])
def test_cutouts_are_found_below_their_table(name: str, tmp_path: Path) -> None:
    """With a table in Parquet, which alone would be read without them."""
    pixels = images(num=2)
    columns = {"object_id": [11, 12], **{band: [MEAN_MAGNITUDES[i]] * 2 for i, band in enumerate("ugriz")}}
    for row, identifier in enumerate((11, 12)):
        for number, band in enumerate("ugriz"):
            path = tmp_path / name.format(id=identifier, band=band)
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                fits.writeto(path, pixels[row][number] if "{band}" in name else pixels[row])
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "list.parquet")

    assert not is_table(tmp_path)
    assert np.array_equal(read_galaxies(tmp_path).block.images, pixels)


def write_bands(folder: Path, names: list[str], keyword: str) -> Path:
    pixels = images(num=1)[0]
    parts = [fits.ImageHDU(pixels["ugriz".index(name[-1].lower())]) for name in names]
    for part, name in zip(parts, names, strict=True):
        part.header[keyword] = name
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(folder / "7.fits")
    return folder / "7.fits"


@pytest.mark.parametrize(
    ("names", "keyword"),
    [(["SDSS_r", "SDSS_i", "SDSS_u", "SDSS_z", "SDSS_g"], "EXTNAME"), (["sdss.R", "i", "G", "u", "x z"], "FILTER")],
)
def test_images_of_bands_are_in_the_order_of_their_names(names: list[str], keyword: str, tmp_path: Path) -> None:
    assert np.array_equal(read_cutout(write_bands(tmp_path, names, keyword)), images(num=1)[0])


@pytest.mark.parametrize(
    ("names", "keyword"), [(["u", "g", "r", "i", "i"], "EXTNAME"), (["F1u", "F2g", "F3r", "F4i", "F5z"], "FILTER")]
)
def test_names_that_are_no_bands_are_not_passed_over(names: list[str], keyword: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"holds images of {names[0]}, .*{keyword}.*u, g, r, i, z is needed"):
        read_cutout(write_bands(tmp_path, names, keyword))


def test_damaged_files_and_codes_in_pixels_cost_their_galaxy_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.abs(images(num=4)) * 1000
    (tmp_path / "list.csv").write_text("id,u,g,r,i,z\n" + "".join(f"{i},19.6,18.5,17.6,17.2,17\n" for i in range(4)))
    pixels[0, 2, 0, 0] = 1e20
    fits.writeto(tmp_path / "0.FITS", pixels[0])
    (tmp_path / "1.fits").write_bytes(b"SIMPLE  = no")
    fits.writeto(tmp_path / "2.fits", pixels[2, :, :20])
    for band, image in zip("ugriz", pixels[3], strict=True):
        fits.writeto(tmp_path / f"3_{band}.fits.gz", image)

    found = read_galaxies(tmp_path)

    assert np.isnan(found.block.images).sum(axis=(1, 2, 3)).tolist() == [1, 5 * 32 * 32, 5 * 32 * 32, 0]
    assert np.array_equal(found.block.images[3], pixels[3])
    assert found.report.rules["no cutout"] == 2
    assert found.report.outcomes["rejected"] == 2
    assert "1.fits is not a readable FITS cutout" in (said := capsys.readouterr().err)
    assert "2.fits holds images of shape (5, 20, 32)" in said
    assert "are their pixels in nanomaggies?" in found.report.notes[0]


def tensors() -> dict[str, torch.Tensor]:
    return {
        "images": torch.from_numpy(images(num=4)),
        "magnitudes": torch.tensor([19.6, 18.5, 17.6, 17.2, 17.0]).repeat(4, 1).double(),
        "redshifts": torch.tensor([0.1, 0.2, 0.3, 0.4]).double(),
        "object_id": torch.arange(4) + 7,
    }


@pytest.mark.parametrize(
    "content",
    [
        lambda found: TensorDataset(*found.values()),
        lambda found: found,
        lambda found: tuple(found.values()),
        lambda found: dict(zip(("cube", "mags", "z", "id"), found.values(), strict=True)),
        lambda found: TensorDataset(found["images"].to_sparse(), *list(found.values())[1:]),
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_tensors_are_read_in_every_form(content: Any, is_old: bool, tmp_path: Path) -> None:
    found = tensors()
    torch.save(content(found), tmp_path / "my.pt", _use_new_zipfile_serialization=not is_old)

    block = read_galaxies(tmp_path / "my.pt").block

    assert np.array_equal(block.images, found["images"].numpy())
    assert block.object_id.tolist() == [7, 8, 9, 10]
    assert block.redshifts.tolist() == found["redshifts"].tolist()


def test_tensors_of_different_lengths_or_cut_off_are_named(tmp_path: Path) -> None:
    path = tmp_path / "my.pt"
    torch.save({"images": torch.zeros(3, 5, 32, 32), "magnitudes": torch.zeros(2, 5)}, path)
    with pytest.raises(SourceError, match=r"my\.pt holds 3 images, 2 magnitudes: there must be as many of each"):
        read_galaxies(path)

    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SourceError, match=r"my\.pt is not a TensorDataset .* it may be cut off or damaged"):
        read_galaxies(path)


def test_arrays_go_by_the_names_that_people_give_them(tmp_path: Path) -> None:
    pixels = images(num=4)
    np.savez(tmp_path / "a.npz", images=pixels, mags=magnitudes(4), z=np.full(4, 0.1), ids=np.arange(4) + 7)
    np.savez(tmp_path / "b.npz", images=pixels, **dict(zip("ugriz", magnitudes(4).T, strict=True)))

    first, second = (read_galaxies(tmp_path / name).block for name in ("a.npz", "b.npz"))

    assert first.object_id.tolist() == [7, 8, 9, 10]
    np.testing.assert_array_equal(first.redshifts, 0.1)
    np.testing.assert_array_equal(second.magnitudes, magnitudes(4))


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    torch.save(TensorDataset(torch.zeros(2, 5, 32, 32, dtype=torch.complex64), torch.ones(2, 5)), tmp_path / "c.pt")

    with pytest.raises(SourceError, match="images are complex64; real numbers are read"):
        read_galaxies(tmp_path / "c.pt")


def test_half_precision_columns_first_and_text_identifiers_are_read(tmp_path: Path) -> None:
    found = tensors()
    pixels = found["images"].bfloat16()
    torch.save(TensorDataset(pixels, found["magnitudes"]), tmp_path / "half.pt")
    arrays = {"images": np.asfortranarray(pixels.float().numpy()), "magnitudes": found["magnitudes"].numpy()}
    np.savez(tmp_path / "columns.npz", object_id=np.array(["a", "b", "c", "d"]), **arrays)

    assert np.array_equal(read_galaxies(tmp_path / "half.pt").block.images, pixels.float().numpy())
    columns = read_galaxies(tmp_path / "columns.npz")
    assert np.array_equal(columns.block.images, pixels.float().numpy())
    assert columns.source_id.tolist() == ["a", "b", "c", "d"]


def test_other_bands_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds the bands grizy in its header; u, g, r, i, z are needed"):
        read_cutout(write_cutout(tmp_path, images(num=1)[0], BANDS="grizy"))


def sky(scale_arcsec: float) -> dict[str, object]:
    step = scale_arcsec / 3600
    return {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -step, "CDELT2": step}


@pytest.mark.parametrize("scale_arcsec", [0.389, 0.396, 0.403])
def test_pixels_like_those_of_sdss_are_read(scale_arcsec: float, tmp_path: Path) -> None:
    pixels = images(num=1)[0]

    assert np.array_equal(read_cutout(write_cutout(tmp_path, pixels, **sky(scale_arcsec))), pixels)


@pytest.mark.parametrize("scale_arcsec", [0.262, 0.387, 0.405])
def test_pixels_of_another_size_are_named(scale_arcsec: float, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"has pixels of {scale_arcsec} arcsec; the model reads 0.396"):
        read_cutout(write_cutout(tmp_path, images(num=1)[0], **sky(scale_arcsec)))


def test_the_size_of_pixels_may_be_said_without_coordinates(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has pixels of 0\.262 arcsec; the model reads 0\.396"):
        read_cutout(write_cutout(tmp_path, images(num=1)[0], PIXSCALE=0.262))


def test_cutouts_need_one_table(tmp_path: Path) -> None:
    write_cutouts(tmp_path / "stamps")
    (tmp_path / "stamps" / "list.csv").unlink()

    with pytest.raises(SourceError, match=r"needs one table of its cutouts.*it has none"):
        make_dataset(tmp_path, tmp_path / "stamps")


def test_cutouts_that_no_row_names_are_no_dataset(tmp_path: Path) -> None:
    write_cutouts(tmp_path / "stamps")
    for number in (11, 12):
        (tmp_path / "stamps" / f"{number}.fits").rename(tmp_path / "stamps" / f"{number}0.fits")

    with pytest.raises(SourceError, match=r"holds none of the 3 cutouts of list\.csv, the first 11\.fits"):
        make_dataset(tmp_path, tmp_path / "stamps")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none.csv", None, UsageError, "does not exist"),
        ("notes.txt", b"hello", SourceError, "no magnitudes or fluxes in u, g, r, i, z were recognized"),
        ("broken.fits", b"SIMPLE", SourceError, "broken.fits cannot be read as its ending says"),
        ("broken.parquet", b"PAR1", SourceError, "broken.parquet cannot be read: "),
        ("broken.npz", b"PK", SourceError, "broken.npz cannot be read as its ending says"),
        ("broken.pt", b"PK", SourceError, "broken.pt is not a TensorDataset"),
    ],
)
def test_a_file_of_another_kind_is_named(
    name: str, content: bytes | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(error, match=message):
        make_dataset(tmp_path, tmp_path / name)
