"""Files of arrays: what is read without numpy is what numpy reads."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from inference.npz import read_arrays, shape_of

ARRAYS = st.dictionaries(
    st.sampled_from(["z_phot", "object_id", "pz", "π"]),
    st.one_of(
        arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=0))
        for dtype in (np.float32, np.int64, np.uint8, ">f8")
    ),
    min_size=1,
)


def written(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


@given(arrays=ARRAYS, is_fortran=st.booleans(), compressed=st.booleans())
def test_arrays_are_those_that_numpy_reads(arrays: dict[str, np.ndarray], is_fortran: bool, compressed: bool) -> None:
    order = np.asfortranarray if is_fortran else np.ascontiguousarray
    content = written(compressed=compressed, **{name: order(array) for name, array in arrays.items()})

    found = read_arrays(content)

    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert shape_of(name, io.BytesIO(content)) == array.shape


def test_extra_fields_before_an_array_are_no_part_of_it() -> None:
    buffer, entry = io.BytesIO(), zipfile.ZipInfo("z_phot.npy")
    entry.extra = b"\xfe\xca\x04\x00spam"
    with zipfile.ZipFile(buffer, "w") as archive, zipfile.ZipFile(io.BytesIO(written(z_phot=np.arange(3)))) as plain:
        archive.writestr(entry, plain.read("z_phot.npy"))

    assert read_arrays(buffer.getvalue())["z_phot"].tolist() == [0, 1, 2]


def test_python_objects_are_refused() -> None:
    content = written(z_phot=np.array([{}, None], object))

    with pytest.raises(ValueError, match="OBJECT"):
        read_arrays(content)


@pytest.mark.parametrize("num_bytes", [0, 10, 100, -1])
def test_a_file_that_was_cut_off_is_refused(num_bytes: int) -> None:
    content = written(z_phot=np.arange(30))

    with pytest.raises((zipfile.BadZipFile, ValueError, EOFError)):
        read_arrays(content[:num_bytes])


def test_an_array_that_is_not_there_has_no_shape() -> None:
    with pytest.raises(KeyError, match=r"sigma\.npy"):
        shape_of("sigma", io.BytesIO(written(z_phot=np.arange(3))))
