"""The compiled function: one shared library for each instruction set, chosen by what the CPU has."""

import ctypes
import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from inference.engines.unavailable import UnavailableError

SOURCE = Path(__file__).parent / "source"
FOLDER = Path(__file__).parent / "build"
"""Where the libraries are; not in the repository."""

VERSION = 2
"""Raised with every change of the source that changes a redshift."""


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """What a library is compiled for."""

    name: str
    machine: str
    """The processors that may have it, as `platform.machine` names them."""

    cpu: str
    """The same for the compiler."""

    flags: frozenset[str]
    """What ``/proc/cpuinfo`` lists where it can run."""

    has_int8: bool = True
    """Whether products in 8 bits are faster than in fp32: NEON's are plain C."""


AVX2_FLAGS = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"})
AVX512_FLAGS = AVX2_FLAGS | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
INSTRUCTION_SETS = (
    InstructionSet(
        name="avx512vnni", machine="x86_64", cpu="x86_64_v4+avx512vnni", flags=AVX512_FLAGS | {"avx512_vnni"}
    ),
    InstructionSet(name="avx512", machine="x86_64", cpu="x86_64_v4", flags=AVX512_FLAGS),
    InstructionSet(name="avx2", machine="x86_64", cpu="x86_64_v3", flags=AVX2_FLAGS),
    InstructionSet(name="neon", machine="aarch64", cpu="generic", flags=frozenset({"asimd"}), has_int8=False),
)
"""The fastest first."""


def runnable() -> list[InstructionSet]:
    """Return the instruction sets that this CPU has, the fastest first; none where the system is not Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return []
    # Every processor repeats the line; only the first counts: `flags` on x86, `Features` on ARM.
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    has = set(flags.split())
    return [one for one in INSTRUCTION_SETS if one.machine == platform.machine() and one.flags <= has]


def library_path(instructions: InstructionSet) -> Path:
    """Return where the library of an instruction set is: other sources never meet an old library."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    return FOLDER / f"native-{instructions.name}-{hashlib.sha256(content).hexdigest()[:12]}.so"


def open_library(instructions: InstructionSet) -> ctypes.CDLL:
    """Load the library of an instruction set.

    Raises
    ------
    UnavailableError
        If it was not compiled, or cannot be loaded.
    """
    path = library_path(instructions)
    if not path.exists():
        raise UnavailableError("the native engine is not compiled; `make engines` does, with ziglang")
    try:
        return declare(ctypes.CDLL(str(path)))
    except OSError as error:
        raise UnavailableError(f"{path.name} cannot be loaded ({error}); delete it and `make engines`") from error


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Say what the functions of a library take and return."""
    library.workspace_bytes.restype = ctypes.c_long
    library.most_galaxies.restype = library.num_weights.restype = ctypes.c_int
    pointer = ctypes.c_void_p
    library.predict.argtypes = (pointer, pointer, pointer, ctypes.c_int, pointer, pointer)
    library.predict.restype = None
    return library
