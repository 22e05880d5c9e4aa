"""The variables of `make run`: what each one must be, and which key of the request it sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference import contract
from inference.errors import InvalidRequestError
from scripts.command.errors import UsageError
from scripts.deployment.stack import HOW_TO_DEPLOY, has_applied

TARGETS = ("local", "aws")


@dataclass(frozen=True)
class RequestVariable:
    """A variable that sets one key of the request."""

    key: str
    """Key of the RunRequest."""

    expects: str
    """What it must be, in words."""


REQUEST_VARIABLES = {
    "WORLD": RequestVariable("world_size", "a whole number of ranks from 1"),
    "BATCH": RequestVariable("batch_size", "a whole number of galaxies from 1 to 65536"),
    "FILES": RequestVariable("file_limit", "a whole number of shards from 1"),
    "RESULT": RequestVariable("result_path", "a folder in the bucket, such as experiments/7"),
    "PROFILE": RequestVariable("profile", "1 or 0"),
    "TOLERATE": RequestVariable("tolerated_failure_percentage", "a percentage from 0 to 100"),
    "ENGINE": RequestVariable("engine", "one of the engines in the image, or auto"),
    "PRECISION": RequestVariable("precision", "fp32, bf16 or int8"),
}

VARIABLES = (*REQUEST_VARIABLES, "DATASET", "PAYLOAD", "TARGET", "OUTPUTS", "BUDGET")


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that have a value; an empty one counts as not given."""
    return {name: environment[name] for name in VARIABLES if environment.get(name, "").strip()}


def request_values(variables: Mapping[str, str]) -> dict[str, object]:
    """Return the request's keys that the variables set, each checked by itself so that a mistake names its variable.

    Raises
    ------
    UsageError
        If a value has the wrong type or range.
    """
    values: dict[str, object] = {}
    for name, variable in REQUEST_VARIABLES.items():
        if name not in variables:
            continue
        try:
            request, _ = contract.parse_request({"bucket": "any", variable.key: variables[name].strip()})
        except InvalidRequestError as error:
            raise UsageError(f"{name}={variables[name]} is not valid: {name} is {variable.expects}.") from error
        values[variable.key] = getattr(request, variable.key)
    if "RESULT" in variables and not variables["RESULT"].strip(" /"):
        raise UsageError(f"RESULT={variables['RESULT']} is not valid: RESULT is {REQUEST_VARIABLES['RESULT'].expects}.")
    return values


def rank_number(text: str) -> int | None:
    """Read RANK; None when it is not given.

    Raises
    ------
    UsageError
        If it is no whole number from 0.
    """
    if not text.strip():
        return None
    if not text.strip().isdecimal():
        raise UsageError(f"RANK={text} is not valid: RANK is a whole number from 0.")
    return int(text)


def choose_target(variables: Mapping[str, str], *, terraform: Path) -> tuple[str, str]:
    """Return where to run and why.

    Parameters
    ----------
    variables : mapping
        The variables of `make run`.
    terraform : Path
        Terraform's root.

    Raises
    ------
    UsageError
        If TARGET is unknown, or nothing is deployed where it points.
    """
    target, outputs = variables.get("TARGET", "").strip(), variables.get("OUTPUTS", "").strip()
    if target not in ("", *TARGETS):
        raise UsageError(f"TARGET={target} is not valid: TARGET is {' or '.join(TARGETS)}.")
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
