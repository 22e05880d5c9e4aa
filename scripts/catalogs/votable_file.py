"""A catalog as a VOTable, for TOPCAT, Aladin and services of the Virtual Observatory; it is held in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scripts.catalogs.columns import ROW
from scripts.catalogs.provenance import Card
from scripts.catalogs.template import votable_of


class VotableWriter:
    """Gathers rows and writes them as BINARY2, with unit, UCD and meaning of every column."""

    def __init__(self, path: Path, provenance: Mapping[str, Card], row: np.dtype[Any] = ROW) -> None:
        self._path, self._provenance = path, provenance
        self._rows: list[NDArray[Any]] = [np.empty(0, row)]

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows: shape (N,)."""
        self._rows.append(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            document = votable_of(self._provenance, np.concatenate(self._rows))
            document.to_xml(str(self._path), tabledata_format="binary2")
