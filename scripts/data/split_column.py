"""What training uses a galaxy for, where the user says it in a column: to learn, to choose, or to test."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.command.errors import SourceError

PARTS = ("", "train", "selection", "test")
"""By number; galaxies of the first are dealt by training itself."""

TRAIN, SELECTION, TEST = 1, 2, 3

SPELLINGS = {"training": "train", "validation": "selection", "valid": "selection", "val": "selection"}


def read_split(text: NDArray[np.str_], where: str) -> NDArray[np.uint8]:
    """Return the number of the part that each galaxy belongs to: texts of shape (N,) to (N,).

    Raises
    ------
    SourceError
        If a text names no part; `where` is the column.
    """
    names, rows = np.unique(text, return_inverse=True)
    parts = [SPELLINGS.get(name.lower(), name.lower()) for name in names.tolist()]
    if unknown := [name for name, part in zip(names.tolist(), parts, strict=True) if part not in PARTS]:
        raise SourceError(f"{where} holds {unknown[0]!r}; a split is {', '.join(PARTS[1:])}, or empty.")
    return np.array([PARTS.index(part) for part in parts], dtype=np.uint8)[rows]


def names_of(split: NDArray[np.uint8]) -> list[Any]:
    """Return the names of parts, None for none."""
    return [PARTS[number] or None for number in split.tolist()]
