"""The stack: what Terraform deployed, read from its outputs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from scripts.command.errors import CommandError
from scripts.deployment.terraform import DeployError, Terraform
from scripts.pricing.cost import Rates

HOW_TO_DEPLOY = "`make build push apply` deploys it; TARGET=local needs no deployment."
WITHOUT_TERRAFORM = (
    "Without it, OUTPUTS=file.json reads what `terraform output -json` printed elsewhere, and TARGET=local runs here."
)


class StackError(CommandError):
    """There is no stack to work with, or its outputs cannot be read; the message says what to do. Exit status 1."""


class StageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One function as deployed."""

    memory_mb: int
    """Configured memory [MB]."""

    timeout_s: int
    """Configured timeout [s]."""

    ephemeral_mb: int = 512
    """Size of /tmp [MB]."""


class Rendezvous(msgspec.Struct, frozen=True, kw_only=True):
    """The server at which ranks meet, as deployed."""

    host: str
    """Its DNS name."""

    port: int
    """Where ranks meet."""

    secret_arn: str
    """Secret with the key that signs names."""

    log_group: str
    """Where it logs."""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Terraform's outputs, as far as the commands use them."""

    name: str
    """Name of the deployment."""

    region: str
    """Where it is."""

    account_id: str
    """Whose it is."""

    bucket: str
    """Bucket of datasets and results."""

    state_machine_arn: str
    """State machine that a run is an execution of."""

    function_names: dict[str, str]
    """Stage to function."""

    stages: dict[str, StageSettings]
    """Stage to its settings as deployed."""

    max_concurrency: int
    """Ranks that run at the same time."""

    repository_url: str = ""
    """Where images are pushed to."""

    image_uri: str | None = None
    """Image of the functions, by digest."""

    architecture: str = "x86_64"
    """Processor of the functions."""

    map_child_type: Literal["STANDARD", "EXPRESS"] = "STANDARD"
    """Kind of child execution per rank."""

    data_bucket: str | None = None
    """Another bucket the functions may read from."""

    data_bucket_requester_pays: bool = False
    """Whether this account pays for what is read there."""

    log_groups: dict[str, str] = {}
    """Stage to its log group."""

    dashboard_url: str | None = None
    """Where to watch it."""

    rendezvous: Rendezvous | None = None
    """Where ranks meet; None without `rendezvous = true`."""

    @property
    def rates(self) -> Rates:
        """What of it decides the price of a run."""
        memory_mb = {stage: settings.memory_mb for stage, settings in self.stages.items()}
        return Rates(
            memory_mb=memory_mb,
            architecture=self.architecture,
            child_type=self.map_child_type,
            ephemeral_mb={stage: settings.ephemeral_mb for stage, settings in self.stages.items()},
        )


def has_applied(folder: Path) -> bool:
    """Return whether this working copy has applied `folder`, as far as can be seen without asking anybody.

    A remote state cannot be seen: it counts as applied, and reading the outputs shows it.
    """
    backend = _json(folder / ".terraform" / "terraform.tfstate").get("backend") or {}
    if backend.get("type", "local") != "local":
        return True
    workspace = "default"
    if (folder / ".terraform" / "environment").exists():
        workspace = (folder / ".terraform" / "environment").read_text().strip()
    nested = folder / "terraform.tfstate.d" / workspace / "terraform.tfstate"
    state = folder / "terraform.tfstate" if workspace == "default" else nested
    # The registry alone, which `make push` makes first, is not a stack yet.
    return "state_machine_arn" in (_json(state).get("outputs") or {})


def read_stack(folder: Path, *, outputs: str = "") -> Stack:
    """Read the stack from Terraform, or from a file with the output of ``terraform output -json``.

    Parameters
    ----------
    folder : Path
        Terraform's root.
    outputs : str
        The file; Terraform is asked when it is empty.

    Raises
    ------
    StackError
        If there is no stack, or Terraform or the file cannot be read.
    """
    source = f"OUTPUTS={outputs}" if outputs else str(folder)
    text = _read_file(outputs) if outputs else _ask_terraform(folder)
    try:
        found = json.loads(text)
        values = {name: output["value"] for name, output in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{source} does not hold what `terraform output -json` prints ({error}).") from error
    if not values.get("state_machine_arn"):
        raise StackError(f"{source} knows no state machine: the stack is not deployed. {HOW_TO_DEPLOY}")
    return _decode(values, source)


def _decode(values: Mapping[str, Any], source: str) -> Stack:
    # An output that is null is one that has no value: the default counts.
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return msgspec.convert(given, Stack)
    except msgspec.ValidationError as error:
        raise StackError(f"{source} is not of this version ({error}): `make apply` brings it up to date.") from error


def _read_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"OUTPUTS={path} cannot be read: {error}.") from error


def _ask_terraform(folder: Path) -> str:
    try:
        return Terraform(folder).read("output", "-json", "-no-color")
    except DeployError as error:
        said = " ".join(line.strip(" │╷╵") for line in str(error).splitlines() if line.strip(" │╷╵"))
        raise StackError(f"{said.rstrip('.')}. {WITHOUT_TERRAFORM}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
