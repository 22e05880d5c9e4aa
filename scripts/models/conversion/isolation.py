"""Runs the reading of a pickle in a process of its own, which has no credentials and ends by itself."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from scripts.command.errors import CommandError
from scripts.models.conversion.unpickle import REFUSED

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 180


@dataclass(frozen=True)
class Checkpoint:
    """What a pickled module holds."""

    tensors: dict[str, Tensor]
    """Tensors by their published names."""

    modules: dict[str, dict[str, Any]]
    """Modules by theirs: ``class``, and the attributes that are numbers or words."""


def read_pickled(path: Path) -> Checkpoint:
    """Read a checkpoint without running what it says.

    Raises
    ------
    CommandError
        If it asks for anything but tensors and modules, naming that; or is not a checkpoint of torch.save.
    """
    if not path.is_file():
        raise CommandError(f"{path}: there is no such file.")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tensors.safetensors"
        done = _read_apart(path.resolve(), target, folder)
        if done.returncode == REFUSED:
            raise CommandError(
                f"{path} was refused, and nothing in it was run: it holds {done.stderr.strip()}. "
                "A published checkpoint is a network saved whole by torch.save."
            )
        if done.returncode or not target.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CommandError(f"{path} cannot be read: its reader ended with status {done.returncode} ({last}).")
        with safe_open(target, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            modules = json.loads(file.metadata()["modules"])
    return Checkpoint(tensors, modules)


def _read_apart(source: Path, target: Path, folder: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": folder}
    try:
        return subprocess.run(
            [sys.executable, "-m", "scripts.models.conversion.unpickle", str(source), str(target)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{source} is still being read after {TIMEOUT_S} s: it is not a network.") from error
