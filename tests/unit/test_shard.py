"""Rows come out as they went in, by ranges; a file that holds no galaxies is refused by name."""

import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch.utils.data import TensorDataset

from inference import published_shard
from inference.block import SDSS, Layout, join
from inference.contract import RowRange
from inference.errors import ShardChangedError, ShardFormatError
from inference.header import HEAD_BYTES
from inference.models import shipped
from inference.shard import block_rows_of, count_rows, read_blocks
from tests.factories import MemoryReader, make_arrays, make_shard_bytes


def read(content: bytes, start: int, stop: int, *, key: str = "0.safetensors", block_rows: int = 512) -> list:
    rows = RowRange(key=key, start_row=start, stop_row=stop, etag='"e"')
    return list(read_blocks(MemoryReader(**{key: content}), rows, block_rows=block_rows))


def tensor_dataset(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    tensors = [torch.from_numpy(arrays[name]) for name in ("images", "magnitudes", "redshifts")]
    torch.save(TensorDataset(*tensors), buffer)
    return buffer.getvalue()


def shard(key: str) -> bytes:
    """Return three galaxies in the format of the key."""
    if key.endswith(".pt"):
        return tensor_dataset(make_arrays(3))
    return npz(**make_arrays(3)) if key.endswith(".npz") else make_shard_bytes(3)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@given(data=st.data(), block_rows=st.integers(1, 9))
def test_any_range_in_any_blocks_gives_the_same_rows(data: st.DataObject, block_rows: int) -> None:
    arrays = make_arrays(8)
    start = data.draw(st.integers(0, 7))
    stop = data.draw(st.integers(start + 1, 8))

    blocks = read(make_shard_bytes(8), start, stop, block_rows=block_rows)

    assert max(len(block) for block in blocks) <= block_rows
    for name in ("images", "magnitudes", "redshifts", "object_id"):
        together = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(together, arrays[name][start:stop])


def test_a_range_reads_its_own_rows_and_not_the_file() -> None:
    content = make_shard_bytes(200)
    reader = MemoryReader(**{"0.safetensors": content})

    list(read_blocks(reader, RowRange(key="0.safetensors", start_row=50, stop_row=60, etag='"e"')))

    assert sum(stop - start for _, start, stop in reader.requests) == HEAD_BYTES + 10 * 5 * 32 * 32 * 4


@pytest.mark.parametrize(("at_once", "block_rows"), [(32, 256), (128, 256), (384, 384), (512, 512), (3072, 512)])
def test_a_block_is_what_the_engine_takes_at_once_within_limits(at_once: int, block_rows: int) -> None:
    assert block_rows_of(SDSS, at_once) == block_rows


@pytest.mark.parametrize(
    ("layout", "block_rows"),
    [
        (Layout(side_px=64), 128),
        (Layout(side_px=128), 32),
        (Layout(bands=tuple("ugrizyjhklmn"), side_px=128), 32),
        (Layout(side_px=0), 4096),
        (Layout(bands=tuple("grz")), 832),
    ],
)
def test_a_block_of_other_galaxies_is_as_large_in_whole_micro_batches(layout: Layout, block_rows: int) -> None:
    assert block_rows_of(layout) == block_rows


@pytest.mark.parametrize("key", ["0.safetensors", "0.npz"])
@pytest.mark.parametrize(("has_images", "has_magnitudes"), [(True, True), (True, False), (False, True)])
def test_a_model_reads_the_bands_the_centre_and_the_columns_that_it_wants(
    key: str, has_images: bool, has_magnitudes: bool
) -> None:
    arrays = make_arrays(5) | {"ebv": np.arange(5.0), "size": np.arange(5.0) + 10}
    layout = Layout(wanted=("z", "g"), side_px=16 * has_images, has_magnitudes=has_magnitudes, columns=("size", "ebv"))
    kept = {"images": has_images, "magnitudes": has_magnitudes}
    arrays = {name: array for name, array in arrays.items() if kept.get(name, True)}
    content = npz(**arrays) if key.endswith(".npz") else save(arrays)
    rows = RowRange(key=key, start_row=1, stop_row=5, etag='"e"')

    blocks = list(read_blocks(MemoryReader(**{key: content}), rows, layout, block_rows=3))

    assert [len(block) for block in blocks] == [3, 1]
    block = join(blocks)
    np.testing.assert_array_equal(block.columns, np.stack([np.arange(11.0, 15), np.arange(1.0, 5)], axis=1))
    if has_images:
        np.testing.assert_array_equal(block.images, arrays["images"][1:, [4, 1], 8:24, 8:24])
    else:
        assert block.images.shape == (4, 2, 0, 0)
    wanted = arrays["magnitudes"][1:, [4, 1]] if has_magnitudes else np.full((4, 2), np.nan)
    np.testing.assert_array_equal(block.magnitudes, wanted)
    named = block[1:3].arrays(("size", "ebv"))
    assert list(named) == [*(["images"] if has_images else []), "magnitudes", "redshifts", "object_id", "size", "ebv"]
    assert (named["size"].tolist(), named["ebv"].tolist()) == ([12.0, 13.0], [2.0, 3.0])


def test_a_layout_follows_from_what_a_model_reads() -> None:
    inputs = msgspec.structs.replace(shipped().card.inputs, magnitudes=None, columns=("ebv",))

    assert Layout.for_model(shipped().card.inputs) == SDSS
    assert Layout.for_model(inputs, tuple("zirgu")) == Layout(
        bands=tuple("zirgu"), has_magnitudes=False, columns=("ebv",)
    )
    assert (SDSS.order, SDSS.row_bytes) == (None, 20_520)
    assert Layout(bands=tuple("zirgu")).order == [4, 3, 2, 1, 0]


def test_a_shard_that_lacks_a_column_is_refused() -> None:
    rows = RowRange(key="0.safetensors", start_row=0, stop_row=3, etag='"e"')

    with pytest.raises(ShardFormatError, match=r"has no array `ebv`; it holds images, magnitudes, object_id, redsh"):
        list(read_blocks(MemoryReader(**{"0.safetensors": make_shard_bytes(3)}), rows, Layout(columns=("ebv",))))


def test_a_tiny_shard_takes_one_request() -> None:
    reader = MemoryReader(**{"0.safetensors": make_shard_bytes(2)})

    list(read_blocks(reader, RowRange(key="0.safetensors", start_row=0, stop_row=2, etag='"e"')))

    assert len(reader.requests) == 1


def test_redshifts_and_ids_may_be_absent() -> None:
    (block,) = read(make_shard_bytes(3, redshifts=None, object_id=None), 1, 3)

    assert np.isnan(block.redshifts).all()
    assert block.object_id.tolist() == [1, 2]


def test_cutouts_of_64_pixels_are_cropped_at_their_centre() -> None:
    arrays = make_arrays(2, side=64)

    (block,) = read(make_shard_bytes(2, images=arrays["images"]), 0, 2)

    np.testing.assert_array_equal(block.images, arrays["images"][:, :, 16:48, 16:48])


def test_the_published_tensor_dataset_is_read_without_allowing_pickle() -> None:
    arrays = make_arrays(4)

    (block,) = read(tensor_dataset(arrays), 1, 4, key="0.pt")

    np.testing.assert_array_equal(block.images, arrays["images"][1:4])
    np.testing.assert_array_equal(block.magnitudes, arrays["magnitudes"][1:4])
    np.testing.assert_array_equal(block.redshifts, arrays["redshifts"][1:4])


def test_a_cube_with_bands_last_and_named_labels_is_read() -> None:
    arrays = make_arrays(3, side=64)
    fields = [("z", "f8"), *((f"modelMag_{band}", "f8") for band in "ugriz")]
    labels = np.array(
        [(z, *magnitudes) for z, magnitudes in zip(arrays["redshifts"], arrays["magnitudes"], strict=True)],
        dtype=fields,
    )

    (block,) = read(npz(cube=np.moveaxis(arrays["images"], 1, -1), labels=labels), 0, 3, key="0.npz")

    np.testing.assert_array_equal(block.images, arrays["images"][:, :, 16:48, 16:48])
    np.testing.assert_array_equal(block.magnitudes, arrays["magnitudes"])
    np.testing.assert_array_equal(block.redshifts, arrays["redshifts"])


def test_a_cube_with_bands_first_is_read_and_labels_of_other_names_say_nothing() -> None:
    arrays = make_arrays(3)
    labels = np.array([(0.1, 17.0)] * 3, dtype=[("z", "f8"), ("modelMag_u", "f8")])

    (block,) = read(npz(cube=arrays["images"], labels=labels, magnitudes=arrays["magnitudes"]), 0, 3, key="0.npz")

    np.testing.assert_array_equal(block.images, arrays["images"])
    np.testing.assert_array_equal(block.magnitudes, arrays["magnitudes"])
    assert block.redshifts.tolist() == [0.1] * 3


@pytest.mark.parametrize("object_id", [True, False])
def test_an_npz_with_named_arrays_is_read(object_id: bool) -> None:
    arrays = make_arrays(4)
    expected = arrays["object_id"] if object_id else np.arange(4)
    given = {**arrays, "seed": np.array(1)} if object_id else {k: v for k, v in arrays.items() if k != "object_id"}

    blocks = read(npz(**given), 1, 4, key="0.npz", block_rows=2)

    assert [len(block) for block in blocks] == [2, 1]
    for name, array in {**arrays, "object_id": expected}.items():
        np.testing.assert_array_equal(np.concatenate([getattr(block, name) for block in blocks]), array[1:4])


def test_an_npz_with_bands_first_and_no_labels_lacks_magnitudes() -> None:
    with pytest.raises(ShardFormatError, match=r"0\.npz has no array `magnitudes`; it holds images"):
        read(npz(cube=make_arrays(3)["images"]), 0, 3, key="0.npz")


def test_a_published_shard_in_single_precision_is_widened_and_its_redshifts_get_one_axis() -> None:
    arrays = make_arrays(3)
    arrays = {**arrays, **{name: arrays[name].astype(np.float32) for name in ("magnitudes", "redshifts")}}

    (block,) = read(tensor_dataset({**arrays, "redshifts": arrays["redshifts"][:, None]}), 0, 3, key="0.pt")

    assert (block.magnitudes.dtype, block.redshifts.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(block.magnitudes, arrays["magnitudes"])
    np.testing.assert_array_equal(block.redshifts, arrays["redshifts"])


def test_a_published_shard_without_redshifts_has_none() -> None:
    arrays = make_arrays(3)
    buffer = io.BytesIO()
    torch.save(TensorDataset(*(torch.from_numpy(arrays[name]) for name in ("images", "magnitudes"))), buffer)

    (block,) = read(buffer.getvalue(), 0, 2, key="0.pt")

    assert np.isnan(block.redshifts).all()
    assert block.object_id.tolist() == [0, 1]


@pytest.mark.parametrize("key", ["0.pt", "0.npz"])
def test_a_published_shard_with_fewer_rows_than_planned_is_refused(key: str) -> None:
    with pytest.raises(ShardFormatError, match=f"{key} holds 3 rows; the manifest says 4"):
        read(shard(key), 0, 4, key=key)


@pytest.mark.parametrize(
    "tensors",
    [
        [np.zeros((3, 5))],
        [np.zeros((3, 7)), np.zeros((3, 5))],
        [make_arrays(3)["images"], np.zeros((3, 4))],
        [make_arrays(3)["images"], np.zeros((3, 5)), np.zeros(3), np.zeros(3)],
    ],
)
def test_tensors_that_are_no_galaxies_are_not_counted(tensors: list[np.ndarray]) -> None:
    buffer = io.BytesIO()
    torch.save(TensorDataset(*map(torch.from_numpy, tensors)), buffer)
    content = buffer.getvalue()

    with pytest.raises(ShardFormatError, match="not images and magnitudes"):
        count_rows(MemoryReader(**{"0.pt": content}), "0.pt", len(content), etag='"e"')


def test_arrays_that_are_no_galaxies_are_not_counted() -> None:
    content = npz(labels=np.zeros(3))

    with pytest.raises(ShardFormatError, match=r"neither `cube` nor `images`; it holds labels\.npy"):
        count_rows(MemoryReader(**{"0.npz": content}), "0.npz", len(content), etag='"e"')


class Canary:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple:
        return (exec, ("import builtins; builtins.canary_sang = True",))


@pytest.mark.parametrize("key", ["0.pt", "0.npz"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(key: str) -> None:
    import builtins

    if key == "0.pt":
        buffer = io.BytesIO()
        torch.save(Canary(), buffer)
        content = buffer.getvalue()
    else:
        content = npz(cube=np.array([Canary()], dtype=object))

    with pytest.raises(ShardFormatError, match=key):
        read(content, 0, 1, key=key)
    assert not hasattr(builtins, "canary_sang")


@pytest.mark.parametrize(("error", "reason"), [(ValueError("\n why\nmore"), "why"), (EOFError(), "EOFError")])
def test_a_damaged_file_is_named_with_the_first_line_of_the_reason(error: Exception, reason: str) -> None:
    with (
        pytest.raises(ShardFormatError, match=rf"0\.pt is not a list, or damaged \({reason}\)\. Convert"),
        published_shard._refusing("0.pt", "a list"),
    ):
        raise error


@pytest.mark.parametrize("key", ["0.pt", "0.npz", "0.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", pickle.dumps({"a": 1}), bytes(2000)], ids=["empty", "text", "pickle", "zeros"]
)
def test_a_file_of_another_kind_is_refused(key: str, content: bytes) -> None:
    with pytest.raises(ShardFormatError, match=key):
        read(content, 0, 1, key=key)


@pytest.mark.parametrize("value", [np.nan, np.inf, -9999.0])
@pytest.mark.parametrize("name", ["images", "magnitudes"])
def test_a_value_that_is_no_measurement_is_read_as_it_is(name: str, value: float) -> None:
    array = make_arrays(3)[name]
    array.reshape(3, -1)[1, 0] = value

    (block,) = read(make_shard_bytes(3, **{name: array}), 0, 3)

    np.testing.assert_array_equal(getattr(block, name), array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": make_arrays(3, side=16)["images"]}, r"images of shape \(3, 5, 16, 16\).*reads \(N, 5, 32, 32\)"),
        ({"images": make_arrays(3)["images"][:, :4]}, r"images of shape \(3, 4, 32, 32\)"),
        ({"images": make_arrays(3)["images"].astype(np.float16)}, "float16"),
        ({"magnitudes": make_arrays(3)["magnitudes"].astype(np.float32)}, "magnitudes.*float32"),
        ({"magnitudes": make_arrays(2)["magnitudes"]}, r"magnitudes of shape \(2, 5\)"),
        ({"redshifts": make_arrays(3)["redshifts"].astype(np.int64)}, "redshifts.*int64"),
        ({"images": np.array(1, np.float32)}, r"images of shape \(\)"),
        ({"images": np.zeros((3, 5), np.float32)}, r"images of shape \(3, 5\)"),
        ({"images": np.zeros((3, 5, 64, 32), np.float32)}, r"images of shape \(3, 5, 64, 32\)"),
        ({"images": np.zeros((3, 5, 32, 64), np.float32)}, r"images of shape \(3, 5, 32, 64\)"),
        ({"images": None}, "no array `images`"),
        ({"magnitudes": None}, "no array `magnitudes`"),
    ],
)
def test_what_the_model_cannot_read_is_refused(changes: dict[str, np.ndarray | None], message: str) -> None:
    with pytest.raises(ShardFormatError, match=message):
        read(make_shard_bytes(3, **changes), 0, 3)


def test_a_shard_without_rows_is_refused() -> None:
    with pytest.raises(ShardFormatError, match="no rows"):
        read(make_shard_bytes(0), 0, 1)


def test_a_truncated_shard_is_refused() -> None:
    with pytest.raises(ShardFormatError, match="ends 100 bytes early"):
        read(make_shard_bytes(20)[:-100], 0, 20)


def test_a_header_of_any_length_is_not_believed() -> None:
    for length in (0, 2**24 + 1, 2**63):
        with pytest.raises(ShardFormatError, match=rf"\(a header of {length} bytes\)"):
            read(length.to_bytes(8, "little") + b"{}", 0, 1)


def test_an_empty_object_is_asked_for_nothing() -> None:
    reader = MemoryReader(**{"0.safetensors": b""})

    with pytest.raises(ShardFormatError, match=r"a header of 0 bytes"):
        count_rows(reader, "0.safetensors", 0, etag='"e"')
    assert reader.requests == []


def test_a_header_that_is_longer_than_the_file_is_refused() -> None:
    with pytest.raises(ShardFormatError, match="a header of 99 bytes in 16"):
        read((99).to_bytes(8, "little") + b'{"images', 0, 1)


def test_a_shard_with_fewer_rows_than_planned_is_refused() -> None:
    with pytest.raises(ShardFormatError, match="holds 3 rows; the manifest says 4"):
        read(make_shard_bytes(3), 0, 4)


@pytest.mark.parametrize("key", ["0.safetensors", "0.pt", "0.npz"])
def test_a_shard_replaced_after_the_plan_is_refused(key: str) -> None:
    reader = MemoryReader(**{key: shard(key)})

    with pytest.raises(ShardChangedError):
        list(read_blocks(reader, RowRange(key=key, start_row=0, stop_row=3, etag='"old"')))
    with pytest.raises(ShardChangedError):
        count_rows(reader, key, len(reader.objects[key]), etag='"old"')


def test_images_replaced_while_a_rank_reads_are_refused() -> None:
    reader = MemoryReader(**{"0.safetensors": make_shard_bytes(100)})
    blocks = read_blocks(reader, RowRange(key="0.safetensors", start_row=0, stop_row=100, etag='"e"'), block_rows=50)
    next(blocks)
    reader.etag = '"new"'

    with pytest.raises(ShardChangedError):
        next(blocks)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("0.safetensors", make_shard_bytes(7)),
        ("0.pt", tensor_dataset(make_arrays(7))),
        ("1.pt", tensor_dataset(make_arrays(7, side=64))),
        ("0.npz", npz(cube=make_arrays(7)["images"], labels=np.zeros(7))),
        ("01.npz", npz(**make_arrays(7))),
        ("02.pt", tensor_dataset({**make_arrays(7), "magnitudes": np.zeros((7, 5), dtype=np.float32)})),
    ],
)
def test_rows_are_counted_without_reading_the_images(key: str, content: bytes) -> None:
    reader = MemoryReader(**{key: content})

    assert count_rows(reader, key, len(content), etag='"e"') == 7
    if key.startswith("0"):
        assert sum(stop - start for _, start, stop in reader.requests) < len(content)


# ------------------------------------------------------------------------------------- headers of other programs


def with_header(content: bytes, change: Callable[[dict[str, Any]], None], *, pad: int = 0) -> bytes:
    """A shard whose header says something else about the same data."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode() + b" " * pad
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def move(name: str, start: Any, stop: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = [first + start, last + stop]

    return change


def put(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update({key: value})


LYING = {
    "its own header as magnitudes": move("magnitudes", -8, -8),
    "overlap": move("images", -40, -40),
    "a gap": move("images", 40, 40),
    "longer than its data": move("redshifts", 0, 8),
    "floats as offsets": move("images", 0.0, 0.0),
    "huge offsets": move("images", 2**63, 2**63),
    "a shape of floats": put("images", "shape", [3.0, 5, 32, 32]),
    "fewer rows in the same data": put("redshifts", "shape", [2]),
    "another type for the same data": put("object_id", "dtype", "F32"),
    "offsets that are none": put("images", "data_offsets", [0]),
    "an entry that is none": lambda header: header.update(images=[]),
    "metadata that are none": lambda header: header.update(__metadata__={"a": 1}),
}


@pytest.mark.parametrize("lie", LYING)
def test_a_header_that_the_library_refuses_is_refused_by_name(lie: str) -> None:
    content = with_header(make_shard_bytes(3), LYING[lie])
    with pytest.raises(SafetensorError):
        load(content)

    with pytest.raises(ShardFormatError, match=r"0\.safetensors is not a safetensors file"):
        read(content, 0, 3)
    with pytest.raises(ShardFormatError, match=r"0\.safetensors is not a safetensors file"):
        count_rows(MemoryReader(**{"0.safetensors": content}), "0.safetensors", len(content), etag='"e"')


@pytest.mark.parametrize("text", [b"[" * 20_000, b"[]", b"null", b"1e999", b'{"images": {"dtype": "F32"}}', b"\xff{}"])
def test_a_header_that_is_none_is_refused_by_name(text: bytes) -> None:
    content = len(text).to_bytes(8, "little") + text

    with pytest.raises(ShardFormatError, match=r"0\.safetensors is not a safetensors file"):
        read(content, 0, 1)


def test_more_data_than_arrays_is_refused() -> None:
    content = make_shard_bytes(3) + bytes(8)

    with pytest.raises(ShardFormatError, match=r"0\.safetensors is not a safetensors file"):
        count_rows(MemoryReader(**{"0.safetensors": content}), "0.safetensors", len(content), etag='"e"')


def test_a_header_longer_than_the_first_read_is_read_on() -> None:
    whole = make_shard_bytes(3)
    content = with_header(whole, lambda header: header.update(__metadata__={"history": "x" * 70_000}))

    (block,), (expected,) = read(content, 0, 3), read(whole, 0, 3)

    np.testing.assert_array_equal(block.images, expected.images)
    assert count_rows(MemoryReader(**{"0.safetensors": content}), "0.safetensors", len(content), etag='"e"') == 3


def test_a_shard_that_is_replaced_while_its_header_is_read_is_refused() -> None:
    class Replaced(MemoryReader):
        def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
            content = super().read_range(key, start, stop, etag=etag)
            self.etag = '"new"'
            return content

    long = with_header(make_shard_bytes(3), lambda header: header.update(__metadata__={"history": "x" * 70_000}))

    with pytest.raises(ShardChangedError):
        count_rows(Replaced(**{"0.safetensors": long}), "0.safetensors", len(long), etag='"e"')


def test_an_array_of_a_type_that_no_shard_has_is_no_concern_of_ours() -> None:
    assert len(read(make_shard_bytes(3, mask=np.zeros((3, 7), np.uint8)), 0, 3)[0]) == 3
