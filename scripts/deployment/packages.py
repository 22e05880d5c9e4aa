"""`scripts/requirements.txt`: all that `make` installs, with the sha256 of each wheel that a machine may take."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging import tags
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

from scripts.command.repository import REPOSITORY
from scripts.deployment.image.lock import MACHINES, Locked, LockError, ask_pip, parse, read_report, render

REQUIREMENTS = REPOSITORY / "scripts" / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = ("tools", "dev")
PIP = "pip==25.3"
"""Newer than what comes with Python 3.11, and faster."""

UV = "uv==0.13.9"
"""Resolves for every Python and system at once, in seconds; is installed into an environment of its own."""

LINUX, MACOS = "sys_platform == 'linux'", "sys_platform == 'darwin'"
NEWEST_MACOS = (15, 0)
"""Wheels for a newer one are left out, as those for a newer glibc."""

NEWEST_GLIBC = 40
"""Its minor version."""

HEADER = """\
# What `make` installs into .venv: what pyproject.toml asks for, and what that needs, by checksum. Written by
# `make lock` for Python {pythons} on Linux (x86_64, aarch64) and macOS (arm64).
# pyproject.toml's requirements were {checksum}
"""


def lock() -> list[str]:
    """Write the lock file of the clone; return what could not be asked and was kept from the old one."""
    old = parse(REQUIREMENTS.read_text()) if REQUIREMENTS.exists() else {}
    version = torch_version()
    torch, needs, kept = _cpu_torch(version, old.get(f"torch ; {LINUX}"))
    packages = select(_resolve(f"torch=={version}", needs))
    # One wheel is the CPU build on macOS; what other systems would get from there is a CUDA build.
    on_macos = {name: digest for name, digest in packages.pop("torch").wheels.items() if "macosx" in name}
    packages |= {f"torch ; {LINUX}": torch, f"torch ; {MACOS}": Locked(version, on_macos)}
    REQUIREMENTS.write_text(render(packages, header()))
    return kept


def header() -> str:
    """Return the first lines of the lock file of this pyproject.toml."""
    return HEADER.format(pythons=", ".join(PYTHONS), checksum=hashlib.sha256("\n".join(wanted()).encode()).hexdigest())


def wanted() -> list[str]:
    """Return what is to be installed: the requirements of pyproject.toml, what builds the project, and pip."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project, build = document["project"], document["build-system"]
    tools = [project["optional-dependencies"][name] for name in EXTRAS]
    return sorted({pin for pins in (project["dependencies"], build["requires"], *tools) for pin in pins} | {PIP})


def torch_version() -> str:
    """Return the version that pyproject.toml pins."""
    (pin,) = (pin for pin in wanted() if pin.startswith("torch=="))
    return pin.removeprefix("torch==")


def select(pylock: Mapping[str, Any]) -> dict[str, Locked]:
    """Take from a resolution for all the world what a supported machine may install.

    Parameters
    ----------
    pylock : mapping
        The content of a ``pylock.toml``.

    Raises
    ------
    LockError
        If a package has no wheel for a supported machine that needs it.
    """
    packages: dict[str, Locked] = {}
    for package in pylock["packages"]:
        name, marker = package["name"], package.get("marker", "")
        machines = [machine for machine in targets() if _needs(machine, marker)]
        wheels = {_file(wheel["url"]): wheel["hashes"]["sha256"] for wheel in package.get("wheels", ())}
        fitting = {machine: {file for file in wheels if _fits(machine, file)} for machine in machines}
        # Linux takes torch from elsewhere.
        if missing := [m for m in machines if not fitting[m] and (name != "torch" or "macosx" in m[1])]:
            raise LockError(f"{name} {package['version']} has no wheel for {missing[0][1]} and Python {missing[0][0]}.")
        taken = {file: wheels[file] for files in fitting.values() for file in files}
        if taken:
            where = "" if len(machines) == len(targets()) else f" ; {marker}"
            packages[name + where] = Locked(package["version"], taken)
    return packages


def targets() -> list[tuple[str, str]]:
    """Return every supported machine: its Python and its platform."""
    platforms = (*(f"linux_{machine}" for machine in MACHINES.values()), "macosx_arm64")
    return [(python, platform) for python in PYTHONS for platform in platforms]


