"""Distributions of redshift as a qp ensemble, HDF5, which RAIL reads: four Gaussians or quantiles per galaxy.

What the parts of such a file are called: qp 1.1.4, ``Ensemble.write_to``; a test reads it with qp itself.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from inference.distributions import Quantiles, distributions
from scripts.catalogs.merge import Galaxies
from scripts.catalogs.provenance import Card, as_text
from scripts.command.errors import CommandError

CHUNK_ROWS = 1_024
RAIL_NAMES = {"z_mode": "zmode"}
"""Columns whose name RAIL's stages expect otherwise."""

MIN_STEP = 1e-6
"""Redshift between two quantiles at least: qp interpolates where they must not coincide."""


class QpWriter:
    """Writes the galaxies with p(z) to a file, block by block; those without have no place in an ensemble."""

    def __init__(self, path: Path, provenance: Mapping[str, Card]) -> None:
        self._disk = _Disk(path, "w+")
        self._file = h5py.File(self._disk, "w")
        self._file.attrs.update(as_text(provenance))
        self._num_rows = 0

    def write(self, galaxies: Galaxies) -> None:
        """Append galaxies."""
        known = np.isfinite(galaxies.pz).all(axis=1) & (galaxies.pz.shape[1] > 0)
        if not known.any():
            return
        rows, pz = galaxies.rows[known], galaxies.pz[known]
        found = distributions(pz)
        if isinstance(found, Quantiles):
            meta: dict[str, Any] = {
                "pdf_name": b"quant",
                "quants": found.levels[None],
                "pdf_constructor_name": b"piecewise_linear",
                "ensure_extent": False,
            }
            steps = MIN_STEP * np.arange(len(found.levels))
            data = {"locs": (found.knots + steps).astype(np.float32)}
        else:
            meta = {"pdf_name": b"mixmod"}
            data = dict(zip(("weights", "means", "stds"), np.split(pz, 3, axis=1), strict=True))
        ancil = {RAIL_NAMES.get(name, name): rows[name] for name in rows.dtype.names}
        for group, arrays in (("data", data), ("ancil", ancil)):
            for name, values in arrays.items():
                self._append(f"{group}/{name}", values)
        if not self._num_rows:
            for name, value in (meta | {"pdf_version": 0}).items():
                self._file[f"meta/{name}"] = np.atleast_1d(value)
        self._num_rows += len(rows)
        self._disk.check()

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._file:
            shape = values.shape[1:]
            self._file.create_dataset(
                name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(CHUNK_ROWS, *shape)
            )
        dataset = self._file[name]
        dataset.resize(self._num_rows + len(values), axis=0)
        dataset[self._num_rows :] = values

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._disk:
            self._file.close()
            self._disk.check()
        if kind is None and not self._num_rows:
            raise CommandError(
                "No galaxy has a p(z): its model gives none. `make calibrate` and `make train` make models that do."
            )


class _Disk(io.FileIO):
    """A file whose errors we raise ourselves: HDF5 ignores a full disk when it closes a file, or ends the process."""

    _error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that there was."""
        if self._error:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all, where the system may write a part."""
        rest = memoryview(data)
        self._try(lambda: self._write_all(rest))
        return len(rest)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._try(lambda: super(_Disk, self).truncate(size))
        return size or 0

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            rest = rest[super().write(rest) :]

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self._error = self._error or error
