"""The runs of a comparison: new ones in every target, or one that has ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from inference.models import Model
from inference.plan import SHARD_SUFFIXES
from scripts.command.errors import CommandError, UsageError
from scripts.command.model import find_model
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.stack import read_stack
from scripts.runs.perform import find_data, run_in
from scripts.runs.request import Draft, draft_request, make_run_id
from scripts.runs.run_folder import open_run
from scripts.runs.target import Target, connect_aws, start_local
from scripts.runs.variables import RequestVariables, RunName, choose_target

OF_A_NEW_RUN = ("WORLD", "BATCH", "DATASET", "FILES", "ENGINE", "PRECISION", "MODEL")


class CompareVariables(RequestVariables, frozen=True, kw_only=True):
    """The variables of `make compare`."""

    run: RunName = ""


@dataclass(frozen=True)
class Runs:
    """Runs over the same rows."""

    folders: list[Path]
    """Their folders, a run on AWS before a local one."""

    dataset: LocalDataset
    """What they read."""

    file_limit: int | None
    """How many of its first shards; None for all."""

    batch_size: int
    """Galaxies per batch."""

    model: Model
    """What predicted."""

    @property
    def files(self) -> list[Path]:
        """The shards they read, in dataset order."""
        return [path for path in self.dataset.files(self.file_limit) if path.suffix in SHARD_SUFFIXES]


def find_runs(variables: CompareVariables, root: Path, console: Console) -> Runs:
    """Carry out the runs, or find the one that RUN names.

    Raises
    ------
    UsageError
        If the variables cannot be followed.
    CommandError
        If a run fails.
    """
    return _finished(variables, root) if variables.run else _carried_out(variables, root, console)


def _finished(variables: CompareVariables, root: Path) -> Runs:
    for name in OF_A_NEW_RUN:
        if name in variables.given:
            raise UsageError(f"RUN={variables.run} has ended: {name} is of a new run. Give one of the two.")
    run = open_run(variables.run, variables, root=root)
    folder, request = run.path, run.summary.request
    prefix = request.data_prefix
    dataset = _local(find_data(prefix, asked=f"the dataset {prefix} of {folder.name}", root=root))
    model = find_model(request.model or "", root=root, asked=f"the model {request.model} of {folder.name}")
    _refuse_onnx(model, f"The model {model.card.name} of {folder.name}")
    return Runs([folder], dataset, request.file_limit, request.batch_size, model)


def _carried_out(variables: CompareVariables, root: Path, console: Console) -> Runs:
    draft = draft_request(variables, root=root)
    _refuse_onnx(draft.model, f"MODEL={draft.model.card.name}")
    target, _ = choose_target(variables, terraform=root / "terraform")
    aws = (
        connect_aws(read_stack(root / "terraform", outputs=variables.outputs)).within_account()
        if target == "aws"
        else None
    )
    dataset = _local(find_data(draft.dataset, asked=draft.dataset_asked, root=root))
    if dataset.card and dataset.card.image_origin == "none" and draft.model.card.inputs.side_px:
        raise UsageError(
            f"{draft.dataset_asked} holds no images, which the plain loop reads. "
            "`make dataset SOURCE=… MODEL=astromae` renders some; `make run` needs none."
        )
    folders = []
    if aws is not None:
        folders.append(_carry_out(lambda _: nullcontext(aws), draft, dataset, root, console))
    # Last, since it takes the user's AWS settings away from this process.
    folders.append(_carry_out(partial(start_local, model=draft.model.folder), draft, dataset, root, console))
    return Runs(folders, dataset, draft.request.file_limit, draft.request.batch_size, draft.model)


def _refuse_onnx(model: Model, asked: str) -> None:
    if model.card.kind != "astromae":
        raise UsageError(
            f"{asked} is a network as ONNX; the plain loop computes weights of AstroMAE only. `make run` runs it."
        )


def _carry_out(
    open_target: Callable[[Path], AbstractContextManager[Target]],
    draft: Draft,
    dataset: LocalDataset,
    root: Path,
    console: Console,
) -> Path:
    """Run once in the target that `open_target` makes from a folder for its logs; return the run's folder."""
    run_id = make_run_id(datetime.now(UTC))
    folder = root / "runs" / run_id
    (folder / "logs").mkdir(parents=True)
    with open_target(folder / "logs") as target:
        ending = run_in(target, run_id, draft, dataset, folder, console)
    if not ending.succeeded:
        raise CommandError(f"{run_id} failed: {ending.error}: {ending.message} Its folder is {folder}/.")
    return folder


def _local(dataset: LocalDataset | RemoteDataset) -> LocalDataset:
    if isinstance(dataset, RemoteDataset):
        raise UsageError(f"{dataset.describe()} is not on this machine, where the plain loop reads.")
    return dataset