def _needs(target: tuple[str, str], marker: str) -> bool:
    if not marker:
        return True
    python, platform = target
    system, _, machine = platform.partition("_")
    values = {"sys_platform": system, "platform_system": "Linux", "platform_machine": machine}
    if system != "linux":
        values |= {"sys_platform": "darwin", "platform_system": "Darwin"}
    values |= {"python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython"}
    return Marker(marker).evaluate({**values, "platform_python_implementation": "CPython", "os_name": "posix"})


def _fits(target: tuple[str, str], file: str) -> bool:
    return not parse_wheel_filename(file)[3].isdisjoint(_accepted(*target))


@cache
def _accepted(python: str, platform: str) -> frozenset[tags.Tag]:
    """Return the tags of wheels that a machine takes."""
    version = tuple(map(int, python.split(".")))
    system, _, machine = platform.partition("_")
    if system == "linux":
        old = {"x86_64": ("manylinux2010", "manylinux1"), "aarch64": ()}[machine]
        names = [*(f"manylinux_2_{minor}" for minor in range(5, NEWEST_GLIBC)), "manylinux2014", *old, "linux"]
        platforms = [f"{name}_{machine}" for name in names]
    else:
        platforms = [*tags.mac_platforms(NEWEST_MACOS, machine)]
    return frozenset(
        (
            *tags.cpython_tags(version, platforms=platforms),
            *tags.compatible_tags(version, f"cp{python.replace('.', '')}", platforms),
        )
    )


def _resolve(torch: str, needs: Sequence[str]) -> dict[str, Any]:
    """Let uv resolve for every Python and system, torch with what its CPU build needs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"name": "torch", "version": torch.removeprefix("torch=="), "requires-dist": needs}
        table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
        (folder / "uv.toml").write_text(f"[[dependency-metadata]]\n{table}\n")
        (folder / "wanted.txt").write_text("\n".join(wanted()))
        command = [
            *(str(_uv()), "pip", "compile", "--quiet", "--universal", "--fork-strategy", "fewest", "--system-certs"),
            *("--config-file", str(folder / "uv.toml"), "--python-version", PYTHONS[0], "--format", "pylock.toml"),
            *("--no-header", "--output-file", str(folder / "pylock.toml"), str(folder / "wanted.txt")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_uv_environment())
        if done.returncode != 0:
            raise LockError(f"uv finds no versions that fit together:\n{done.stderr.strip()}")
        return tomllib.loads((folder / "pylock.toml").read_text())


def _uv_environment() -> dict[str, str]:
    """Let uv ask the index that pip asks."""
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or pip.stdout.strip()
    return {**os.environ, **({"UV_DEFAULT_INDEX": index} if index else {})}


def _uv() -> Path:
    """Return the program, installed first where it is missing."""
    folder = REPOSITORY / ".cache" / UV
    program = folder / "bin" / "uv"
    if not program.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", UV], check=True)
    return program


def _cpu_torch(version: str, old: Locked | None) -> tuple[Locked, list[str], list[str]]:
    """Return the CPU builds for Linux, what they need, and the wheels whose checksum was kept."""
    torch, needs, kept = Locked(f"{version}+cpu"), list[str](), list[str]()
    for python, (architecture, machine) in itertools.product(PYTHONS, MACHINES.items()):
        try:
            report = ask_pip(architecture, [f"torch=={torch.version}"], "--no-deps", python=python)
        except LockError:
            mine = (python, f"linux_{machine}")
            known = {} if old is None or old.version != torch.version else old.wheels
            file = next((file for file in known if _fits(mine, file)), None)
            if file is None:
                raise
            torch.wheels[file] = known[file]
            kept.append(file)
        else:
            torch.wheels |= read_report(report)["torch"].wheels
            needs = [need for need in report["install"][0]["metadata"]["requires_dist"] if "extra ==" not in need]
    if not needs:
        raise LockError(f"No index offers torch {torch.version} here, and only its wheel says what it needs.")
    return torch, needs, kept


def _file(url: str) -> str:
    return unquote(url.rpartition("/")[2])
