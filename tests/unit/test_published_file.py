"""Which tensors and arrays of published files are read as images, magnitudes, redshifts and identifiers."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from scripts.command.errors import SourceError
from scripts.data.published_file import CubeFile, TensorFile

BANDS, SIDE = ("g", "r"), 2
NUM = 5
IMAGES = np.arange(NUM * 2 * 4 * 6, dtype=np.float32).reshape(NUM, 2, 4, 6)
CENTRES = IMAGES[:, :, 1:3, 2:4]
MAGNITUDES = np.arange(NUM * 2, dtype=float).reshape(NUM, 2) + 15
REDSHIFTS = np.linspace(0.1, 0.5, NUM)


def tensors(folder: Path, content: Any) -> TensorFile:
    torch.save(content, folder / "my.pt")
    return TensorFile(folder / "my.pt", BANDS, SIDE)


def archive(folder: Path, **arrays: Any) -> CubeFile:
    np.savez(folder / "my.npz", **arrays)
    return CubeFile(folder / "my.npz", BANDS, SIDE)


def columns(file: TensorFile | CubeFile) -> dict[str, list[Any]]:
    table = file.table()
    return {name: np.asarray(table.arrays[name]).tolist() for name in table.columns}


LIGHT = {"dered_g": MAGNITUDES[:, 0].tolist(), "dered_r": MAGNITUDES[:, 1].tolist()}


# ----------------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("images", [IMAGES, np.moveaxis(IMAGES, 1, -1)], ids=["bands first", "bands last"])
def test_tensors_are_cropped_to_their_centre(images: np.ndarray, tmp_path: Path) -> None:
    content = TensorDataset(torch.from_numpy(images.copy()), torch.from_numpy(MAGNITUDES))

    file = tensors(tmp_path, content)

    np.testing.assert_array_equal(file.read(1, 3), CENTRES[1:3])
    assert file.read(1, 3).flags.c_contiguous
    assert columns(file) == LIGHT


def test_further_tensors_are_columns_where_they_have_a_number_for_each_galaxy(tmp_path: Path) -> None:
    content = {
        "Image": torch.from_numpy(IMAGES),
        "mag": torch.from_numpy(MAGNITUDES),
        "labels": torch.from_numpy(REDSHIFTS[:, None]),
        "objid": torch.arange(NUM) + 7,
        "ebv": torch.full((NUM,), 0.1, dtype=torch.float64),
        "mask": torch.ones(NUM, dtype=torch.bool),
        "weights": torch.ones(3),
        "spectra": torch.ones(NUM, 4),
    }

    assert columns(tensors(tmp_path, content)) == {
        **LIGHT,
        "z_spec": REDSHIFTS.tolist(),
        "object_id": [7, 8, 9, 10, 11],
        "ebv": [0.1] * NUM,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "holds a Tensor, not images, magnitudes and, perhaps, redshifts and object_id"),
        ((torch.zeros(3),), "holds a tuple, not images"),
        ([torch.zeros(3)] * 5, "holds a list, not images"),
        ({"images": torch.zeros(3), "x": torch.zeros(1)}, "holds a dict of images, x, not images"),
        ({"images": torch.from_numpy(IMAGES), "magnitudes": [1.0]}, "holds a dict of images, magnitudes, not images"),
        (
            {"images": torch.from_numpy(IMAGES), "magnitudes": torch.from_numpy(MAGNITUDES).to(torch.complex64)},
            "magnitudes are complex64; real numbers are read",
        ),
        (
            TensorDataset(torch.from_numpy(IMAGES), torch.zeros(NUM, 3)),
            r"has no magnitudes of shape \(N, 2\), nor labels with named columns, next to its images; it holds images,",
        ),
        (TensorDataset(torch.from_numpy(IMAGES), torch.zeros(NUM)), r"has no magnitudes of shape \(N, 2\)"),
        (
            TensorDataset(torch.from_numpy(IMAGES[:, :, :1]), torch.from_numpy(MAGNITUDES)),
            r"images of shape \(5, 2, 1, 6\); \(N, 2, H, W\) and \(N, H, W, 2\) from 2 pixels are read",
        ),
        (TensorDataset(torch.zeros(NUM, 3, 4, 6), torch.zeros(NUM, 2)), r"images of shape \(5, 3, 4, 6\)"),
        (TensorDataset(torch.zeros(NUM, 2, 4), torch.zeros(NUM, 2)), r"images of shape \(5, 2, 4\)"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_tensors_that_are_no_galaxies_are_named(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said):
        tensors(tmp_path, content).table()


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.pt").touch()

    with pytest.raises(SourceError, match=r"my\.pt is empty\.$"):
        TensorFile(tmp_path / "my.pt").table()


def test_five_bands_are_those_of_sdss_where_a_model_reads_some_of_them(tmp_path: Path) -> None:
    images = np.arange(NUM * 5 * 9, dtype=np.float32).reshape(NUM, 5, 3, 3)
    magnitudes = np.arange(NUM * 5, dtype=float).reshape(NUM, 5)

    file = tensors(tmp_path, TensorDataset(torch.from_numpy(images), torch.from_numpy(magnitudes)))

    np.testing.assert_array_equal(file.read(0, NUM), images[:, [1, 2], :2, :2])
    assert columns(file) == {f"dered_{band}": magnitudes[:, number].tolist() for number, band in enumerate("ugriz")}


# ------------------------------------------------------------------------------------------------------- cubes


@pytest.mark.parametrize("cube", [IMAGES, np.moveaxis(IMAGES, 1, -1), np.asfortranarray(IMAGES), IMAGES.astype(">i4")])
def test_a_cube_of_any_layout_is_read_from_anywhere(cube: np.ndarray, tmp_path: Path) -> None:
    file = archive(tmp_path, cube=cube, magnitudes=MAGNITUDES)

    for start, stop in ((3, 5), (0, 2), (2, 3)):
        found = file.read(start, stop)
        np.testing.assert_array_equal(found, CENTRES[start:stop])
        assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)


def test_galaxies_that_are_passed_over_are_not_all_in_memory(tmp_path: Path) -> None:
    """More of them than are read at once."""
    num = 1_203
    cube = np.arange(num, dtype=np.int64)[:, None, None, None] * np.ones((2, 2, 2), np.int64)

    file = archive(tmp_path, images=cube, magnitudes=np.zeros((num, 2)))

    assert file.read(1_201, 1_203)[:, 0, 0, 0].tolist() == [1_201, 1_202]


def test_a_header_of_the_second_version_is_read(tmp_path: Path) -> None:
    archive(tmp_path, magnitudes=MAGNITUDES, cube=IMAGES)
    with zipfile.ZipFile(tmp_path / "later.npz", "w") as later, zipfile.ZipFile(tmp_path / "my.npz") as first:
        later.writestr("magnitudes.npy", first.read("magnitudes.npy"))
        with later.open("cube.npy", "w") as member:
            np.lib.format.write_array(member, IMAGES, version=(2, 0))

    np.testing.assert_array_equal(CubeFile(tmp_path / "later.npz", BANDS, SIDE).read(0, NUM), CENTRES)


def test_labels_are_a_table_or_redshifts(tmp_path: Path) -> None:
    table = np.zeros(NUM, [("modelMag_g", float), ("redshift", float)])

    assert list(columns(archive(tmp_path, cube=IMAGES, labels=table))) == ["modelMag_g", "redshift"]
    assert columns(archive(tmp_path, cube=IMAGES, magnitudes=MAGNITUDES, labels=table)).keys() == {
        "modelMag_g",
        "redshift",
    }


@pytest.mark.parametrize("name", ["redshifts", "z", "redshift", "Z_SPEC"])
def test_redshifts_go_by_several_names(name: str, tmp_path: Path) -> None:
    file = archive(tmp_path, cube=IMAGES, magnitudes=MAGNITUDES, **{name: REDSHIFTS})

    # Of an archive z is the band where it has a dimension.
    assert columns(file).get("z_spec", columns(file).get("z")) == REDSHIFTS.tolist()


def test_a_column_for_each_band_needs_no_array_of_magnitudes(tmp_path: Path) -> None:
    light = {band: MAGNITUDES[:, number] for number, band in enumerate(BANDS)}

    file = archive(tmp_path, cube=IMAGES, **light, id=np.arange(NUM), psf=np.ones((NUM, 3)))

    assert list(columns(file)) == ["g", "r", "object_id"]


def test_objects_of_python_are_left_out_but_not_where_they_are_needed(tmp_path: Path) -> None:
    objects = np.array([None] * NUM)

    assert columns(archive(tmp_path, cube=IMAGES, magnitudes=MAGNITUDES, notes=objects)) == LIGHT
    for name in ("magnitudes", "labels", "object_id"):
        with pytest.raises(SourceError, match=f"my.npz: `{name}` holds Python's own objects, which are pickled"):
            archive(tmp_path, cube=IMAGES, **({"magnitudes": MAGNITUDES} | {name: objects})).table()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"cube": IMAGES.astype(complex)}, "my.npz: `cube` is complex128; numbers are read"),
        ({"images": IMAGES > 3}, "my.npz: `images` is bool; numbers are read"),
        ({"cube": IMAGES[:, :, :1]}, r"images of shape \(5, 2, 1, 6\)"),
        ({"cube": IMAGES[0]}, r"images of shape \(2, 4, 6\)"),
        ({"cube": IMAGES}, r"no magnitudes of shape \(N, 2\), .*; it holds nothing else"),
        ({"cube": IMAGES, "magnitudes": MAGNITUDES[:1]}, "has 5 cutouts and 1 label"),
        ({"cube": IMAGES[:1], "magnitudes": MAGNITUDES}, "has 1 cutout and 5 labels"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_archives_that_are_no_galaxies_are_named(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said):
        archive(tmp_path, **arrays).table()


def test_a_cube_that_ends_early_or_is_no_archive_is_named(tmp_path: Path) -> None:
    file = archive(tmp_path, cube=IMAGES, magnitudes=MAGNITUDES)
    with pytest.raises(SourceError, match=r"my\.npz: `cube` ends early\.$"):
        file.read(3, NUM + 1)

    (tmp_path / "no.npz").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"no\.npz is no \.npz archive: "):
        CubeFile(tmp_path / "no.npz")
