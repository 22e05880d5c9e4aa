"""A machine without container engine or registry: Podman and a base image from Debian's packages."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.checksum import file_sha256
from scripts.command.alone import alone
from scripts.command.repository import REPOSITORY
from scripts.deployment.image.build import machine_architecture
from scripts.deployment.image.engine import CACHE, CONFIGURATION, Engine, EngineError, find_engine
from scripts.deployment.image.lock import COMPILER, MACHINES, PLATFORMS, REQUIREMENTS

PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "chromium": "chromium",
}
"""Program to Debian package."""

MACHINE_SETTINGS = (Path("/etc/containers/containers.conf"), Path("/etc/containers/storage.conf"))
"""Where an administrator configures Podman; without either it is as it was installed."""

BASE_NAME = "localhost/python:3.11-slim-bookworm"
WHEELS = REPOSITORY / "docker" / "wheels"

# With the network of the machine: no bridge to set up, and 127.0.0.1 is the machine's.
CONTAINERS_CONF = """\
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "/run/redshift-{digest}"
"""
"""Podman takes no longer path than 50 characters for what is running, and waits 20 s for the end of each container if
the path is longer: its monitor hands it over as an option, which is refused."""


def install_tools() -> Engine:
    """Return the engine of this machine; where none answers, install Podman and write its settings into the cache.

    Raises
    ------
    EngineError
        If this machine cannot: it needs Debian's packages and root.
    """
    try:
        engine = find_engine()
    except EngineError as error:
        if platform.system() != "Linux" or shutil.which("apt-get") is None or os.geteuid() != 0:
            raise EngineError(
                f"{error}\nThis machine cannot install it by itself: that needs apt-get and root."
            ) from error
        install_programs("podman", "runc")
        engine = find_engine("podman")
    if engine.program == "podman" and os.geteuid() == 0 and not any(path.exists() for path in MACHINE_SETTINGS):
        _configure()
        engine = find_engine("podman")
    return engine


def make_base(engine: Engine) -> str:
    """Make Python 3.11 on Debian 12 from Debian's packages; return the name of the image.

    It stands in for the base image where no registry can be reached, and is laid out like it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    tar = CACHE / f"base-2-{machine_architecture()}.tar"
    with alone(CACHE):
        if not tar.exists():
            install_programs("mmdebstrap")
            _debootstrap(tar)
    engine.run("import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", str(tar), BASE_NAME)
    return BASE_NAME


def fetch_wheels(architecture: str) -> None:
    """Put the wheels of the lock files where the build finds them; pip brings them, as this machine has configured it.

    Raises
    ------
    EngineError
        If pip cannot.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"wheels-{architecture}-{file_sha256(REQUIREMENTS)[:8]}{file_sha256(COMPILER)[:8]}"
    with alone(CACHE):
        if not kept.exists():
            with TemporaryDirectory(dir=CACHE) as folder:
                _download_wheels(architecture, Path(folder) / "wheels")
                for old in CACHE.glob(f"wheels-{architecture}-*"):
                    shutil.rmtree(old)
                (Path(folder) / "wheels").rename(kept)
        for wheel in kept.iterdir():
            shutil.copy2(wheel, WHEELS)


def _download_wheels(architecture: str, folder: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
        *("--python-version", "3.11", "--implementation", "cp", "--dest", str(folder)),
        *("-r", str(REQUIREMENTS), "-r", str(COMPILER)),
        *(word for name in PLATFORMS for word in ("--platform", f"{name}_{MACHINES[architecture]}")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EngineError("pip could not download the wheels of docker/requirements.txt:\n" + "\n".join(errors))


def install_registry() -> str:
    """Return the path of Debian's registry server, installing it the first time."""
    install_programs("docker-registry")
    path = shutil.which("docker-registry")
    assert path is not None
    return path


def install_programs(*programs: str) -> None:
    """Install what is missing from Debian's packages.

    Raises
    ------
    EngineError
        If this machine cannot: it needs apt-get and root.
    """
    if not _missing(programs):
        return
    CONFIGURATION.mkdir(parents=True, exist_ok=True)
    # apt-get does not wait for another one: it fails.
    with alone(CONFIGURATION):
        _install(_missing(programs))


def _missing(programs: Iterable[str]) -> list[str]:
    return [PACKAGES[name] for name in programs if shutil.which(name) is None]


def _install(missing: list[str]) -> None:
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise EngineError(f"{' and '.join(missing)}: not installed, and only root on Debian or Ubuntu can do it here.")
    print(f"Installing {', '.join(missing)} from Debian's packages.", file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _quietly(["apt-get", "update"], environment, may_fail=True)
    _quietly(["apt-get", "install", "--yes", "--no-install-recommends", *missing], environment)


def _configure() -> None:
    """Write settings for Podman that need nothing of the machine: no network bridge, no systemd."""
    if find_engine("podman").environment:
        return
    CONFIGURATION.mkdir(parents=True, exist_ok=True)
    (CONFIGURATION / "containers.conf").write_text(CONTAINERS_CONF)
    digest = hashlib.sha256(bytes(CONFIGURATION)).hexdigest()[:12]
    (CONFIGURATION / "storage.conf").write_text(STORAGE_CONF.format(folder=CONFIGURATION, digest=digest))


def _debootstrap(tar: Path) -> None:
    partial = tar.with_suffix(".partial.tar")
    unread = ("doc", "man", "locale", "info")
    command = [
        # The smallest set that has apt, which the build needs; perl would come as a dependency of usrmerge.
        *("mmdebstrap", "--variant=apt", "--include=usr-is-merged,python3,ca-certificates"),
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in unread),
        '--aptopt=Acquire::Languages "none"',
        '--customize-hook=ln -s ../../bin/python3 "$1/usr/local/bin/python"',
        # Python's own slim image has no byte code either.
        '--customize-hook=find "$1/usr/lib" -name __pycache__ -prune -exec rm -rf {} +',
        *("bookworm", str(partial)),
    ]
    print("Making the base image from Debian's packages; once, about a minute.", file=sys.stderr)
    _quietly(command, os.environ | {"SOURCE_DATE_EPOCH": "315532800"})
    partial.rename(tar)


def _quietly(command: list[str], environment: dict[str, str], *, may_fail: bool = False) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        raise EngineError(f"`{' '.join(command[:2])}` failed:\n{done.stderr[-1500:]}")
