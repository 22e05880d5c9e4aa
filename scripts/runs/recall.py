"""A run found again by its name, from any terminal: where it is running, or the folder it left."""

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError, EndpointConnectionError

from inference import contract
from inference.contract import SUMMARY_KEY, ResumeRequest, RunPlan
from inference.errors import InvalidRequestError
from inference.models import shipped
from inference.run_folder import IMPORT_KEY
from scripts.command.errors import UsageError
from scripts.deployment.stack import has_applied, read_stack
from scripts.runs import journal
from scripts.runs.execution import execution_arn
from scripts.runs.journal import Entry
from scripts.runs.listing import is_run, name_runs, runs_here
from scripts.runs.target import Target, connect_aws, rejoin
from scripts.runs.variables import StackVariables

NUM_SIMILAR = 3
LAST = "last"
"""In the place of a name: the run that began last."""
RESUMED = re.compile(r"-resume-[0-9]+$")
"""How the name of an execution ends that goes on with a run."""

NO_EXECUTION = {"ExecutionDoesNotExist", "InvalidArn", "InvalidName", "ValidationException"}


@dataclass(frozen=True)
class FoundRun:
    """A run, and what can be asked about it."""

    run_id: str
    """Name of the execution."""

    folder: Path
    """Its folder on this machine, which may not exist."""

    entry: Entry | None
    """What the terminal that started it noted here."""

    target: Target | None = None
    """Where its execution is; None when only the folder is left."""

    description: Mapping[str, Any] | None = None
    """The answer of DescribeExecution."""

    @property
    def is_running(self) -> bool:
        """True while the execution is running."""
        return self.description is not None and self.description["status"] == "RUNNING"

    @property
    def pending_key(self) -> str:
        """Object key of the ranks that an execution was to do which went on with the run; empty of the first one."""
        if self.entry:
            return self.entry.pending_key
        asked = json.loads(self.description["input"]) if self.description else None
        return str(asked.get("pending_key", "")) if isinstance(asked, dict) else ""

    @property
    def run_prefix(self) -> str:
        """Where in the bucket the run stores its results, ending in ``/``."""
        if self.entry:
            return self.entry.run_prefix
        assert self.description is not None, "without a note, the execution was asked"
        try:
            asked = json.loads(self.description["input"])
            if self.pending_key:
                return contract.decode(asked, ResumeRequest).run_prefix
            request, _ = contract.parse_request(asked)
        except InvalidRequestError as error:
            raise UsageError(f"RUN={self.run_id} was not started by `make run`: {error}") from error
        return contract.run_prefix(request, run_id=self.run_id)


def find_run(name: str, where: StackVariables, *, root: Path, results_suffice: bool = False) -> FoundRun:
    """Find a run by its name.

    Parameters
    ----------
    name : str
        The run's name, a part of it that no other run here has, its folder, or the ARN of its execution; the run here
        that began last when empty or ``last``.
    where : StackVariables
        The stack to ask about a run that left nothing here.
    root : Path
        Folder with ``runs/`` and ``terraform/`` in it.

    results_suffice : bool
        True to ask no deployment about a run whose summary is here.

    Raises
    ------
    UsageError
        If there is no such run; the message names similar ones.
    """
    name = whole_name(name.strip(), root)
    run_id = run_of(name.strip("/").rpartition("/")[2].rpartition(":")[2])
    folder = root / "runs" / run_id
    if not is_run(folder) and is_run(Path(name)):
        folder = Path(name)
        run_id = entry.run_id if (entry := journal.read(folder)) else run_id
    entry = journal.read(folder)
    has_results = (folder / SUMMARY_KEY).exists() and (results_suffice or entry is None or entry.is_over)
    target = None if has_results else _target(entry, folder, where, root)
    if target is None:
        if is_run(folder):
            return FoundRun(run_id, folder, entry)
        raise _unknown(run_id, runs_here(root))
    arn = entry.execution_arn if entry else execution_arn(target.state_machine_arn, run_id)
    try:
        description = target.states.describe_execution(executionArn=arn)
    except EndpointConnectionError:
        # Another process has the number of the terminal that is gone, or the terminal ends right now.
        if target.name == "local":
            return FoundRun(run_id, folder, entry)
        raise
    except ClientError as error:
        if error.response["Error"]["Code"] not in NO_EXECUTION:
            raise
        # Step Functions forgets an execution after 90 days; the bucket may still have its results.
        if entry:
            return FoundRun(run_id, folder, entry, target)
        raise _unknown(run_id, [*runs_here(root), *runs_there(target)]) from error
    found = FoundRun(run_id, folder, entry, target, description)
    return found if entry or found.is_running else _last_execution(found, target)


