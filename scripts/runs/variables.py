"""The variables of `make run` that other commands share: what to run, and where."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from inference import contract
from scripts.command.errors import UsageError
from scripts.command.model import ModelName
from scripts.command.variables import Flag, NumRows, Variables, rows_asked
from scripts.deployment.stack import HOW_TO_DEPLOY, has_applied

TargetName = Literal["local", "aws"]
Usd = Annotated[float, Meta(ge=0, le=1e9, description="an amount in USD, such as 2.00")]
RunName = Annotated[
    str, Meta(description="the name of a run or a part of it, last, its folder, or the ARN of its execution")
]


class StackVariables(Variables, frozen=True, kw_only=True):
    """Where a command looks for runs, or sends one."""

    target: TargetName | None = None
    """Where; `choose_target` finds out when absent."""

    outputs: Annotated[str, Meta(description="a file with what `terraform output -json` printed")] = ""
    """A stack deployed elsewhere."""


class RequestVariables(StackVariables, frozen=True, kw_only=True):
    """What to run."""

    world: Annotated[int, Meta(ge=1, description="a whole number of ranks from 1")] | None = None
    batch: Annotated[int, Meta(ge=1, le=65536, description="a whole number of galaxies from 1 to 65536")] | None = None
    files: Annotated[int, Meta(ge=1, description="a whole number of shards from 1")] | None = None
    result: Annotated[str, Meta(pattern="[^ /]", description="a folder in the bucket, such as experiments/7")] = ""
    profile: Flag | None = None
    fmi: Flag | None = None
    backup: Flag | None = None
    tolerate: Annotated[float, Meta(ge=0, le=100, description="a percentage from 0 to 100")] | None = None
    engine: Annotated[contract.Engine | None, Meta(description=" or ".join(get_args(contract.Engine)))] = None
    precision: Annotated[contract.Precision | None, Meta(description="fp32, bf16 or int8")] = None
    dataset: Annotated[str, Meta(description="a dataset under datasets/, or a folder with shards")] = ""
    payload: Annotated[str, Meta(description="a request as a JSON file")] = ""
    model: ModelName = ""

    @property
    def request_keys(self) -> dict[str, Any]:
        """Key of the RunRequest to value, of the variables that are given."""
        given = self.given
        keys = {key: given[name] for name, key in REQUEST_KEYS.items() if name in given}
        return keys | ({"row_limit": rows_asked(keys["row_limit"])} if "row_limit" in keys else {})


REQUEST_KEYS = {
    "WORLD": "world_size",
    "BATCH": "batch_size",
    "FILES": "file_limit",
    "ROWS": "row_limit",
    "RESULT": "result_path",
    "PROFILE": "profile",
    "FMI": "fmi_enabled",
    "BACKUP": "backup",
    "TOLERATE": "tolerated_failure_percentage",
    "ENGINE": "engine",
    "PRECISION": "precision",
}
"""Variable to the key of the request that it sets."""


class RunVariables(RequestVariables, frozen=True, kw_only=True):
    """The variables of `make run`."""

    source: Annotated[str, Meta(description="what make dataset takes: a table, a published .pt or .npz, a folder")] = ""
    """What the dataset is made from first, and the catalog written of."""

    fields: Annotated[str, Meta(description="columns of a table, as in u=MAG_U,z_spec=ZBEST")] = ""

    rows: NumRows | None = None
    """Only the first galaxies."""

    yes: Flag = False
    """Whether the dataset of another source may be replaced."""

    budget: Usd | None = None
    """A run that may cost more at list prices is refused [USD]."""

    forecast: Flag = False
    """Say what the run will take before it starts, and afterwards how right that was."""


def choose_target(variables: StackVariables, *, terraform: Path) -> tuple[str, str]:
    """Return where to run and why.

    Parameters
    ----------
    variables : StackVariables
        What the user asked for.
    terraform : Path
        Terraform's root.

    Raises
    ------
    UsageError
        If nothing is deployed where TARGET points.
    """
    target, outputs = variables.target, variables.outputs
    if outputs and target != "local":
        return "aws", f"OUTPUTS={outputs} names a stack"
    if target == "local":
        return "local", "TARGET=local says so"
    is_applied = has_applied(terraform)
    if target == "aws" and not is_applied:
        raise UsageError(f"TARGET=aws: nothing is deployed from this working copy. {HOW_TO_DEPLOY}")
    if not is_applied:
        return "local", "nothing is deployed from this working copy"
    return "aws", "TARGET=aws says so" if target else "this working copy is deployed; TARGET=local runs here"
