"""A dataset holds what a model reads: its bands, its cutouts, its further numbers, or no images at all."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from safetensors.numpy import load_file

from inference import contract, load_model
from inference.contract import DatasetCard
from inference.models import MAGNITUDES, without_images
from inference.models.card import Inputs, Magnitudes
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.command.variables import read_variables
from scripts.data.partition import plan_partition
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.reader import ShardFolder
from scripts.data.verification import find_problems
from scripts.data.writer import make
from scripts.runs.request import draft_request
from scripts.runs.request import without_images as settled
from scripts.runs.variables import RunVariables
from tests.factories import write_model

NUM, NUM_STAMPS = 30, 6
LIGHT = {"u": 19.2, "g": 17.5, "r": 16.6, "i": 16.1, "z": 15.8, "y": 15.6}


def table(folder: Path, bands: str = "ugriz", **columns: str) -> Path:
    """A CSV of galaxies, with further columns of one value each."""
    names = [*(f"mag_{band}" for band in bands), "z_spec", *columns]
    rows = (
        [*(f"{LIGHT[band] + 0.01 * row:.3f}" for band in bands), f"{0.05 + 0.001 * row:.3f}", *columns.values()]
        for row in range(NUM)
    )
    path = folder / "my.csv"
    path.write_text("\n".join(",".join(cells) for cells in [names, *rows]) + "\n")
    return path


def model_reading(root: Path, bands: str, side_px: int, **inputs: Any) -> str:
    """Write a model that reads these bands, and return its name."""
    reads = Inputs(bands=tuple(bands), side_px=side_px, magnitudes=Magnitudes(dereddened=True), **inputs)
    write_model(root / "models" / "other", inputs=reads, photometry=None, domain=None)
    return "other"


def make_dataset(root: Path, source: Path, **given: str) -> Path:
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    variables = read_variables(DatasetVariables, {"SOURCE": str(source), "NAME": "mine", **given})
    plan = plan_dataset(variables, root=root, scratch=scratch)
    make(plan, processes=1)
    assert list(find_problems(plan.folder)) == []
    return plan.folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "0.safetensors")


def card(folder: Path) -> DatasetCard:
    return contract.decode((folder / "dataset.json").read_bytes(), DatasetCard)


@pytest.mark.parametrize(("limit", "num_flagged"), [(None, 0), (0.1, NUM), (0.5, 0)])
def test_how_much_dust_is_much_is_said_by_the_card(limit: float | None, num_flagged: int, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "other", inputs=without_images().card.inputs, domain=None, max_extinction_r=limit)
    dust = {f"extinction_{band}": "0.2" for band in "ugriz"}

    folder = make_dataset(tmp_path, table(tmp_path, "ugriz", **dust), MODEL="other")

    quality = pyarrow.parquet.read_table(folder / "table.parquet")["quality"].to_numpy()
    assert ((quality & Quality.HIGH_EXTINCTION.value) > 0).sum() == num_flagged


# ------------------------------------------------------------------------------------------- without images


def test_a_table_needs_no_images(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, table(tmp_path))

    assert set(arrays(folder)) == {"magnitudes", "redshifts", "object_id"}
    assert card(folder).image_origin == "none"
    assert set(card(folder).arrays) == set(arrays(folder))


@pytest.mark.parametrize("given", [{"MODEL": "astromae"}, {"TRAINING": "1"}], ids=str)
def test_images_are_rendered_for_those_who_ask_and_for_training(given: dict[str, str], tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, table(tmp_path), **given)

    assert arrays(folder)["images"].shape == (NUM, 5, 32, 32)
    assert (card(folder).image_origin, card(folder).pixel_scale_arcsec) == ("rendered", 0.396)


def test_without_images_many_more_galaxies_fit_into_a_shard(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, table(tmp_path))

    cut = plan_partition(folder, 1, root=tmp_path)

    assert (len(cut.ranges), cut.origin.image_origin, cut.origin.layout.side_px) == (1, "none", 0)
    assert make(cut, processes=1).arrays == card(folder).arrays
    assert np.array_equal(arrays(cut.folder)["magnitudes"], arrays(folder)["magnitudes"])


def test_the_model_that_reads_none_predicts_a_dataset_without_images(tmp_path: Path) -> None:
    make_dataset(tmp_path, table(tmp_path))
    variables = read_variables(RunVariables, {"DATASET": "mine"})

    draft = settled(draft_request(variables, root=tmp_path), local(tmp_path, "mine"))

    assert draft.model.card.name == draft.request.model == draft.payload["model"] == "magnitudes"
    assert draft.payload["model_sha256"] == without_images().card.weights_sha256
    assert "datasets/mine/10MB/ holds no images: the model magnitudes predicts from its magnitudes" in draft.notes[-1]


@pytest.mark.parametrize("given", [{"MODEL": "astromae"}, {}], ids=["named", "with images"])
def test_a_model_that_is_named_and_a_dataset_with_images_change_nothing(given: dict[str, str], tmp_path: Path) -> None:
    make_dataset(tmp_path, table(tmp_path), **({} if given else {"MODEL": "astromae"}))
    draft = draft_request(read_variables(RunVariables, {"DATASET": "mine", **given}), root=tmp_path)

    assert settled(draft, local(tmp_path, "mine")) == draft


def local(root: Path, name: str) -> Any:
    from scripts.data.location import find_dataset

    return find_dataset(name, asked="DATASET", root=root)


def test_the_model_of_magnitudes_gives_sigma_and_flags_the_unlike() -> None:
    usual = np.array([[LIGHT[band] for band in "ugriz"]] * 2)
    odd = usual[:, ::-1]

    found = load_model(MAGNITUDES).predict(magnitudes=np.concatenate([usual, odd]))

    assert np.all((found.redshift[:2] > 0.03) & (found.redshift[:2] < 0.2))
    assert np.all((found.sigma > 0.005) & np.isfinite(found.sigma))
    assert (found.flags & Quality.OUT_OF_DOMAIN.value != 0).tolist() == [False, False, True, True]


def test_its_card_in_words_is_that_of_the_card() -> None:
    from scripts.models.card_text import card_text

    model = without_images()

    assert (model.folder / "CARD.md").read_text(encoding="utf-8") == card_text(model.card)


# ---------------------------------------------------------------------------------------------- other bands


def test_a_table_in_three_bands_is_rendered_in_these(tmp_path: Path) -> None:
    model = model_reading(tmp_path, "grz", 32)

    folder = make_dataset(tmp_path, table(tmp_path, "grz"), MODEL=model)
    found = arrays(folder)

    assert (found["images"].shape, found["magnitudes"].shape) == ((NUM, 3, 32, 32), (NUM, 3))
    assert card(folder).bands == ("g", "r", "z")
    assert pyarrow.parquet.read_schema(folder / "table.parquet").names[3:6] == ["mag_g", "mag_r", "mag_z"]
    light = found["images"].sum(axis=(2, 3)) / 10 ** (0.4 * (22.5 - found["magnitudes"]))
    # Some light is outside of the cutout.
    assert np.all((light > 0.5) & (light < 1.1))


@pytest.mark.parametrize(("bands", "side"), [("grz", 64), ("gry", 32)])
def test_what_cannot_be_rendered_asks_for_cutouts(bands: str, side: int, tmp_path: Path) -> None:
    model = model_reading(tmp_path, bands, side)

    with pytest.raises(SourceError, match=f"reads {side} x {side} pixels in .*; those of SDSS alone can be rendered"):
        make_dataset(tmp_path, table(tmp_path, bands), MODEL=model)


def test_other_bands_are_read_with_their_extinction_and_further_numbers(tmp_path: Path) -> None:
    model = model_reading(tmp_path, "gry", 0, columns=("seeing", "ebv"))
    columns = {"A_g": "0.3", "A_r": "0.2", "A_y": "0.1", "fwhm": "1.3", "EBV": "0.09"}

    folder = make_dataset(tmp_path, table(tmp_path, "gry", **columns), MODEL=model, FIELDS="seeing=fwhm")
    found = arrays(folder)

    assert found["magnitudes"][0] == pytest.approx([17.2, 16.4, 15.5])
    assert (set(found["seeing"]), set(found["ebv"])) == ({1.3}, {0.09})
    assert ShardFolder(folder).layout.columns == ("ebv", "seeing")


def test_a_galaxy_that_lacks_a_band_of_which_nothing_is_known_is_rejected(tmp_path: Path) -> None:
    path = table(tmp_path, "gry")
    path.write_text(path.read_text().replace("16.600", "-9999"))

    folder = make_dataset(tmp_path, path, MODEL=model_reading(tmp_path, "gry", 0))

    quality = pyarrow.parquet.read_table(folder / "table.parquet").column("quality").to_numpy()
    assert quality.tolist() == [Quality.IMPUTED_BAND | Quality.REFUSED] + [0] * (NUM - 1)


@pytest.mark.parametrize(
    ("bands", "columns", "inputs", "message"),
    [
        ("gr", {}, {}, "mag_y is missing next to mag_g"),
        ("gry", {"EBV": "0.1"}, {}, r"E\(B-V\) = EBV gives the extinction in SDSS u, g, r, i, z; for y give it"),
        ("gry", {}, {"columns": ("seeing",)}, 'also reads seeing, which was not recognized. FIELDS="seeing=…"'),
    ],
)
def test_what_a_table_lacks_for_a_model_is_named(
    bands: str, columns: dict[str, str], inputs: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = model_reading(tmp_path, "gry", 0, **inputs)

    with pytest.raises(SourceError, match=message):
        make_dataset(tmp_path, table(tmp_path, bands, **columns), MODEL=model)


def test_galaxies_without_extinction_are_counted_where_others_are_corrected(tmp_path: Path) -> None:
    path = table(tmp_path, EBV="0.1")
    path.write_text(path.read_text().replace("0.052,0.1", "0.052,-9999"))

    folder = make_dataset(tmp_path, path)

    report = (folder / "cleaning.json").read_text()
    assert '"rule": "extinction missing",\n      "num_rows": 1,\n      "then": "not corrected"' in report
    assert arrays(folder)["magnitudes"][:3, 2] == pytest.approx([16.6 - 0.2285, 16.61 - 0.2285, 16.62])


# -------------------------------------------------------------------------------------------------- cutouts


def stamps(folder: Path, planes: str, side: int, *, as_cube: bool, scale_arcsec: float = 0.262) -> np.ndarray:
    """Write FITS cutouts in these bands, and their table; return the pixels."""
    folder.mkdir()
    pixels = np.random.default_rng(0).normal(size=(NUM_STAMPS, len(planes), side, side)).astype(np.float32)
    sky = WCS(naxis=2)
    sky.wcs.ctype, sky.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-scale_arcsec / 3600, scale_arcsec / 3600]
    for number, bands in enumerate(pixels, 1):
        parts = [fits.ImageHDU(plane, sky.to_header(), name=name) for plane, name in zip(bands, planes, strict=True)]
        if as_cube:
            parts = [fits.ImageHDU(bands, fits.Header([("BANDS", ",".join(planes))]))]
        fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(folder / f"{number}.fits")
    rows = table(folder, "grz").read_text().splitlines()
    numbered = [f"{number},{row}" for number, row in enumerate(rows[1 : NUM_STAMPS + 1], 1)]
    (folder / "my.csv").write_text("\n".join([f"object_id,{rows[0]}", *numbered]) + "\n")
    return pixels


@pytest.mark.parametrize("planes", ["grz", "zrg", "ugriz"])
@pytest.mark.parametrize("as_cube", [True, False], ids=["cube", "one image per band"])
def test_fits_cutouts_in_other_bands_and_sizes_are_read_in_the_order_of_the_model(
    planes: str, as_cube: bool, tmp_path: Path
) -> None:
    pixels = stamps(tmp_path / "stamps", planes, 80, as_cube=as_cube)
    model = model_reading(tmp_path, "grz", 64, pixel_scale_arcsec=0.262)

    folder = make_dataset(tmp_path, tmp_path / "stamps", MODEL=model)

    order = [planes.index(band) for band in "grz"]
    assert np.array_equal(arrays(folder)["images"], pixels[:, order, 8:72, 8:72])
    assert card(folder).image_origin == "measured"
    assert card(folder).pixel_scale_arcsec == (None if as_cube else pytest.approx(0.262, abs=1e-4))


def test_cutouts_of_another_scale_than_the_models_are_refused(tmp_path: Path) -> None:
    stamps(tmp_path / "stamps", "grz", 64, as_cube=False, scale_arcsec=0.396)
    model = model_reading(tmp_path, "grz", 64, pixel_scale_arcsec=0.262)

    with pytest.raises(SourceError, match=r"has pixels of 0\.396 arcsec; the model reads 0\.262 arcsec\. Resample"):
        make_dataset(tmp_path, tmp_path / "stamps", MODEL=model)


def test_a_published_cube_gives_the_bands_that_a_model_reads(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).normal(size=(NUM, 64, 64, 5)).astype(np.float32)
    light = np.array([[LIGHT[band] for band in "ugriz"]] * NUM)
    np.savez(tmp_path / "sdss.npz", cube=cube, magnitudes=light, redshifts=np.full(NUM, 0.1), ebv=np.full(NUM, 0.02))
    model = model_reading(tmp_path, "grz", 64, columns=("ebv",))

    folder = make_dataset(tmp_path, tmp_path / "sdss.npz", MODEL=model)

    found = arrays(folder)
    assert np.array_equal(found["images"], np.moveaxis(cube, -1, 1)[:, [1, 2, 4]])
    assert found["magnitudes"][0].tolist() == [LIGHT[band] for band in "grz"]
    assert set(found["ebv"]) == {0.02}
    assert card(folder).dereddened is True


def test_a_dataset_is_cut_to_what_another_model_reads(tmp_path: Path) -> None:
    first = make_dataset(tmp_path, table(tmp_path, EBV="0.1"), MODEL="astromae")
    model = model_reading(tmp_path, "grz", 16)

    folder = make_dataset(tmp_path, first, NAME="cut", MODEL=model)

    assert np.array_equal(arrays(folder)["images"], arrays(first)["images"][:, [1, 2, 4], 8:24, 8:24])
    stated = msgspec.to_builtins(card(folder))
    assert [stated[name] for name in ("image_origin", "pixel_scale_arcsec", "dereddened", "bands")] == [
        "rendered",
        0.396,
        True,
        ("g", "r", "z"),
    ]
