"""The container engine of this machine: Docker or Podman, whichever answers."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scripts.command.errors import CommandError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "serverless-redshift-inference"
"""What every clone of this user takes instead of making it again: images and their layers, wheels of a lock file."""

CONFIGURATION = CACHE / "containers"
"""Where `scripts.deployment.image.bare` keeps Podman's settings and images on a machine that had no engine."""


class EngineError(CommandError):
    """There is no container engine, or a command of it failed; the message says which and shows its last words."""


@dataclass(frozen=True)
class Engine:
    """A program that builds, runs and pushes images."""

    program: Literal["docker", "podman"]
    version: str
    environment: dict[str, str] = field(default_factory=dict)
    """What the program needs in its environment in addition to ours."""

    def __str__(self) -> str:
        return f"{self.program.capitalize()} {self.version}"

    def run(
        self,
        *arguments: str,
        secret: str | None = None,
        variables: Mapping[str, str] | None = None,
        with_stderr: bool = False,
    ) -> str:
        """Run a command quietly and return what it printed.

        `secret` goes to its standard input and `variables` into its environment: every user of the machine can read
        arguments.

        Raises
        ------
        EngineError
            If it fails.
        """
        done = subprocess.run(
            [self.program, *arguments],
            cwd=_work_folder(),
            env=self._environment() | dict(variables or {}),
            input=secret,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(f"`{self.program} {arguments[0]}` failed:\n{_last_lines(done.stderr or done.stdout)}")
        return done.stdout.strip()

    def show(self, *arguments: str, log: Path | None = None) -> None:
        """Run a command that reports its progress: on stderr, or into `log`.

        Raises
        ------
        EngineError
            If it fails.
        """
        if log is None:
            done = subprocess.run([self.program, *arguments], env=self._environment(), stdout=2, check=False)
            output = ""
        else:
            with log.open("wb") as file:
                done = subprocess.run(
                    [self.program, *arguments], env=self._environment(), stdout=file, stderr=file, check=False
                )
            output = f":\n{_last_lines(log.read_text(errors='replace'))}"
        if done.returncode != 0:
            raise EngineError(f"`{self.program} {arguments[0]}` failed{output}")

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command whose standard output is read while it runs."""
        return subprocess.Popen([self.program, *arguments], env=self._environment(), stdout=subprocess.PIPE)

    def _environment(self) -> dict[str, str]:
        return os.environ | self.environment


def _work_folder() -> Path:
    """Return where Podman's monitor leaves a file named ``oom`` when a container runs out of memory."""
    CONFIGURATION.mkdir(parents=True, exist_ok=True)
    return CONFIGURATION


def find_engine(wanted: str = "") -> Engine:
    """Return the engine that answers, Docker before Podman.

    Parameters
    ----------
    wanted : str
        ``docker`` or ``podman`` to ask only that one.

    Raises
    ------
    EngineError
        If none does.
    """
    reasons = []
    names: tuple[Literal["docker", "podman"], ...] = ("docker", "podman")
    for name in names:
        if wanted not in ("", name):
            continue
        if shutil.which(name) is None:
            reasons.append(f"{name}: not installed")
            continue
        engine = Engine(name, "", _settings() if name == "podman" else {})
        try:
            return Engine(name, engine.run("version", "--format", _VERSION[name]), engine.environment)
        except EngineError as error:
            reasons.append(f"{name}: {str(error).splitlines()[-1]}")
    raise EngineError(
        f"No container engine answers ({'; '.join(reasons) or f'{wanted} is neither docker nor podman'}). "
        "Start Docker, or install Podman; on Debian or Ubuntu, as root, `make container-tools` does."
    )


# Docker's client answers even when the server does not: only the server's version proves one.
_VERSION = {"docker": "{{.Server.Version}}", "podman": "{{.Version}}"}


def _settings() -> dict[str, str]:
    """Return the settings that `scripts.deployment.image.bare` wrote, if it did."""
    files = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    paths = {name: CONFIGURATION / file for name, file in files.items()}
    return {name: str(path) for name, path in paths.items() if path.exists()}


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
