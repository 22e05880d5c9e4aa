"""Arrays that numpy saved become columns, or it is said what they are."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.command.errors import SourceError
from scripts.data.numpy_file import arrays_in, has_cutouts, open_npy, open_npz

U_G = np.array([(1.0, 2.0), (3.0, 4.0)], [("u", float), ("g", float)])
OBJECTS = np.array([None, None])


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "my.npz", **arrays)
    return folder / "my.npz"


@pytest.mark.parametrize(
    ("arrays", "names", "notes"),
    [
        ({"u": U_G["u"], "g": U_G["g"]}, ["u", "g"], ()),
        ({"u": U_G["u"], "g": U_G["g"], "version": 3}, ["u", "g"], ()),
        ({"u": U_G["u"], "light": U_G}, ["u", "light.u", "light.g"], ()),
        ({"table": U_G}, ["u", "g"], ()),
        ({"table": U_G, "version": 3}, ["u", "g"], ()),
        (
            {"u": U_G["u"], "g": U_G["g"], "a": OBJECTS, "b": OBJECTS},
            ["u", "g"],
            ("a, b left out: Python's own objects are not read",),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_arrays_of_one_length_are_columns(
    arrays: dict[str, Any], names: list[str], notes: tuple[str, ...], tmp_path: Path
) -> None:
    table = open_npz(saved(tmp_path, **arrays))

    assert (list(table.columns), table.notes, len(table)) == (names, notes, 2)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"version": 3}, r"my\.npz holds no array of numbers or text\.$"),
        ({"a": OBJECTS}, r"no array of numbers or text; Python's own objects in it, a, are pickled and not read\.$"),
        ({"u": U_G["u"], "g": np.arange(1000)}, r"holds 2 u, 1,000 g: columns of one table have one length\.$"),
        ({"light": np.zeros((2, 5))}, r"holds 2 x 5 numbers whose columns have no names: np\.savez\('my\.npz', u="),
        ({"light": np.array([U_G, U_G])}, "holds 2 x 2 numbers whose columns have no names"),
        ({"pixels": np.zeros((1, 5, 2, 2))}, "holds 1 x 5 x 2 x 2 numbers, as cutouts have, without magnitudes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_arrays_that_are_no_columns_are_named(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said):
        open_npz(saved(tmp_path, **arrays))


@pytest.mark.parametrize(("names", "has"), [(["cube"], True), (["images", "z"], True), (["u", "g"], False)])
def test_an_archive_has_cutouts_by_their_name(names: list[str], has: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, **dict.fromkeys(names, np.zeros(1)))

    assert (arrays_in(path), has_cutouts(path)) == (names, has)


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", "")
        archive.writestr("notes.txt", "")


@pytest.mark.parametrize("write", [other_zip, lambda path: path.write_bytes(b"PK\x03\x04"), Path.mkdir, None])
def test_what_is_no_archive_of_arrays_has_none(write: Callable[[Path], Any] | None, tmp_path: Path) -> None:
    if write:
        write(tmp_path / "my")

    assert arrays_in(tmp_path / "my") == []
    assert not has_cutouts(tmp_path / "my")


def test_a_table_of_one_file_stays_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "my.npy", U_G)

    table = open_npy(tmp_path / "my.npy")

    assert isinstance(table.arrays["u"].base, np.memmap)
    assert table.arrays["g"].tolist() == [2.0, 4.0]
