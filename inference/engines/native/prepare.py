"""What the native engine needs before it computes: libraries for this machine, and packed weights."""

import platform
from importlib.util import find_spec
from pathlib import Path

from inference.checksum import file_sha256
from inference.engines.exported import Rounding, read_card
from inference.engines.native.compiler import compile_all
from inference.engines.native.library import runnable
from inference.engines.native.pack import pack_path, read_pack
from inference.engines.unavailable import UnavailableError


def can_prepare() -> bool:
    """Return whether the engine can be made on this machine, and run on it."""
    return bool(runnable()) and find_spec("ziglang") is not None


def prepare(checkpoint: Path) -> None:
    """Compile what is not compiled, pack what is not packed; seconds the first time, nothing after it.

    Raises
    ------
    UnavailableError
        If there is no compiler, or it refuses.
    WeightsError
        If the weights do not fit the network, or are of a published variant.
    """
    compile_all(platform.machine())
    sha256 = file_sha256(checkpoint)
    _pack(checkpoint, sha256)
    try:
        rounding = read_card(checkpoint, sha256).native_int8
    except UnavailableError:
        return
    if rounding and not rounding.accuracy.rejected:
        _pack(checkpoint, sha256, rounding)


def _pack(checkpoint: Path, sha256: str, rounding: Rounding | None = None) -> None:
    precision = "int8" if rounding else "fp32"
    target = pack_path(checkpoint, sha256, precision)
    try:
        read_pack(target, sha256, precision)
    except UnavailableError:
        # Imported here: it takes torch a second.
        from inference.engines.native.packing import make_pack

        make_pack(checkpoint, sha256, target, rounding)