def _last_execution(found: FoundRun, target: Target) -> FoundRun:
    """Return a run that another machine started with the execution that went on with it last, if any did."""
    content = target.bucket.read(found.run_prefix + contract.PLAN_KEY)
    plan = contract.decode(content, RunPlan, where=contract.PLAN_KEY) if content else None
    if plan is None or not plan.resumptions:
        return found
    arn = execution_arn(target.state_machine_arn, plan.resumptions[-1].execution_name)
    return replace(found, description=target.states.describe_execution(executionArn=arn))


def run_of(execution_name: str) -> str:
    """Return the run that an execution began, or went on with."""
    return RESUMED.sub("", execution_name)


def whole_name(name: str, root: Path) -> str:
    """Return the name of the run here that a part of it means, or what was given.

    Raises
    ------
    UsageError
        If several runs have that part.
    """
    here = runs_here(root)
    if name in ("", LAST):
        return _newest(root, here)
    found = [run for run in here if name in run]
    if name in here or not found or is_run(Path(name)):
        return name
    if len(found) > 1:
        raise UsageError(f"RUN={name} is a part of {len(found)} runs: {name_runs(found)}. More of it says which.")
    print(f"RUN={found[0]}", file=sys.stderr)
    return found[0]


def newest_of_model(model: str, root: Path) -> str:
    """Return the run here that began last with a model.

    Raises
    ------
    UsageError
        If there is none.
    """
    names = [name for name in runs_here(root) if model_of(root / "runs" / name) == model]
    if not names:
        raise UsageError(f"There is no run with the model {model} here: `make run MODEL={model}` makes one.")
    return _newest(root, names)


def model_of(folder: Path) -> str:
    """Return the name of the model that a run was asked to use, or used; the shipped one where nothing names any."""
    if (folder / IMPORT_KEY).exists():
        return "a network that the file does not name"
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        summary = msgspec.json.decode((folder / SUMMARY_KEY).read_bytes(), type=_SummaryOfModel)
        return summary.request.model or shipped().card.name
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        request = msgspec.json.decode((folder / "request.json").read_bytes(), type=_RequestOfModel)
        return request.model or shipped().card.name
    return shipped().card.name


class _RequestOfModel(msgspec.Struct):
    """As much of a request as says what is to predict."""

    model: str | None = None


class _SummaryOfModel(msgspec.Struct):
    """As much of a summary, in which Initialize has filled in the request."""

    request: _RequestOfModel


def _newest(root: Path, names: Sequence[str]) -> str:
    """Return the run here that began last."""

    def began_s(name: str) -> float:
        entry = journal.read(root / "runs" / name)
        return entry.started_at_s if entry else 0.0

    if not names:
        raise UsageError("There is no run here yet: `make run` makes one, RUN=name names one on AWS.")
    newest = max(names, key=lambda name: (began_s(name), name))
    print(f"RUN={newest}, the newest", file=sys.stderr)
    return newest


def runs_there(target: Target) -> list[str]:
    """Return the names of the newest executions of a target, the newest last."""
    answer = target.states.list_executions(stateMachineArn=target.state_machine_arn, maxResults=100)
    return sorted({run_of(execution["name"]) for execution in answer["executions"]})


def stack_target(where: StackVariables, *, root: Path) -> Target | None:
    """Return the stack of this working copy or of OUTPUTS, or None when there is none."""
    if where.target == "local" or not (where.outputs or has_applied(root / "terraform")):
        return None
    return connect_aws(read_stack(root / "terraform", outputs=where.outputs))


def entry_of(found: FoundRun, target: Target) -> Entry:
    """Return what the terminal that started the run, on another machine, would have noted here."""
    assert found.description is not None, "a run of another machine is known by its execution"
    return Entry(
        run_id=found.run_id,
        target=target.name,
        execution_arn=found.description["executionArn"],
        bucket=target.bucket.name,
        run_prefix=found.run_prefix,
        started_at_s=found.description["startDate"].timestamp(),
        pending_key=found.pending_key,
        **target.entry,
    )


def _target(entry: Entry | None, folder: Path, where: StackVariables, root: Path) -> Target | None:
    if entry is not None:
        return rejoin(entry)
    return None if is_run(folder) else stack_target(where, root=root)


def _unknown(run_id: str, known: list[str]) -> UsageError:
    known = list(dict.fromkeys(known))
    similar = difflib.get_close_matches(run_id, known, n=NUM_SIMILAR, cutoff=0.6)
    if similar:
        return UsageError(f"RUN={run_id}: there is no such run. Similar: {', '.join(similar)}.")
    return UsageError(f"RUN={run_id}: there is no such run. The newest: {name_runs(known)}.")
