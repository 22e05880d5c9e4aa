"""What no rehearsal can say: questions to an account by two small runs, one rank made to fail, one without memory.

No code of the product knows of it: the shard is cut before it is uploaded, and the rank that runs out of memory is an
ordinary one, resumed on a version of Infer with the least memory that Lambda sells.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from inference import contract
from inference.contract import RankTask, ResumeRequest, RunSummary
from inference.contract.run import NO_DEADLINE_S
from inference.errors import RunError
from inference.run_folder import read_summary
from scripts.command.aws_errors import explain
from scripts.command.console import say
from scripts.command.errors import CommandError
from scripts.data.location import LocalDataset
from scripts.deployment.terraform import DeployError, Terraform
from scripts.deployment.variants import MemoryVariants
from scripts.runs import execution, journal
from scripts.runs.journal import Entry
from scripts.runs.perform import run_in, see_through
from scripts.runs.request import draft_request
from scripts.runs.smoke_report import SmokeAnswer
from scripts.runs.target import AwsTarget
from scripts.runs.variables import RunVariables

NUM_RANKS = 3
ROWS_PER_SHARD = 20
CUT_BYTES = 100
"""Of the first shard, which its rank then refuses."""

CHILDREN = "{} child executions succeed, {} fails"

LEAST_MEMORY_MB = 128
"""https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""

OUT_OF_MEMORY = ("Runtime.OutOfMemory", "Runtime.ExitError", "Lambda.Unknown")
"""Names under which Step Functions may report it: the state machine takes care of each."""

RUN_ID = "smoke"
"""Of the one run; the execution that resumes it has another name."""

SNAPSHOT_WAIT_S = 600
SNAPSHOT_POLL_S = 5


@dataclass(frozen=True)
class Trial:
    """A deployment that is there to be asked, and where its run is kept."""

    terraform: Terraform
    aws: AwsTarget
    root: Path
    console: Console

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.root / "runs" / RUN_ID

    @property
    def infer(self) -> str:
        """The function that ranks are invocations of."""
        return self.aws.stack.function_names["infer"]


def settle(trial: Trial, *, snap_start: bool) -> Iterator[SmokeAnswer]:
    """Ask everything, one after another; what goes wrong is an answer too."""
    yield _ask(trial, "Does a second plan change nothing?", "no changes", _second_plan)
    yield _ask(trial, "Do ranks start, by the trust policy?", CHILDREN.format(NUM_RANKS - 1, 1), _ranks_start)
    yield _ask(
        trial,
        "Is a run with a lost rank summarized, and what does the Map write?",
        f"{NUM_RANKS - 1} records, rank 0 lost, manifest.json under map/",
        _map_output,
    )
    yield _ask(trial, "What is running out of memory called?", " or ".join(OUT_OF_MEMORY), _out_of_memory)
    if snap_start:
        yield _ask(trial, "Does an image publish with SnapStart?", "Active, SnapStart On", _snap_start)


Seen = tuple[str, bool, tuple[str, ...]]
"""What was seen, whether it was expected, and what shows it."""


def _ask(trial: Trial, question: str, expected: str, look: Callable[[Trial], Seen]) -> SmokeAnswer:
    say(trial.console, f"ask        {question}")
    try:
        seen, is_expected, evidence = look(trial)
    except (BotoCoreError, ClientError) as error:
        seen, is_expected, evidence = explain(error), False, (str(error),)
    except (CommandError, RunError, OSError) as error:
        seen, is_expected, evidence = str(error), False, ()
    return SmokeAnswer(question=question, expected=expected, seen=seen, is_expected=is_expected, evidence=evidence)


def _second_plan(trial: Trial) -> Seen:
    try:
        # Exit status 2, changes to make, is raised as an error.
        trial.terraform.read("plan", "-detailed-exitcode", "-input=false", "-no-color")
    except DeployError:
        printed = trial.terraform.read("plan", "-input=false", "-no-color")
        changed = tuple(line.strip() for line in printed.splitlines() if line.lstrip().startswith("# "))
        return f"{len(changed)} changes", False, changed
    return "no changes", True, ()


def _ranks_start(trial: Trial) -> Seen:
    """Run three ranks, of which the first has a shard that is cut."""
    dataset = LocalDataset(write_shards(trial.root / "datasets" / RUN_ID), f"datasets/{RUN_ID}/")
    trial.folder.mkdir(parents=True)
    asked = RunVariables(world=NUM_RANKS, tolerate=100, dataset=RUN_ID)
    draft = draft_request(asked, bucket_words="the bucket of the smoke test")
    ending = run_in(trial.aws, RUN_ID, draft, dataset, trial.folder, trial.console)
    arn, counts = _map_run(trial, execution.execution_arn(trial.aws.state_machine_arn, RUN_ID))
    ended_as = " ".join(filter(None, (ending.status, ending.error, ending.message)))
    # Of children that may not start all fail.
    num_succeeded, num_failed = counts["succeeded"], counts["failed"]
    seen = CHILDREN.format(num_succeeded, num_failed)
    return seen, (num_succeeded, num_failed) == (NUM_RANKS - 1, 1), (arn, json.dumps(counts), ended_as)


