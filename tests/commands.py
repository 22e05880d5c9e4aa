"""Commands as a user types them, forked from a process that has imported what they import: a second of CPU less each.

`tests/integration/test_run.py` starts one from nothing, as make does, and so do all that send signals.
"""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [f"scripts.{name}" for name in ("run", "resume", "status", "catalog", "cost", "doctor", "sweep", "invoke")]
)


def run_command(
    name: str, *, cwd: Path, env: Mapping[str, str], timeout_s: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m scripts.NAME`` to its end; return its exit status and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / "stdout", Path(folder) / "stderr"]
        process = _processes.Process(target=_run, args=(name, cwd, dict(env), printed))
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(name, timeout_s, *(path.read_bytes() for path in printed))
        assert process.exitcode is not None
        return subprocess.CompletedProcess([name], process.exitcode, *(path.read_text() for path in printed))


def _run(name: str, cwd: Path, env: dict[str, str], printed: list[Path]) -> None:
    with open(os.devnull, "rb") as nothing, printed[0].open("wb") as output, printed[1].open("wb") as errors:
        for descriptor, file in enumerate((nothing, output, errors)):
            os.dup2(file.fileno(), descriptor)
    sys.stdin, sys.stdout, sys.stderr = map(_stream, range(3))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [name]
    sys.modules.pop(f"scripts.{name}", None)  # what it imports stays; it is run as the program
    try:
        runpy.run_module(f"scripts.{name}", run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _stream(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(descriptor, "w" if descriptor else "r"), encoding="utf-8", write_through=True)
