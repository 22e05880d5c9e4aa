"""The redshifts of a run, put together from the files of its ranks."""

import ast
import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Every galaxy of a run whose file is there, in dataset order."""

    object_id: NDArray[np.int64]
    z_phot: Array
    """NaN where the input was refused."""

    z_spec: Array
    """NaN where unknown."""

    sigma: Array | None
    """Calibrated 68 % half-width in redshift; None where no file has one."""

    quality: NDArray[np.uint8] | None
    """Flags of `inference.quality`; None where no file has them."""

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Galaxies with both redshifts."""
        return np.isfinite(self.z_phot) & np.isfinite(self.z_spec)


def read_predictions(folder: Path) -> Predictions | None:
    """Read ``predictions/*.npz`` of a run; None where there is no file.

    Raises
    ------
    ValueError
        If a file is no npz or lacks an array; the message names it.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    files = sorted(folder.glob("predictions/*.npz"))
    for path in files:
        for name, values in _arrays(path):
            parts.setdefault(name, []).append(values)
    if not files:
        return None
    missing = {"z_phot"} - parts.keys()
    if missing:
        raise ValueError(f"{files[0]} has no array z_phot. Remove the file, or fetch the run again.")
    whole = {name: np.concatenate(values) for name, values in parts.items() if len(values) == len(files)}
    num = len(whole["z_phot"])
    unknown = np.full(num, np.nan)
    sigma, quality = whole.get("sigma"), whole.get("quality")
    return Predictions(
        object_id=whole.get("object_id", np.full(num, -1)).astype(np.int64),
        z_phot=whole["z_phot"].astype(np.float64),
        z_spec=whole.get("z_spec", unknown).astype(np.float64),
        sigma=None if sigma is None or not np.isfinite(sigma).any() else sigma.astype(np.float64),
        quality=None if quality is None else quality.astype(np.uint8),
    )


def _arrays(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of a file. `numpy.load` takes 1.4 ms for the five of a rank, this a tenth of it."""
    try:
        whole = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            for entry in archive.infolist():
                content = _content(whole, entry) or archive.read(entry)
                (length,) = struct.unpack_from("<H", content, 8)
                dtype = _dtype(bytes(content[10 : 10 + length]))
                yield entry.filename.removesuffix(".npy"), np.frombuffer(content, dtype, -1, 10 + length)
    except (zipfile.BadZipFile, struct.error, ValueError, KeyError, SyntaxError) as error:
        raise ValueError(f"{path} is no file of predictions ({error}). Fetch the run again.") from error


def _content(whole: bytes, entry: zipfile.ZipInfo) -> memoryview | None:
    """Return an array that lies in the file as it is, as `numpy.savez` stores it; None for a compressed one."""
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    name_length, extra_length = struct.unpack_from("<HH", whole, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    return memoryview(whole)[start : start + entry.file_size]


@lru_cache
def _dtype(header: bytes) -> np.dtype[Any]:
    """Return the type in the header of an npy 1.0 array; the files of a run share a few headers."""
    described: dict[str, Any] = ast.literal_eval(header.decode("latin1").strip())
    return np.dtype(str(described["descr"]))
