"""The terraform program, and where it finds its provider."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.command.errors import CommandError

FOLDER = Path(__file__).parents[2] / "terraform"
IMAGE_FILE = "image.auto.tfvars.json"
"""What `make push` records for Terraform: the image, by digest."""
MIRROR_ROOTS = ("/opt", "/usr/share", "/usr/local", "/root", "~/.terraform.d")
MIRROR_DEPTH = 3
PROVIDER = "registry.terraform.io/hashicorp/aws"


class DeployError(CommandError):
    """A deployment cannot continue; the message says what to do."""


class Terraform:
    """The terraform program in one folder.

    Parameters
    ----------
    folder : Path
        The configuration.
    environment : dict, optional
        Variables in addition to this process's own.
    """

    def __init__(self, folder: Path = FOLDER, environment: dict[str, str] | None = None) -> None:
        if shutil.which("terraform") is None:
            raise DeployError(
                "terraform is not installed: https://developer.hashicorp.com/terraform/install (1.11 or later)."
            )
        self.folder = folder
        self._environment = _environment() | (environment or {})

    def init(self, *arguments: str) -> None:
        """Fetch the provider, from a mirror on this machine where there is one; says nothing unless it fails."""
        mirror = find_mirror(provider_version(self.folder))
        self.read("init", "-input=false", "-no-color", *([f"-plugin-dir={mirror}"] if mirror else []), *arguments)

    def show(self, *arguments: str) -> None:
        """Run a command whose output is for the user's eyes."""
        plain = [] if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ["-no-color"]
        command = self._command(arguments[0], *plain, *arguments[1:])
        # Standard output belongs to results such as `output`; what Terraform prints on its way is progress.
        # Terraform hears Ctrl-C too, and ends what it has begun: killed, it would forget what it made.
        interrupts: list[int] = []
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.SIG_IGN:  # as in the background; what is started there is to ignore it too
            signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
        try:
            status = subprocess.run(command, env=self._environment, stdout=sys.stderr, check=False).returncode
        finally:
            signal.signal(signal.SIGINT, before)
        if interrupts:
            raise KeyboardInterrupt
        if status:
            raise DeployError(f"terraform {arguments[0]} failed; what it said stands above.")

    def read(self, *arguments: str, expression: str | None = None) -> str:
        """Run a command and return what it printed; an expression goes to its standard input."""
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            input=expression,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DeployError(f"terraform {arguments[0]} failed:\n{done.stderr or done.stdout}")
        return done.stdout

    def evaluate(self, expression: str) -> str:
        """Return the value of an expression, with the variables of this configuration and of the environment."""
        return self.read("console", expression=expression).strip()

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the last apply; empty when nothing is deployed."""
        printed: dict[str, dict[str, Any]] = json.loads(self.read("output", "-json", "-no-color"))
        return {name: output["value"] for name, output in printed.items()}

    def _command(self, *arguments: str) -> list[str]:
        return ["terraform", f"-chdir={self.folder}", *arguments]


def _environment() -> dict[str, str]:
    environment = dict(os.environ) | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    # Terraform warns at every command of a settings file that is named and does not exist.
    if not Path(environment.get("TF_CLI_CONFIG_FILE", "")).is_file():
        environment.pop("TF_CLI_CONFIG_FILE", None)
    return environment


def provider_version(folder: Path) -> str:
    """Return the version of the provider that the configuration pins."""
    found = re.search(r'version\s*=\s*"(\d+\.\d+\.\d+)"', (folder / "versions.tf").read_text())
    assert found, "versions.tf pins the provider"
    return found[1]


def find_mirror(version: str, roots: tuple[str, ...] = MIRROR_ROOTS) -> Path | None:
    """Return a folder on this machine from which Terraform can take the provider, if there is one."""
    for root in roots:
        for depth in range(MIRROR_DEPTH):
            for folder in sorted(Path(root).expanduser().glob("*/" * depth + f"{PROVIDER}/{version}")):
                return folder.parents[3]
    return None
