"""Which file is the cutout of which galaxy, and what its header says of bands, units and the size of a pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from scripts.command.errors import SourceError
from scripts.data import fits_cutouts
from scripts.data.fits_cutouts import (
    DamagedCutoutError,
    FitsCutouts,
    Wanted,
    band_in,
    cutouts_in,
    find_cutouts,
    order_of,
    read_cutout,
)
from scripts.data.records import read_records
from scripts.data.table_file import ArrayTable

ANY_SCALE = Wanted(pixel_scale_arcsec=None)
SMALL = Wanted(("g", "r"), 2, None)
PIXELS = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)


def write(path: Path, pixels: Any, **header: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.writeto(path, np.asarray(pixels, np.float32), fits.Header(list(header.items())))
    return path


def planes(path: Path, *headers: dict[str, object], shape: tuple[int, ...] = (2, 2)) -> Path:
    """Write one image for each header, the first of ones, the second of twos."""
    images = [
        fits.ImageHDU(np.full(shape, number, np.float32), fits.Header(list(header.items())))
        for number, header in enumerate(headers, start=1)
    ]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def found(folder: Path, columns: dict[str, Any], wanted: Wanted = SMALL) -> list[list[str]]:
    """Return the files of each row, as paths in the folder."""
    count = len(next(iter(columns.values())))
    light = {band: np.full(count, 17.0) for band in "ugriz"}
    table = ArrayTable.of(Path("list.csv"), {name: np.asarray(values) for name, values in columns.items()} | light)
    records = read_records(table, "", folder.parent / "records")
    cutouts = find_cutouts(folder, table, records, wanted)
    return [[path.relative_to(folder).as_posix() for path in paths] for paths in cutouts.paths]


def sky(x_arcsec: float, y_arcsec: float) -> dict[str, object]:
    return {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -x_arcsec / 3600, "CDELT2": y_arcsec / 3600}


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("7_g.fits", "7_r.fits"),
        ("7-g.fit", "7-r.fit"),
        ("7.g.fits.gz", "7.r.fits.gz"),
        ("g_7.fits", "r_7.fits"),
        ("g-7.FITS", "r-7.fits"),
        ("7/g.fits", "7/r.fits"),
        ("7_G.fits.fz", "7_r.fits.fz"),
    ],
)
def test_a_file_for_each_band_is_found_by_any_usual_name(name: str, missing: str, tmp_path: Path) -> None:
    """Where one is not there its place is kept, so that its pixels are missing."""
    write(tmp_path / "stamps" / name, PIXELS[0])

    assert found(tmp_path / "stamps", {"id": [7]}) == [[name, missing]]


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("7.fits", 7), ("007.FITS.gz", 7), ("a/7.fit", 7), ("0.fits", 0), ("SDSS J1.fits", "sdss j1")],
)
def test_one_file_is_found_by_the_identifier(name: str, identifier: Any, tmp_path: Path) -> None:
    write(tmp_path / "stamps" / name.replace(".gz", ""), PIXELS)
    (tmp_path / "stamps" / name.replace(".gz", "")).rename(tmp_path / "stamps" / name)

    assert found(tmp_path / "stamps", {"id": [identifier]}) == [[name]]


def test_a_name_that_two_files_have_means_neither(tmp_path: Path) -> None:
    for name in ("a/7.fits", "b/7.fits", "8.fits"):
        write(tmp_path / "stamps" / name, PIXELS)

    assert found(tmp_path / "stamps", {"id": [7, 8]}) == [["7.fits"], ["8.fits"]]
    assert found(tmp_path / "stamps", {"id": ["a/7", "8"]}) == [["a/7.fits"], ["8.fits"]]
    assert not (tmp_path / "stamps" / "7.fits").exists()


def test_a_column_of_files_goes_before_identifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.data.table_file.BATCH_ROWS", 2)
    for name in ("1.fits", "x.fits"):
        write(tmp_path / "stamps" / name, PIXELS)

    files = found(tmp_path / "stamps", {"id": [1, 2, 3], "file": ["x.fits", "gone.fits", "1.fits"]})

    assert files == [["x.fits"], ["gone.fits"], ["1.fits"]]


def test_files_in_folders_are_cutouts_but_not_further_down(tmp_path: Path) -> None:
    for name in ("1.fits", "a/2.FIT", "a/b/3.fits"):
        write(tmp_path / name, PIXELS)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.fits").mkdir()

    assert sorted(path.name for path in cutouts_in(tmp_path)) == ["1.fits", "2.FIT"]


# ---------------------------------------------------------------------------------------------------- damage


def test_some_damaged_files_are_passed_over_but_not_twenty(tmp_path: Path) -> None:
    good, absent = write(tmp_path / "good.fits", PIXELS), tmp_path / "absent.fits"
    bad = [tmp_path / f"{number}.fits" for number in range(20)]
    for path in bad:
        path.write_bytes(b"no")

    # Those that are not there do not count.
    FitsCutouts([(path,) for path in [*bad[:19], absent, good]], SMALL).refuse_damaged()
    with pytest.raises(SourceError, match=r"/0\.fits is not a readable FITS cutout: [^.]+\.$"):
        FitsCutouts([(path,) for path in [*bad, good]], SMALL).refuse_damaged()


def test_a_damaged_file_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.fits").write_bytes(b"no")
    cutouts = FitsCutouts([(tmp_path / "bad.fits",), (write(tmp_path / "1.fits", PIXELS),)], SMALL)

    images = [cutouts.read(0, 2), cutouts.read(0, 1)]

    assert np.isnan(images[0][0]).all()
    np.testing.assert_array_equal(images[0][1], PIXELS[:, 1:3, 2:4])
    assert images[1].shape == (1, 2, 2, 2)
    assert capsys.readouterr().err.count("bad.fits is not a readable FITS cutout") == 1


def test_pixels_of_a_band_without_a_file_are_missing(tmp_path: Path) -> None:
    paths = (tmp_path / "gone.fits", write(tmp_path / "r.fits", PIXELS[1]))

    (image,) = FitsCutouts([paths], SMALL).read(0, 1)

    assert np.isnan(image[0]).all()
    np.testing.assert_array_equal(image[1], PIXELS[1, 1:3, 2:4])


@pytest.mark.parametrize(("shape", "is_read"), [((5, 32, 32), True), ((5, 31, 32), False), ((5, 32, 31), False)])
def test_a_cutout_has_at_least_the_pixels_that_are_read(shape: tuple[int, ...], is_read: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "1.fits", np.ones(shape))

    if is_read:
        assert read_cutout(path).shape == (5, 32, 32)
        return
    with pytest.raises(DamagedCutoutError, match="with at least 32 pixels are read"):
        read_cutout(path)


def test_a_file_without_images_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamagedCutoutError, match=r"holds images of shape \(1, 1, 1\); \(2, H, W\) with at least 2"):
        read_cutout(planes(tmp_path / "1.fits"), SMALL)


# ----------------------------------------------------------------------------------------------------- bands


def test_the_first_cube_goes_before_images(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    parts = [fits.ImageHDU(np.zeros((2, 2))), fits.ImageHDU(PIXELS), fits.ImageHDU(PIXELS + 1)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)

    np.testing.assert_array_equal(read_cutout(path, SMALL), PIXELS[:, 1:3, 2:4])


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ([{}, {}], [1, 2]),
        ([{"FILTER": "r"}, {"FILTER": "g"}], [2, 1]),
        ([{"BAND": "SDSS_R"}, {"BAND": "SDSS_G"}], [2, 1]),
        ([{"EXTNAME": "weight"}, {"EXTNAME": "image"}], [1, 2]),
        ([{"FILTER": "i"}, {"FILTER": "r"}, {"FILTER": "g"}], [3, 2]),
        ([{"BUNIT": "nJy"}, {"BUNIT": "mgy"}], [1 / 3631, 2e9]),
        ([{}] * 5, [2, 3]),
    ],
    ids=str,
)
def test_images_are_those_of_the_bands(header: list[dict[str, object]], values: list[float], tmp_path: Path) -> None:
    cutout = read_cutout(planes(tmp_path / "1.fits", *header), SMALL)

    assert cutout[:, 0, 0] == pytest.approx(values, rel=1e-6)


def test_one_image_needs_no_band(tmp_path: Path) -> None:
    path = planes(tmp_path / "1.fits", {"FILTER": "clear"})

    assert read_cutout(path, Wanted(("r",), 2, None)).tolist() == [[[1, 1], [1, 1]]]


def test_images_of_other_bands_are_named(tmp_path: Path) -> None:
    path = planes(tmp_path / "1.fits", {"FILTER": "g"}, {})

    with pytest.raises(SourceError, match=r"holds images of g, no band \(FILTER\); one of each of g, r is needed"):
        read_cutout(path, SMALL)


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ({}, (0, 1)),
        ({"BANDS": "rg"}, (1, 0)),
        ({"BANDS": "RG"}, (1, 0)),
        ({"BANDS": "r g", "FILTER": "g,r"}, (1, 0)),
        ({"FILTER": "clear"}, (0, 1)),
        ({"FILTER": "r;g"}, (1, 0)),
        ({"FILT0": "sdss.r", "FILT1": "sdss.g"}, (1, 0)),
        ({"PLANE1": "sdss_r", "PLANE2": "sdss-g"}, (1, 0)),
        ({"PLANE1": "r"}, (0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_last", [False, True])
def test_a_cube_has_its_bands_in_the_order_of_its_header(
    header: dict[str, object], order: tuple[int, int], is_last: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "1.fits", np.moveaxis(PIXELS, 0, -1) if is_last else PIXELS, **header)

    np.testing.assert_array_equal(read_cutout(path, SMALL), PIXELS[order, 1:3, 2:4])


def test_a_band_that_a_cube_lacks_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "1.fits", PIXELS, BANDS="gi")

    with pytest.raises(SourceError, match=r"holds the bands gi in its header; g, r are needed, r not there"):
        read_cutout(path, SMALL)


@pytest.mark.parametrize(
    ("bands", "sizes", "order"),
    [
        ("gr", {2}, "gr"),
        ("gr", {5, 64}, "ugriz"),
        ("gr", {2, 5}, "gr"),
        ("gy", {5}, "gy"),
        ("zirgu", {5}, "ugriz"),
        ("gr", {3}, "gr"),
    ],
)
def test_five_bands_without_names_are_those_of_sdss(bands: str, sizes: set[int], order: str) -> None:
    assert order_of(tuple(bands), sizes) == tuple(order)


@pytest.mark.parametrize(
    ("name", "band"),
    [("r", "r"), ("SDSS_r", "r"), ("sdss.R", "r"), ("SDSS-r", "r"), ("a:b r", "r"), ("Y", "Y"), ("y", "y"), ("rx", "")],
)
def test_a_band_is_the_last_word_of_a_name(name: str, band: str) -> None:
    assert band_in(name, ("r", "y", "Y")) == band


# ------------------------------------------------------------------------------------------------ pixel scale


@pytest.mark.parametrize(
    ("header", "scale_arcsec"),
    [
        ({}, None),
        (sky(0.2, 0.4), 0.3),
        (sky(0.26234567, 0.26234567), 0.2623),
        *(({keyword: 0.25}, 0.25) for keyword in fits_cutouts.SCALE_KEYWORDS),
        ({"PIXSCALE": "0.25"}, None),
        ({"PIXSCALE": 0.0}, None),
        ({"PIXSCALE": 1}, 1.0),
        ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR", "SECPIX": 0.5}, 0.5),
    ],
    ids=str,
)
def test_the_size_of_a_pixel_is_that_of_the_first_file(
    header: dict[str, object], scale_arcsec: float | None, tmp_path: Path
) -> None:
    (tmp_path / "bad.fits").write_bytes(b"no")
    first = planes(tmp_path / "1.fits", header)
    second = planes(tmp_path / "2.fits", {"PIXSCALE": 9.0})
    paths = [(tmp_path / "gone.fits",), (tmp_path / "bad.fits",), (first, second)]

    assert FitsCutouts(paths, SMALL).pixel_scale_arcsec == scale_arcsec
    assert FitsCutouts(paths[:2], SMALL).pixel_scale_arcsec is None


@pytest.mark.parametrize(
    ("x_arcsec", "y_arcsec", "wanted", "said"),
    [
        (0.25, 0.25, None, ""),
        (0.25, 0.25, 0.25, ""),
        (0.25, 0.2545, 0.25, ""),
        (0.25, 0.2555, 0.25, r"pixels of 0\.250 arcsec; the model reads 0\.25 arcsec\. Resample"),
        (0.2445, 0.25, 0.25, r"pixels of 0\.24[45] arcsec; the model reads 0\.25 arcsec\. Resample"),
        (0.25, 0.25, 0.396, r"pixels of 0\.250 arcsec; the model reads 0\.396 arcsec, those of SDSS\. Resample"),
    ],
)
def test_both_sides_of_a_pixel_must_be_those_of_the_model(
    x_arcsec: float, y_arcsec: float, wanted: float | None, said: str, tmp_path: Path
) -> None:
    path = planes(tmp_path / "1.fits", {}, sky(x_arcsec, y_arcsec))

    if not said:
        assert read_cutout(path, Wanted(("g", "r"), 2, wanted)).shape == (2, 2, 2)
        return
    with pytest.raises(SourceError, match=said):
        read_cutout(path, Wanted(("g", "r"), 2, wanted))
