"""Checks of this machine: Python, checkpoint, disk, and what the local AWS needs."""

import platform
import shutil
import socket
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError, safe_open

from inference.models import shipped
from inference.plan import BLOCK_MEMORY_BYTES, PROCESS_MEMORY_BYTES
from scripts.command.machine import num_cores
from scripts.deployment.finding import Finding, Verdict

LITTLE_DISK_BYTES = 2 * 10**9
TOO_LITTLE_DISK_BYTES = 2 * 10**8


def machine_findings(root: Path, *, is_local: bool) -> Iterator[Finding]:
    """Check this machine.

    Parameters
    ----------
    root : Path
        Folder of ``runs/`` and ``datasets/``.
    is_local : bool
        True when the run is to run here: then what the local AWS needs is checked too.
    """
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, {num_cores()} cores")
    yield _checkpoint()
    yield _disk(root)
    if is_local:
        yield _memory()
        yield _port()
        yield _runtime()


def _checkpoint() -> Finding:
    fix = "`git checkout inference/models` brings it back; `make train` makes another one."
    weights = shipped().weights
    try:
        with safe_open(weights, framework="numpy") as tensors:
            num_tensors = len(tensors.keys())
    except FileNotFoundError:
        return Finding("checkpoint", "fail", f"{weights.name} is not there", fix)
    except (SafetensorError, OSError) as error:
        return Finding("checkpoint", "fail", f"{weights.name} cannot be read: {error}", fix)
    size_mb = weights.stat().st_size / 1e6
    return Finding("checkpoint", "ok", f"{weights.name}, {size_mb:,.0f} MB, {num_tensors} tensors")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    text = f"{free / 1e9:,.1f} GB free"
    if free >= LITTLE_DISK_BYTES:
        return Finding("disk", "ok", text)
    verdict: Verdict = "fail" if free < TOO_LITTLE_DISK_BYTES else "warn"
    return Finding("disk", verdict, text, "Datasets and runs need some: delete old folders of runs/.")


def _memory() -> Finding:
    needed = num_cores() * (PROCESS_MEMORY_BYTES + BLOCK_MEMORY_BYTES)
    free = _available_memory_bytes()
    workers = f"{num_cores()} workers need {needed / 1e9:,.1f} GB"
    if free is None:
        return Finding("memory", "skip", f"{workers}; how much is free cannot be known here")
    text = f"{free / 1e9:,.1f} GB available, {workers}"
    if free >= needed:
        return Finding("memory", "ok", text)
    return Finding("memory", "warn", text, "End other programs, or keep to fewer cores: `taskset -c 0 make run`.")


def _available_memory_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _port() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
    except OSError as error:
        return Finding("ports", "fail", f"127.0.0.1 cannot be served on: {error}", "A firewall or sandbox forbids it.")
    return Finding("ports", "ok", f"127.0.0.1 can be served on, for instance port {port}")


def _runtime() -> Finding:
    if find_spec("awslambdaric") is None:
        text = "awslambdaric, AWS's own Lambda runtime for Python, is not installed"
        return Finding("runtime", "fail", text, "It exists for Linux: run in a Linux container or virtual machine.")
    return Finding("runtime", "ok", f"awslambdaric {version('awslambdaric')}")
