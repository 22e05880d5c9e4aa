"""`make sweep` as a user starts it: here, killed in the middle, and in an account, which the local AWS plays."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import Deployment, deploy
from scripts.sweeps import table
from scripts.sweeps.rows import RankRow
from tests.commands import run_command
from tests.factories import make_shard_bytes
from tests.forked import LocalAws
from tests.integration.conftest import wait_until

OURS = re.compile(
    r"AWS_|MAKE|MFLAGS|WORLD|BATCH|DATA|FILES|RESULT|PROFILE|PAYLOAD|TARGET|TOLERATE|ENGINE|PRECISION|OUTPUTS|BUDGET|"
    r"MEMORY|SHARD_MB|REPEAT|SEED|SWEEP|NAME|RETRY|YES|RUN$|COLUMNS"
)
STARTED: list[subprocess.Popen[str]] = []


def make_dataset(root: Path, name: str = "tiny") -> None:
    folder = root / "datasets" / name / "1MB"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.safetensors").write_bytes(
            make_shard_bytes(20, images=np.ones((20, 5, 32, 32), np.float32))
        )


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return inherited | {"DATA": "tiny", "YES": "1", "COLUMNS": "120", **variables}


@pytest.fixture(autouse=True)
def _nobody_stays() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


def start(root: Path, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.sweep"],
        cwd=root,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def sweep(root: Path, **variables: str) -> tuple[int, str, str]:
    done = run_command("sweep", cwd=root, env=environment(**variables))
    return done.returncode, done.stdout, done.stderr


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_sweep_here_sets_the_memory_of_its_workers_and_warms_them_up(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    status, said, progress = sweep(tmp_path, WORLD="2", MEMORY="2000", NAME="mine")

    (run,) = table.read_runs(tmp_path / "sweeps" / "mine")
    ranks = table.read_table(tmp_path / "sweeps" / "mine" / table.RANKS, RankRow)
    assert status == 0, progress
    assert (run.state, run.memory_mb, run.num_samples, run.paid_usd) == ("complete", 2000, 40, 0.0)
    assert [(rank.rank, rank.memory_mb, rank.cold_start) for rank in ranks] == [(0, 2000, False), (1, 2000, False)]
    assert "mine: complete, 1 of 1 runs" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.run_id]


# ------------------------------------------------------------------------------------------ in an account


class Rehearsal:
    """An account with the stack in it."""

    def __init__(self, aws: LocalAws, deployment: Deployment) -> None:
        self.aws = aws
        self.deployment = deployment

    def client(self, service: str) -> Any:
        return boto3.client(service, **self.aws.credentials)

    def holds(self) -> dict[str, Any]:
        """Return everything of the account that a sweep could leave changed."""
        functions = self.client("lambda")
        machines = self.client("stepfunctions").list_state_machines()["stateMachines"]
        versions = functions.list_functions(FunctionVersion="ALL")["Functions"]
        return {
            "versions": sorted((one["FunctionArn"], one["MemorySize"], one["Description"]) for one in versions),
            "aliases": [one["Name"] for one in functions.list_aliases(FunctionName="infer")["Aliases"]],
            "machines": sorted(one["stateMachineArn"] for one in machines),
            "roles": sorted(one["RoleName"] for one in self.client("iam").list_roles()["Roles"]),
        }

    def write_outputs(self, path: Path) -> None:
        stages = read_stages()
        values = {
            "name": "redshift-local",
            "region": "us-east-1",
            "account_id": "123456789012",
            "bucket": self.deployment.bucket,
            "state_machine_arn": self.deployment.state_machine_arn,
            "function_names": {stage: stage for stage in stages},
            "stages": stages,
            "max_concurrency": 2,
        }
        path.write_text(json.dumps({name: {"sensitive": False, "value": value} for name, value in values.items()}))


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    stages = read_stages()
    stages["infer"]["handler"] = "tests.integration.functions.rehearse.handler"
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=2) as aws:
        yield Rehearsal(aws, deploy(aws, stages=stages))


def test_another_memory_on_aws_is_a_version_that_goes_with_the_sweep(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path)
    account.write_outputs(tmp_path / "outputs.json")
    before = account.holds()

    status, said, progress = sweep(
        tmp_path, OUTPUTS="outputs.json", MEMORY="1769,3538", WORLD="2", NAME="memory", **account.aws.environment
    )

    runs = {run.memory_mb: run for run in table.read_runs(tmp_path / "sweeps" / "memory")}
    assert status == 0, progress
    assert {memory: run.state for memory, run in runs.items()} == {1769: "complete", 3538: "complete"}, said
    assert all(run.target == "aws" and run.paid_usd == run.list_price_usd for run in runs.values())
    records = json.loads((tmp_path / "runs" / runs[3538].run_id / "combined_data.json").read_text())
    assert {record["function_memory_mb"] for record in records} == {3538}
    assert account.holds() == before


def test_a_killed_sweep_goes_on_without_repeating_what_is_done(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path)
    account.write_outputs(tmp_path / "outputs.json")
    (tmp_path / "wide.yaml").write_text("world: [1, 2, 100]\ndata: tiny\n")
    journal = tmp_path / "sweeps" / "mine" / "journal.jsonl"
    variables = {"OUTPUTS": "outputs.json", "NAME": "mine", "DATA": "", **account.aws.environment}
    process = start(tmp_path, SWEEP="wide.yaml", **variables)
    wait_until(lambda: len(lines_of(journal)) >= 1, timeout_s=180)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines_of(journal)
    with journal.open("a") as torn:
        torn.write('{"planned":{"wor')

    status, said, progress = sweep(tmp_path, **variables)

    assert status == 0, progress
    runs = table.read_runs(journal.parent)
    first = [json.loads(line)["run"]["run_id"] for line in before]
    states = {run.setting: run.state for run in runs}
    assert [run.run_id for run in runs][: len(first)] == first
    assert states == {"WORLD=1": "complete", "WORLD=2": "complete", "WORLD=100": "failed"}
    assert "mine: complete, 3 of 3 runs, 1 failed" in said
    assert "PlanError: world_size 100 is more than the 40 rows" in said


def test_a_killed_and_an_interrupted_sweep_leave_the_account_as_it_was(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path, "slow")
    account.write_outputs(tmp_path / "outputs.json")
    before = account.holds()
    variables = {"OUTPUTS": "outputs.json", "MEMORY": "3538", "WORLD": "1", "DATA": "slow", "NAME": "killed"}
    process = start(tmp_path, **variables, **account.aws.environment)
    wait_until(lambda: len(list(tmp_path.glob("runs/*/execution.json"))) == 1, timeout_s=180)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = account.holds()
    process = start(tmp_path, **variables, **account.aws.environment)
    wait_until(lambda: len(list(tmp_path.glob("runs/*/execution.json"))) == 2, timeout_s=180)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)

    assert left["aliases"] == ["memory-3538"]
    assert (left["machines"], left["roles"]) == (before["machines"], before["roles"])
    assert process.returncode == 130
    assert "The same command continues it." in said
    assert "Traceback" not in said
    assert account.holds() == before
