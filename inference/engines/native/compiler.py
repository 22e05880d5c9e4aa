"""Compiles the native engine with clang, which the package ziglang brings: the same compiler everywhere, also for ARM.

A compiler of the system is not asked: its vectors, and so its speed and perhaps its last bits, would be others.
"""

import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from inference.engines.native.library import FOLDER, INSTRUCTION_SETS, SOURCE, InstructionSet, library_path
from inference.engines.unavailable import UnavailableError

FLAGS = (
    "-std=c++17",
    "-O3",
    "-ffreestanding",  # no library: what is left are memcpy, memmove and memset, which every process has
    "-nostdlib",
    "-fno-exceptions",
    "-fno-rtti",
    "-ffp-contract=off",  # multiply-adds are where the source says: the same bits on every CPU
    "-s",
)
LIBRARY_FLAGS = ("-fPIC", "-shared")
TIMEOUT_S = 300


def compile_all(machine: str) -> list[Path]:
    """Compile the libraries of a processor that are not there yet, and delete those of other sources.

    Parameters
    ----------
    machine : str
        ``x86_64`` or ``aarch64``, whichever this machine is.

    Returns
    -------
    list of Path
        The libraries, the fastest instructions first.

    Raises
    ------
    UnavailableError
        If there is no compiler, or it refuses.
    """
    libraries = {library_path(one): one for one in INSTRUCTION_SETS if one.machine == machine}
    missing = [path for path in libraries if not path.exists()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda path: compile_library(libraries[path], path), missing))
    current = {library_path(one) for one in INSTRUCTION_SETS}
    for old in set(FOLDER.glob("native-*.so")) - current:
        old.unlink(missing_ok=True)
    return list(libraries)


def compile_library(
    instructions: InstructionSet, target: Path, *further: str, source: Path = SOURCE / "engine.cpp"
) -> None:
    """Compile one library; it appears whole. See `compile_source`."""
    compile_source(source, instructions, target, *LIBRARY_FLAGS, *further)


def compile_source(source: Path, instructions: InstructionSet, target: Path, *further: str) -> None:
    """Compile a library or a program without any library; it appears whole.

    Parameters
    ----------
    source : Path
    instructions : InstructionSet
    target : Path
    further : str
        More flags.

    Raises
    ------
    UnavailableError
        If there is no compiler, or it refuses.
    """
    if find_spec("ziglang") is None:
        raise UnavailableError("there is no compiler for the native engine: the package ziglang is not installed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=target.parent) as folder:
        draft = Path(folder) / target.name
        # The compiler keeps 20 MB of what it made in the folders that these name.
        command = ["env", f"ZIG_GLOBAL_CACHE_DIR={folder}/cache", f"ZIG_LOCAL_CACHE_DIR={folder}/cache"]
        command += [sys.executable, "-m", "ziglang", "c++", *FLAGS, *further]
        command += ["-target", f"{instructions.machine}-linux-musl", f"-mcpu={instructions.cpu}"]
        command += [str(source), "-o", str(draft)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"the native engine for {instructions.name} was not compiled: {error}") from error
        if done.returncode:
            raise UnavailableError(f"the native engine for {instructions.name} was not compiled: {done.stderr}")
        draft.replace(target)


if __name__ == "__main__":
    try:
        compile_all(platform.machine())
    except UnavailableError as error:
        sys.exit(f"error: {error}")
