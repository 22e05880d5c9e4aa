"""One galaxy through a library of the native engine that watches every address; run with libasan loaded before all.

Arguments: the library, and the packed weights of fp32 and int8. Every array is a piece of memory of its own, so that
one number beyond its end is seen.
"""

import ctypes
import os
import sys
from pathlib import Path

import numpy as np

from inference.engines.native.engine import aligned_zeros
from inference.engines.native.library import declare
from inference.engines.native.pack import Array, read_pack


def predict(library: ctypes.CDLL, weights: dict[str, Array], image_numbers: int) -> float:
    """Return the redshift of a galaxy whose cutouts hold so many numbers."""
    copies = [np.array(array) for array in weights.values()]
    pointers = (ctypes.c_void_p * library.num_weights())(*(copy.ctypes.data for copy in copies))
    image = np.linspace(-1, 30, image_numbers, dtype=np.float32)
    magnitudes, redshift = np.full(5, 18, np.float32), np.empty(1, np.float32)
    space = aligned_zeros(library.workspace_bytes())
    library.predict(pointers, image.ctypes.data, magnitudes.ctypes.data, 1, redshift.ctypes.data, space.ctypes.data)
    return float(redshift[0])


def main(path: str, fp32: Path, int8: Path, sha256: str) -> None:
    """Print both redshifts, and then whether a cutout that is one number short ends the program."""
    library = declare(ctypes.CDLL(path))
    weights = read_pack(fp32, sha256)[1]
    print(predict(library, weights, 5 * 32 * 32))
    print(predict(library, weights | read_pack(int8, sha256, "int8")[1], 5 * 32 * 32), flush=True)
    child = os.fork()
    if child == 0:
        predict(library, weights, 5 * 32 * 32 - 1)
        os._exit(0)
    print("seen" if os.waitpid(child, 0)[1] else "missed")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