def _map_run(trial: Trial, execution_arn: str) -> tuple[str, dict[str, int]]:
    map_runs = execution.map_runs(trial.aws.states, execution_arn)
    if not map_runs:
        raise CommandError("There is no Map Run: the execution ended before its ranks.")
    arn, found = next(iter(map_runs.items()))
    return arn, found["itemCounts"]


def _map_output(trial: Trial) -> Seen:
    summary = _summary(trial)
    lost = {one.rank: f"{one.error}: {one.message}" for one in summary.lost_ranks}
    keys = trial.aws.bucket.list_keys(f"{_entry(trial).run_prefix}map/")
    names = sorted(key.rpartition("/")[2] for key in keys)
    lost_ranks, written = ", ".join(map(str, lost)) or "none", " ".join(names) or "nothing"
    seen = f"{summary.num_records} records, rank {lost_ranks} lost, {written} under map/"
    is_expected = summary.num_records == NUM_RANKS - 1 and set(lost) == {0} and "manifest.json" in names
    return seen, is_expected, tuple(lost.values())


def _entry(trial: Trial) -> Entry:
    entry = journal.read(trial.folder)
    if entry is None:
        raise CommandError("There is no run: its execution did not start.")
    return entry


def _summary(trial: Trial) -> RunSummary:
    summary = read_summary(trial.folder)
    if summary is None:
        raise CommandError("There is no summary.json: Summarize did not come to its end.")
    return summary


def _out_of_memory(trial: Trial) -> Seen:
    """Resume the lost rank with torch, which alone is larger than the memory that it gets."""
    entry = _entry(trial)
    MemoryVariants(trial.aws.account.client("lambda"), trial.infer).make([LEAST_MEMORY_MB])
    tasks = msgspec.json.decode((trial.folder / contract.MANIFEST_KEY).read_bytes(), type=list[RankTask])
    task = msgspec.structs.replace(
        tasks[0], qualifier=contract.memory_alias(LEAST_MEMORY_MB), engine="torch", deadline_s=NO_DEADLINE_S
    )
    failure = trial.folder / task.failure_key.removeprefix(task.run_prefix)
    failure.unlink(missing_ok=True)
    pending_key = f"{task.run_prefix}{contract.PENDING_FOLDER}1.json"
    trial.aws.bucket.write(pending_key, contract.encode([task]))
    asked = ResumeRequest(bucket=trial.aws.bucket.name, pending_key=pending_key)
    arn = execution.start(
        trial.aws.states, trial.aws.state_machine_arn, f"{RUN_ID}-memory", contract.to_builtins(asked)
    )
    entry = msgspec.structs.replace(entry, execution_arn=arn, pending_key=pending_key, status="RUNNING")
    see_through(trial.aws, entry, trial.folder, trial.console)
    try:
        said = json.loads(failure.read_text())
    except FileNotFoundError:
        return "the rank did not fail", False, (arn,)
    return said["error"], said["error"] in OUT_OF_MEMORY, (arn, said["cause"])


def _snap_start(trial: Trial) -> Seen:
    """Publish a version of Infer with a snapshot, by the calls that Terraform makes with infer_snap_start."""
    functions: Any = trial.aws.account.client("lambda")
    functions.update_function_configuration(FunctionName=trial.infer, SnapStart={"ApplyOn": "PublishedVersions"})
    functions.get_waiter("function_updated_v2").wait(FunctionName=trial.infer)
    version = functions.publish_version(FunctionName=trial.infer)["Version"]
    waiter = functions.get_waiter("published_version_active")
    patience = {"Delay": SNAPSHOT_POLL_S, "MaxAttempts": SNAPSHOT_WAIT_S // SNAPSHOT_POLL_S}
    waiter.wait(FunctionName=trial.infer, Qualifier=version, WaiterConfig=patience)
    found = functions.get_function_configuration(FunctionName=trial.infer, Qualifier=version)
    status = found.get("SnapStart", {}).get("OptimizationStatus", "Off")
    seen = f"{found.get('State')}, SnapStart {status}"
    return seen, seen == "Active, SnapStart On", (found["FunctionArn"], found.get("StateReason", ""))


def write_shards(folder: Path) -> Path:
    """Write three small shards of noise, the first cut off; return their folder. No one needs their redshifts."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(NUM_RANKS):
        content = save(
            {
                "images": random.normal(size=(ROWS_PER_SHARD, 5, 32, 32)).astype(np.float32),
                "magnitudes": random.uniform(14, 20, size=(ROWS_PER_SHARD, 5)),
                "redshifts": random.uniform(0.01, 0.4, size=ROWS_PER_SHARD),
                "object_id": np.arange(number * ROWS_PER_SHARD, (number + 1) * ROWS_PER_SHARD),
            }
        )
        (folder / f"{number}.safetensors").write_bytes(content if number else content[:-CUT_BYTES])
    return folder
