"""The file of packed weights: safetensors, mapped into memory, whose arrays begin on lines of the cache."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.contract import Payload
from inference.engines.unavailable import UnavailableError

LANES = 16
"""Numbers of a vector and outputs of a panel, whatever the instruction set: one pack serves every CPU."""

LINE_BYTES = 64
DTYPES: dict[np.dtype[Any], str] = {np.dtype(np.float32): "F32", np.dtype(np.int8): "I8"}
"""Names of safetensors."""

VERSION = 2
"""Of names, order and shapes of the arrays; another one is packed again."""


class PackCard(Payload, frozen=True, kw_only=True):
    """What a pack says of itself, in its metadata."""

    weights_sha256: str
    """Checksum of the checkpoint it was made from."""

    num_parameters: int
    """Parameters of the network before folding."""

    precision: str = "fp32"
    """``int8`` where the dense layers of the transformer are."""

    version: int = VERSION


Array = NDArray[Any]
"""float32 or int8."""


def pack_path(checkpoint: Path, sha256: str, precision: str = "fp32") -> Path:
    """Return the path of a checkpoint's packed weights."""
    return checkpoint.with_name(f"{checkpoint.stem}-{sha256}{'' if precision == 'fp32' else f'.{precision}'}.native")


def write_pack(target: Path, card: PackCard, arrays: Mapping[str, Array]) -> None:
    """Write a pack; it appears whole.

    Not by safetensors' own writer: that one sorts the arrays, and begins them at any multiple of 8 bytes.
    """
    header: dict[str, object] = {"__metadata__": {"card": msgspec.json.encode(card).decode()}}
    end = 0
    for name, array in arrays.items():
        assert array.nbytes % LINE_BYTES == 0, f"{name} is whole vectors"
        header[name] = {
            "dtype": DTYPES[array.dtype],
            "shape": array.shape,
            "data_offsets": [end, end := end + array.nbytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % LINE_BYTES)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=target.parent) as folder:
        draft = Path(folder) / target.name
        with draft.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(array.data)
        draft.replace(target)


def read_pack(path: Path, sha256: str, precision: str = "fp32") -> tuple[PackCard, dict[str, Array]]:
    """Map a pack into memory.

    Returns
    -------
    card : PackCard
    arrays : dict
        By name, in the order of the file, read-only.

    Raises
    ------
    UnavailableError
        If there is none, or it was cut, is of other weights, of another version, or another file.
    """
    try:
        content = np.memmap(path, mode="r")
        begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:begin].tobytes())
        card = msgspec.json.decode(header.pop("__metadata__")["card"], type=PackCard)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        arrays = {name: _array(content[begin:], entry) for name, entry in header.items()}
    except FileNotFoundError:
        raise UnavailableError(f"the weights {sha256[:12]} are not packed; `make engines` packs them") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, msgspec.DecodeError):
        raise UnavailableError(
            f"{path.name} is no pack of weights or was cut; `make engines` packs them again"
        ) from None
    if (card.version, card.weights_sha256, card.precision) != (VERSION, sha256, precision):
        what = "of other weights" if card.weights_sha256 != sha256 else f"of version {card.version}, not {VERSION}"
        raise UnavailableError(f"{path.name} is {what}; `make engines` packs them again")
    if not ends or len(content) != begin + ends[-1]:
        raise UnavailableError(f"{path.name} is {len(content)} bytes long; `make engines` packs the weights again")
    return card, arrays


def _array(content: NDArray[np.uint8], entry: dict[str, Any]) -> Array:
    start, stop = entry["data_offsets"]
    (dtype,) = (dtype for dtype, name in DTYPES.items() if name == entry["dtype"])
    return content[start:stop].view(dtype).reshape(entry["shape"])
