"""The binding: arrays of galaxies to pointers, one share of them for each thread."""

import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.engines.native import library
from inference.engines.native.pack import LINE_BYTES, pack_path, read_pack
from inference.engines.unavailable import UnavailableError

GROUP_ROWS = 16
"""Galaxies that pass the transformer together: the parts that threads take are whole groups of them."""

CALLS_TOGETHER = 4
"""Parts that each of several threads takes of one batch: with one each, all would wait for the slowest of them."""


class NativeEngine:
    """AstroMAE in C++; see `inference.predict.Engine`.

    Every galaxy is computed alone, in the same order of operations: neither its neighbours nor the number of threads
    change a bit.

    Parameters
    ----------
    checkpoint : Path
        The weights; packed, they are in the same folder.
    sha256 : str
        Checksum of the checkpoint.
    num_threads : int
    precision : str
        ``fp32``, or ``int8``: the dense layers of the transformer in 8 bits.
    instructions : str, optional
        Name of an instruction set; the fastest that this CPU has when absent.

    Raises
    ------
    UnavailableError
        If it is not compiled for this CPU, or the weights are not packed.
    """

    note: str | None = None

    def __init__(
        self,
        checkpoint: Path,
        sha256: str,
        *,
        num_threads: int,
        precision: str = "fp32",
        instructions: str | None = None,
    ) -> None:
        chosen = next((one for one in library.runnable() if instructions in (None, one.name)), None)
        if chosen is None:
            raise UnavailableError(f"this machine does not compute with {instructions or 'AVX2 or NEON under Linux'}")
        if precision != "fp32" and not chosen.has_int8:
            raise UnavailableError(f"the native engine computes in fp32 with {chosen.name}, not in {precision}")
        self._library = library.open_library(chosen)
        card, self._arrays = read_pack(pack_path(checkpoint, sha256), sha256)
        if precision != "fp32":
            # In place of what they round, and behind it; in fp32 those pointers are null.
            self._arrays |= read_pack(pack_path(checkpoint, sha256, precision), sha256, precision)[1]
        self._weights = (ctypes.c_void_p * self._library.num_weights())(
            *(array.ctypes.data for array in self._arrays.values())
        )
        self.precision = precision
        self._workspaces = [aligned_zeros(self._library.workspace_bytes()) for _ in range(num_threads)]
        self._map: Callable[[Callable[[int], None], Iterable[int]], Iterable[None]] = map
        if num_threads > 1:
            # Imported here: one thread, the rule in Lambda, starts without it.
            from concurrent.futures import ThreadPoolExecutor

            self._map = ThreadPoolExecutor(num_threads, thread_name_prefix="native").map
        self._most_rows = self._library.most_galaxies()
        self.micro_batch = self._most_rows * (num_threads * CALLS_TOGETHER if num_threads > 1 else 1)
        self.version = f"{library.VERSION}-{chosen.name}"
        self.name = f"native {self.version}"
        self.num_threads = num_threads
        self.weights_sha256 = card.weights_sha256
        self.num_parameters = card.num_parameters

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `inference.predict.predict_values` for the arrays."""
        images = np.ascontiguousarray(images, dtype=np.float32)
        light = np.ascontiguousarray(magnitudes, dtype=np.float32)
        num_rows = len(images)
        assert images.shape == (num_rows, 5, 32, 32), "the contract has checked the model's inputs"
        assert light.shape == (num_rows, 5), "the contract has checked the model's inputs"
        redshifts = np.empty(num_rows, dtype=np.float32)
        step = rows_of_a_part(num_rows, self.num_threads, self._most_rows)
        # One iterator for all threads: whoever is done takes the next part.
        starts = iter(range(0, num_rows, step))

        def compute(thread: int) -> None:
            for start in starts:
                part = slice(start, start + step)
                self._library.predict(
                    self._weights,
                    images[part].ctypes.data,
                    light[part].ctypes.data,
                    len(images[part]),
                    redshifts[part].ctypes.data,
                    self._workspaces[thread].ctypes.data,
                )

        for _ in self._map(compute, range(self.num_threads)):
            pass
        return redshifts


def rows_of_a_part(num_rows: int, num_threads: int, most_rows: int) -> int:
    """Return how many galaxies a thread takes at a time: equal parts, as many for each thread, in whole groups."""
    num_parts = max(-(-num_rows // (most_rows * num_threads)) * num_threads, 1)
    return max(-(-num_rows // (num_parts * GROUP_ROWS)) * GROUP_ROWS, GROUP_ROWS)


def aligned_zeros(num_bytes: int) -> NDArray[np.uint8]:
    """Return memory that begins on a line of the cache."""
    memory = np.zeros(num_bytes + LINE_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    return memory[start : start + num_bytes]
