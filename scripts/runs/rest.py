"""What is left of a run: the ranks without a valid record and predictions, and whether their data is what it was."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError
from msgspec import structs

from inference import contract
from inference.checksum import file_sha256
from inference.contract import COMBINED_KEY, SUMMARY_KEY, RankTask, RunPlan
from inference.errors import InvalidRequestError, RunFolderError
from inference.run_folder import RunFolder
from scripts.command.aws_errors import is_denied
from scripts.command.errors import CommandError
from scripts.runs.bucket import Bucket

MAX_NAMED = 5
"""Shards that are named; more are counted."""

LONGEST_NAME = 80
"""Of an execution: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html"""


@dataclass(frozen=True)
class Rest:
    """A run that did not come to its end."""

    folder: Path
    """Its folder on this machine, with everything that is in its bucket."""

    plan: RunPlan
    """How it was planned."""

    done: tuple[RankTask, ...]
    """Ranks with a valid record, and the predictions that it is about."""

    pending: tuple[RankTask, ...]
    """The others. They do not meet: those they would talk to have gone."""

    @property
    def number(self) -> int:
        """How many times this makes that the run is resumed, started or not."""
        found = [re.fullmatch(r"([0-9]+)[.]json", path.name) for path in (self.folder / "pending").glob("*")]
        return 1 + max((int(match[1]) for match in found if match), default=len(self.plan.resumptions))

    @property
    def execution_name(self) -> str:
        """Name of the execution that goes on with the run."""
        end = f"-resume-{self.number}"
        return self.plan.run_id[: LONGEST_NAME - len(end)] + end

    @property
    def pending_key(self) -> str:
        """Object key of the ranks that are left."""
        return f"{self.plan.run_prefix}{contract.PENDING_FOLDER}{self.number}.json"

    def objects(self) -> dict[str, Path]:
        """Return key to file of what a bucket needs in which the run never was."""
        prefix = self.plan.run_prefix
        kept = {prefix + name: self.folder / name for name in (contract.MANIFEST_KEY, contract.PLAN_KEY)}
        for task in self.done:
            for key in (task.record_key, task.predictions_key):
                kept[key] = self.folder / key.removeprefix(prefix)
        return kept

    def forget_end(self) -> None:
        """Remove from the folder how the run ended, and why the ranks were lost that are computed again."""
        for name in (SUMMARY_KEY, COMBINED_KEY):
            (self.folder / name).unlink(missing_ok=True)
        for task in self.pending:
            (self.folder / task.failure_key.removeprefix(task.run_prefix)).unlink(missing_ok=True)


def rest_of(run_id: str, folder: Path) -> Rest:
    """Compare what is in a run's folder with its plan.

    Raises
    ------
    CommandError
        If it was not planned.
    RunFolderError
        If plan or manifest cannot be read, or the manifest is not the one that was planned.
    """
    found = RunFolder(folder)
    try:
        path = folder / contract.PLAN_KEY
        plan = contract.decode(path.read_bytes(), RunPlan, where=str(path))
    except FileNotFoundError as error:
        raise CommandError(
            f"{run_id} left no {contract.PLAN_KEY}: it ended before it was planned, or an older version made it. "
            "`make run` starts another one."
        ) from error
    except InvalidRequestError as error:
        raise CommandError(f"{error} `make run` starts another run.") from error
    manifest = folder / contract.MANIFEST_KEY
    if plan.manifest_sha256 and manifest.exists() and file_sha256(manifest) != plan.manifest_sha256:
        raise RunFolderError(
            f"{manifest} is not what was planned: {contract.PLAN_KEY} has another checksum. Fetch the run again, "
            "or run again."
        )
    lost = found.inventory().lost
    return Rest(
        folder,
        plan,
        done=tuple(task for task in found.tasks if task.rank not in lost),
        pending=tuple(structs.replace(task, comm=None) for task in found.tasks if task.rank in lost),
    )


def refuse_other_data(rest: Rest, bucket: Bucket) -> None:
    """Raise when a shard that is to be read is not the one that was planned.

    Raises
    ------
    CommandError
        Naming what differs; nothing has been started.
    """
    planned = {rows.key: rows.etag for task in rest.pending for rows in task.rows if rows.etag}
    try:
        there = bucket.tags(planned)
    except ClientError as error:
        # Who may not look leaves it to the ranks, which refuse another shard.
        if is_denied(error):
            return
        raise
    differences = [
        f"{key} {'has changed' if there[key] else 'is gone'}"
        for key, etag in planned.items()
        if (there[key] or "").strip('"') != etag.strip('"')
    ]
    if differences:
        raise CommandError(
            f"{rest.plan.run_id} cannot go on, its dataset is another one than was planned: {_name(differences)}. Put "
            "it back, or `make run` starts another run."
        )


def _name(differences: Sequence[str]) -> str:
    named = "; ".join(differences[:MAX_NAMED])
    return named + (f"; and {len(differences) - MAX_NAMED} more" if len(differences) > MAX_NAMED else "")
