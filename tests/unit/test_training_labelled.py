"""A user's galaxies are read from disk as they are needed, cleaned, each once; too few are refused."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from scripts.command.errors import SourceError
from scripts.data.reader import ShardFolder
from scripts.models.training.labelled import MIN_LABELS, Labelled, ShardImages, read_labelled, refuse_too_few
from tests.factories import make_arrays, make_shard_bytes


def make_folder(folder: Path, **changes: np.ndarray) -> Path:
    """Write 600 galaxies in two shards."""
    for index, num in enumerate((240, 360)):
        arrays = make_arrays(num, seed=index)
        arrays["object_id"] = np.arange(num) + 1_000 * index
        arrays["magnitudes"] = 17 + np.array([1.8, 0.9, 0, -0.4, -0.7]) + 0.1 * (arrays["magnitudes"] % 1)
        arrays["redshifts"] = 0.05 + 0.001 * np.arange(num)
        for name, values in changes.items():
            arrays[name] = np.resize(values, (num, *arrays[name].shape[1:]))
        (folder / f"{index}.safetensors").write_bytes(make_shard_bytes(num, **arrays))
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    return read_labelled(make_folder(tmp_path))


def test_cutouts_come_from_their_rows_in_any_order(labelled: Labelled, tmp_path: Path) -> None:
    asked = torch.tensor([550, 3, 241, 3])

    found = labelled[asked]

    whole = ShardFolder(tmp_path).rows(0, 600).images
    np.testing.assert_array_equal(found.numpy(), whole[asked.numpy()])


def test_shards_of_64_pixels_give_their_middle(tmp_path: Path) -> None:
    arrays = make_arrays(5, side=64)
    (tmp_path / "0.safetensors").write_bytes(make_shard_bytes(5, **arrays))

    with ShardImages(ShardFolder(tmp_path)) as images:
        found = images.read(np.array([4]))

    np.testing.assert_array_equal(found[0], arrays["images"][4, :, 16:48, 16:48])


def test_galaxies_without_a_label_or_seen_before_do_not_teach(tmp_path: Path) -> None:
    redshifts = 0.05 + 0.001 * np.arange(360)
    redshifts[:3] = [np.nan, 0, -1]

    found = read_labelled(make_folder(tmp_path, redshifts=redshifts, object_id=np.arange(360)))

    # The second shard repeats the 240 identifiers of the first and has 120 of its own.
    assert found.object_id.tolist() == list(range(3, 360))
    assert found.row.tolist() == [*range(3, 240), *range(480, 600)]


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    redshifts = np.full(240, np.nan)
    redshifts[:40] = 0.1

    with pytest.raises(
        SourceError, match=rf"has \d+ clean galaxies with a redshift, of 600; training needs {MIN_LABELS}"
    ):
        read_labelled(make_folder(tmp_path, redshifts=redshifts))


def test_redshifts_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"all redshifts are 0\.2"):
        read_labelled(make_folder(tmp_path, redshifts=np.array([0.2])))


def test_shards_that_cannot_be_read_in_parts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0.pt").write_bytes(b"x")
    folder = ShardFolder(tmp_path)

    with pytest.raises(SourceError, match=r"0\.pt, which cannot be read in parts.*make dataset SOURCE="):
        ShardImages(folder)


def test_a_dataset_without_images_says_how_to_get_some(tmp_path: Path) -> None:
    arrays = {name: array for name, array in make_arrays(300).items() if name != "images"}
    save_file(arrays, tmp_path / "0.safetensors")

    with pytest.raises(SourceError, match=r"holds no images.*make dataset SOURCE=… MODEL=astromae renders them"):
        read_labelled(tmp_path)


def test_another_label_is_another_set_of_galaxies(labelled: Labelled, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    changed = read_labelled(make_folder(other, redshifts=0.051 + 0.001 * np.arange(360)))

    assert read_labelled(tmp_path).fingerprint == labelled.fingerprint != changed.fingerprint


def test_flags_and_odd_colours_do_not_teach_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    magnitudes = 17 + np.array([1.8, 0.9, 0, -0.4, -0.7]) + 0.1 * np.random.default_rng(0).random((360, 5))
    magnitudes[7, 1] += 3
    magnitudes[9, 0] = np.nan
    numbers = np.arange(360)

    found = read_labelled(make_folder(tmp_path, magnitudes=magnitudes, object_id=numbers))

    kept = np.setdiff1d(numbers, [7, 9])
    assert found.object_id.tolist() == kept.tolist()
    assert np.array_equal(found.magnitudes, magnitudes[kept])
    assert found.redshift.tolist() == (0.05 + 0.001 * kept).tolist()
    assert np.isnan(found.ra_deg).all()
    assert np.isnan(found.dec_deg).all()
    assert (found.name, found.card, found.split) == (tmp_path.name, None, None)


def test_some_of_the_galaxies_are_as_they_were_among_all(labelled: Labelled) -> None:
    with_parts = replace(labelled, split=(np.arange(len(labelled)) % 3).astype(np.uint8))
    is_kept = np.arange(len(labelled)) % 2 == 0

    some = with_parts.among(is_kept)

    for name in ("row", "object_id", "ra_deg", "dec_deg", "magnitudes", "redshift", "split"):
        np.testing.assert_array_equal(getattr(some, name), getattr(with_parts, name)[is_kept])
    np.testing.assert_array_equal(some[torch.tensor([2])], labelled[torch.tensor([4])])
    assert with_parts.in_part(2).tolist() == [row % 3 == 2 for row in range(len(labelled))]
    assert not labelled.in_part(0).any()
    assert labelled.among(is_kept).split is None


@pytest.mark.parametrize("name", ["row", "object_id", "magnitudes", "redshift"])
def test_a_fingerprint_is_of_all_that_is_known(name: str, labelled: Labelled) -> None:
    other = replace(labelled, **{name: getattr(labelled, name) + 1})
    dealt = replace(labelled, split=np.zeros(len(labelled), np.uint8))
    dealt_otherwise = replace(labelled, split=np.ones(len(labelled), np.uint8))

    prints = {one.fingerprint for one in (labelled, other, dealt, dealt_otherwise)}
    assert len(prints) == 4


def test_files_are_closed_when_images_are_done_with(tmp_path: Path) -> None:
    (tmp_path / "0.safetensors").write_bytes(make_shard_bytes(5, **make_arrays(5)))

    with ShardImages(ShardFolder(tmp_path)) as images:
        assert len(images) == 5
        assert images.read(np.array([4])).dtype == np.float32

    with pytest.raises(OSError, match="Bad file descriptor"):
        images.read(np.array([4]))


@pytest.mark.parametrize(("num", "is_enough"), [(MIN_LABELS - 1, False), (MIN_LABELS, True)])
def test_two_hundred_labels_are_enough(num: int, is_enough: bool, tmp_path: Path) -> None:
    assert MIN_LABELS == 200
    with nullcontext() if is_enough else pytest.raises(SourceError, match=r"has 199 clean galaxies .*, of 1,600;"):
        refuse_too_few(tmp_path, num, 1_600)
