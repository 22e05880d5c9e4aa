"""Small files of arrays tied to some weights: safetensors whose metadata is one card, as JSON."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from inference.contract import Payload
from inference.uncertainty import Array, Layer

Card = TypeVar("Card", bound=Payload)

UNREADABLE = (SafetensorError, msgspec.DecodeError, KeyError)
"""What `read` and taking an array out of its result raise where the file is another one."""


def content(card: Payload, tensors: Mapping[str, NDArray[np.floating]]) -> bytes:
    """Return the content of the file; equal arrays give equal bytes. They are rounded to float32."""
    # One key: safetensors writes several in any order.
    return save(
        {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in tensors.items()},
        metadata={"card": msgspec.json.encode(card).decode()},
    )


def read(path: Path, card_type: type[Card]) -> tuple[Card, dict[str, Array]]:
    """Return the card and the arrays of a file, float64.

    Raises
    ------
    FileNotFoundError
        If there is none.
    SafetensorError, msgspec.DecodeError, KeyError
        If it is another file (`UNREADABLE`).
    """
    with safe_open(path, framework="numpy") as file:
        card = msgspec.json.decode((file.metadata() or {})["card"], type=card_type)
        return card, {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118


def layer_arrays(layers: Iterable[Layer], prefix: str = "") -> dict[str, Array]:
    """Return the arrays of dense layers by name: ``0.weight``, ``0.bias``, ``1.weight`` …, each behind `prefix`."""
    return {
        f"{prefix}{index}.{name}": array
        for index, layer in enumerate(layers)
        for name, array in layer._asdict().items()
    }


def layers_of(tensors: Mapping[str, Array], prefix: str = "") -> tuple[Layer, ...]:
    """Return the layers that `layer_arrays` named."""
    num_layers = sum(name.endswith(".weight") for name in tensors)
    return tuple(
        Layer(tensors[f"{prefix}{index}.weight"], tensors[f"{prefix}{index}.bias"]) for index in range(num_layers)
    )
