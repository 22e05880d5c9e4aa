"""`docker/requirements.txt`: every package of the image with the sha256 of its wheel on each architecture."""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from scripts.command.errors import CommandError
from scripts.command.repository import REPOSITORY

REQUIREMENTS = REPOSITORY / "docker" / "requirements.txt"
COMPILER = REPOSITORY / "docker" / "compiler.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Architecture as Lambda names it, and as wheels do."""

# What a machine with glibc 2.28 or newer accepts; the image has 2.36.
PLATFORMS = (
    *("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux_2_12"),
    *("manylinux2010", "manylinux_2_5", "manylinux1"),
)
HEADER = """\
# What the image installs: pyproject.toml's dependencies and theirs, by checksum. Written by `make lock`.
# torch has one wheel per architecture and comes from PyTorch's index for CPU builds; the Dockerfile names it to pip.
"""
COMPILER_HEADER = """\
# What compiles the native engine while the image is built, by checksum, and is not in it. Written by `make lock`.
"""

Report = Mapping[str, list[dict[str, dict[str, Any]]]]
"""What ``pip install --report`` writes: of every package, ``metadata`` and ``download_info``."""


class LockError(CommandError):
    """The lock file cannot be written; the message says which package is missing and what to do."""


@dataclass
class Locked:
    """One package: its version and its wheels."""

    version: str
    wheels: dict[str, str] = field(default_factory=dict)
    """File name to sha256."""


def wanted() -> list[str]:
    """Return the dependencies of pyproject.toml, torch as its CPU build."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = [pin.partition(";")[0] for pin in project["dependencies"]]  # the image is Linux: every marker holds
    return [f"{pin}+cpu" if pin.startswith("torch==") else pin for pin in pins]


def wanted_compiler() -> str:
    """Return the compiler of pyproject.toml's tools."""
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["tools"]
    (pin,) = (pin for pin in tools if pin.startswith("ziglang=="))
    return str(pin)


def lock_compiler(path: Path = COMPILER) -> None:
    """Write the lock file of the compiler."""
    merged: dict[str, Locked] = {}
    for architecture in MACHINES:
        _merge(merged, _ask(architecture, [wanted_compiler()]))
    path.write_text(render(merged, COMPILER_HEADER))


def lock(path: Path = REQUIREMENTS) -> list[str]:
    """Write the lock file; return what could not be asked and was kept from the old one."""
    old = parse(path.read_text()) if path.exists() else {}
    merged: dict[str, Locked] = {}
    kept: list[str] = []
    for architecture in MACHINES:
        resolved, missing = _resolve(architecture, old, merged)
        kept += missing
        _merge(merged, resolved)
    path.write_text(render(merged))
    return kept


def parse(text: str) -> dict[str, Locked]:
    """Read a lock file: package name, with its marker where it has one, to version and wheels."""
    packages: dict[str, Locked] = {}
    files: list[str] = []
    name = ""
    for line in text.splitlines():
        if wheel := re.match(r"# (\S+\.whl)$", line):
            files.append(wheel[1])
        elif pin := re.match(r"([a-z0-9-]+)==(\S+)( ; .+)? \\$", line):
            name = pin[1] + (pin[3] or "")
            packages[name] = Locked(pin[2])
        elif digest := re.match(r"    --hash=sha256:([0-9a-f]{64})", line):
            packages[name].wheels[files.pop(0)] = digest[1]
    return packages


def render(packages: Mapping[str, Locked], header: str = HEADER) -> str:
    """Return the text of a lock file; `parse` reads it back."""
    blocks = [header]
    for name in sorted(packages):
        wheels = sorted(packages[name].wheels.items())
        lines = [f"# {file}" for file, _ in wheels]
        bare, semicolon, marker = name.partition(" ; ")
        lines.append(f"{bare}=={packages[name].version}{semicolon}{marker} \\")
        lines.append(" \\\n".join(f"    --hash=sha256:{digest}" for _, digest in wheels))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


# ------------------------------------------------------------------------------------------------ asking pip


def _resolve(
    architecture: str, old: Mapping[str, Locked], other: Mapping[str, Locked]
) -> tuple[dict[str, Locked], list[str]]:
    """Return the packages of one architecture, and torch's wheel if it was kept because no index offers it."""
    pins = wanted()
    try:
        return _ask(architecture, pins), []
    except LockError:
        (torch,) = [pin for pin in pins if pin.startswith("torch==")]
        known = old.get("torch")
        file = next((file for file in known.wheels if MACHINES[architecture] in file), None) if known else None
        if known is None or file is None or known.version != torch.removeprefix("torch=="):
            raise
    # Its dependencies are those of the other architecture, which was asked before.
    packages = _ask(architecture, [f"{name}=={locked.version}" for name, locked in other.items() if name != "torch"])
    packages["torch"] = Locked(known.version, {file: known.wheels[file]})
    return packages, [file]


def _ask(architecture: str, pins: list[str]) -> dict[str, Locked]:
    return read_report(ask_pip(architecture, pins))


def ask_pip(architecture: str, pins: Sequence[str], *options: str, python: str = "3.11") -> Report:
    """Let pip choose the wheels it would install on Linux, without installing them; return its report.

    Raises
    ------
    LockError
        If no index that pip knows, nor PyTorch's, has them all.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
            *("--retries", "0", "--timeout", "20", "--report", str(report), "--target", f"{folder}/none"),
            *("--only-binary", ":all:", "--python-version", python, "--implementation", "cp"),
            *(word for name in PLATFORMS for word in ("--platform", f"{name}_{MACHINES[architecture]}")),
            *("--extra-index-url", TORCH_INDEX, *options, *pins),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise LockError(f"pip finds no complete set of wheels for {architecture}:\n" + "\n".join(errors))
        answer: Report = json.loads(report.read_text())
        return answer


def read_report(report: Report) -> dict[str, Locked]:
    """Return the packages that a report of pip names."""
    packages: dict[str, Locked] = {}
    for item in report["install"]:
        download = item["download_info"]
        archive = download["archive_info"]
        assert isinstance(archive, dict)
        file = unquote(str(download["url"]).rpartition("/")[2])
        name = re.sub(r"[-_.]+", "-", str(item["metadata"]["name"])).lower()
        packages[name] = Locked(str(item["metadata"]["version"]), {file: archive["hashes"]["sha256"]})
    return packages


def _merge(merged: dict[str, Locked], resolved: Mapping[str, Locked]) -> None:
    for name, locked in resolved.items():
        known = merged.setdefault(name, Locked(locked.version))
        if known.version != locked.version:
            raise LockError(f"{name} is {known.version} on one architecture and {locked.version} on the other.")
        known.wheels |= locked.wheels
