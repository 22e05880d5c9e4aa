"""`make run`, `make status` and `make stop` against an account, which the local AWS plays."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import Deployment, deploy
from scripts.local_aws.rudeness import Rudeness
from tests.commands import run_command
from tests.factories import make_shard_bytes
from tests.forked import LocalAws
from tests.integration.conftest import wait_until

ACCOUNT_ID = "123456789012"
ROWS_PER_SHARD = 20
NUM_SHARDS = 4
OURS = re.compile(
    r"AWS_|MAKE|MFLAGS|WORLD|BATCH|DATASET|FILES|RESULT|PROFILE|PAYLOAD|TARGET|TOLERATE|ENGINE|PRECISION|OUTPUTS|RUN$|COLUMNS"
)


class Rehearsal:
    """An account with the stack in it."""

    def __init__(self, aws: LocalAws, deployment: Deployment) -> None:
        self.aws = aws
        self.deployment = deployment
        self.s3 = boto3.client("s3", **aws.credentials)

    def outputs(self, **changes: Any) -> dict[str, Any]:
        """What Terraform would say, as ``terraform output -json`` prints it."""
        stages = read_stages()
        values = {
            "name": "redshift-local",
            "region": "us-east-1",
            "account_id": ACCOUNT_ID,
            "bucket": self.deployment.bucket,
            "data_bucket": None,
            "state_machine_arn": self.deployment.state_machine_arn,
            "function_names": {stage: stage for stage in stages},
            "stages": stages,
            "max_concurrency": 4,
            "architecture": "arm64",
            "image_uri": None,
        }
        return {name: {"sensitive": False, "value": value} for name, value in {**values, **changes}.items()}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    stages = read_stages()
    stages["infer"]["handler"] = "tests.integration.functions.rehearse.handler"
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=4) as aws:
        yield Rehearsal(aws, deploy(aws, stages=stages))


def make_dataset(root: Path, name: str) -> Path:
    folder = root / "datasets" / name / "1MB"
    folder.mkdir(parents=True)
    for number in range(NUM_SHARDS):
        (folder / f"{number}.safetensors").write_bytes(make_shard_bytes(ROWS_PER_SHARD))
    return folder


def environment(account: Rehearsal, root: Path, **variables: str) -> dict[str, str]:
    (root / "outputs.json").write_text(json.dumps(account.outputs()))
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return inherited | account.aws.environment | {"OUTPUTS": "outputs.json", "COLUMNS": "120", **variables}


def command(name: str, account: Rehearsal, root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command(name, cwd=root, env=environment(account, root, **variables))


def run_folder(root: Path) -> Path:
    (folder,) = (root / "runs").iterdir()
    return folder


# ------------------------------------------------------------------------------------------------- run


def test_a_dataset_in_a_bucket_of_its_own_is_read_where_it_is(account: Rehearsal, tmp_path: Path) -> None:
    account.s3.create_bucket(Bucket="survey")
    for number in range(2):
        account.s3.put_object(Bucket="survey", Key=f"dr17/1MB/{number}.safetensors", Body=make_shard_bytes(3))
    variables = environment(account, tmp_path, DATASET="s3://survey/dr17/1MB")
    (tmp_path / "outputs.json").write_text(json.dumps(account.outputs(data_bucket="survey")))

    done = run_command("run", cwd=tmp_path, env=variables)

    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    request = json.loads((folder / "request.json").read_text())
    assert (request["data_bucket"], request["data_prefix"]) == ("survey", "dr17/1MB/")
    assert json.loads((folder / "summary.json").read_text())["num_samples"] == 6
    assert not account.s3.list_objects_v2(Bucket=account.deployment.bucket, Prefix="dr17/").get("Contents")


def test_a_run_on_aws_prints_the_table_with_its_cost_and_brings_the_folder_home(
    account: Rehearsal, tmp_path: Path
) -> None:
    make_dataset(tmp_path, "first")

    done = command("run", account, tmp_path, DATASET="first", WORLD="3")

    folder = run_folder(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "target     aws: OUTPUTS=outputs.json names a stack"
    assert done.stdout.startswith(f"{folder.name}: complete\n")
    assert all(
        words in done.stdout for words in ("NMAD", "Lambda time", "GB-s, arm64", "6 transitions", "5 invocations")
    )
    ranks = {f"ranks/{rank:05d}.json" for rank in range(3)} | {"execution.json", "manifest.json", "summary.json"}
    assert ranks <= {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_request_that_cannot_be_planned_says_why_without_json(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path, "first")

    done = command("run", account, tmp_path, DATASET="first", WORLD="1000")

    assert done.returncode == 1
    assert f"PlanError: world_size 1000 is more than the {NUM_SHARDS * ROWS_PER_SHARD} rows" in done.stdout
    assert "errorMessage" not in done.stdout


def test_only_what_the_bucket_lacks_is_uploaded(account: Rehearsal, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, "again")
    command("run", account, tmp_path, DATASET="again")
    (folder / "2.safetensors").write_bytes(make_shard_bytes(ROWS_PER_SHARD, redshifts=None))

    done = command("run", account, tmp_path, DATASET="again")

    assert done.returncode == 0, done.stderr
    assert re.search(r"upload +1 file of datasets/again/1MB, \d+ kB, 3 already there", done.stderr)


def test_a_dataset_that_lies_in_the_bucket_needs_no_copy_here(account: Rehearsal, tmp_path: Path) -> None:
    account.s3.put_object(Bucket=account.deployment.bucket, Key="elsewhere/0.safetensors", Body=make_shard_bytes(5))

    done = command("run", account, tmp_path, DATASET=f"s3://{account.deployment.bucket}/elsewhere")

    assert done.returncode == 0, done.stderr
    assert "upload" not in done.stderr
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["num_samples"] == 5


def test_an_interrupted_run_on_aws_is_stopped(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path, "slow")
    process = start_slow_run(account, tmp_path)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert "The run is stopped." in said
    wait_until(lambda: description(account, run_folder(tmp_path).name)["status"] == "ABORTED")


# --------------------------------------------------------------------------------------- status, stop


def start_slow_run(account: Rehearsal, root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.run"],
        cwd=root,
        env=environment(account, root, DATASET="slow"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any(root.glob("runs/*/execution.json")))
    states = boto3.client("stepfunctions", **account.aws.credentials)
    arn = json.loads((run_folder(root) / "execution.json").read_text())["execution_arn"]
    wait_until(lambda: states.list_map_runs(executionArn=arn)["mapRuns"])
    return process


def description(account: Rehearsal, run_id: str) -> dict[str, Any]:
    states = boto3.client("stepfunctions", **account.aws.credentials)
    arn = account.deployment.state_machine_arn.replace(":stateMachine:", ":execution:")
    return states.describe_execution(executionArn=f"{arn}:{run_id}")


def test_a_run_whose_terminal_was_closed_goes_on_and_is_found_again(account: Rehearsal, tmp_path: Path) -> None:
    make_dataset(tmp_path, "slow")
    process = start_slow_run(account, tmp_path)
    process.kill()
    process.communicate()
    run_id = run_folder(tmp_path).name

    during = command("status", account, tmp_path, RUN=run_id)
    wait_until(lambda: description(account, run_id)["status"] != "RUNNING")
    after = command("status", account, tmp_path, RUN=run_id)

    assert during.returncode == 0, during.stderr
    assert f"{run_id}: running since " in during.stdout
    assert "ranks 0/4 done" in during.stdout
    assert after.stdout.startswith(f"{run_id}: complete\n"), after.stderr
    assert (tmp_path / "runs" / run_id / "summary.json").exists()


def test_a_run_of_another_machine_is_found_in_the_account(account: Rehearsal, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        root.mkdir()
    make_dataset(there, "first")
    command("run", account, there, DATASET="first", RESULT="experiments/7")
    run_id = run_folder(there).name

    done = command("status", account, here, RUN=run_id)

    assert done.stdout.startswith(f"{run_id}: complete\n"), done.stderr
    assert (here / "runs" / run_id / "summary.json").exists()
    # From then on it is known here, without an account.
    again = command("status", account, here, RUN=run_id, OUTPUTS="", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert again.stdout == done.stdout


@pytest.fixture(scope="module")
def elsewhere(account: Rehearsal, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a run that another machine started."""
    there = tmp_path_factory.mktemp("there")
    make_dataset(there, "first")
    command("run", account, there, DATASET="first")
    return run_folder(there).name


@pytest.mark.parametrize(
    ("name", "variables", "made"),
    [
        ("catalog", {}, "catalog.fits"),
        ("cost", {}, "cost.json"),
        ("evaluate", {}, "evaluation/numbers.json"),
        ("explain", {"RANK": "0"}, ""),
        ("logs", {}, None),
        ("report", {}, "report.html"),
    ],
)
def test_every_command_that_reads_a_run_brings_it_home(
    name: str, variables: dict[str, str], made: str | None, elsewhere: str, account: Rehearsal, tmp_path: Path
) -> None:
    done = command(name, account, tmp_path, RUN=elsewhere, **variables)

    assert (tmp_path / "runs" / elsewhere / "summary.json").exists(), done.stderr
    assert f"to runs/{elsewhere}\n" in done.stderr
    # The local AWS has no CloudWatch, where a deployment's workers print.
    assert done.returncode == (2 if name == "logs" else 0), done.stderr
    assert made is None or (tmp_path / "runs" / elsewhere / made).exists()


def test_a_stopped_run_has_ended_and_goes_on_when_it_is_resumed(account: Rehearsal, tmp_path: Path) -> None:
    tmp_path, other = tmp_path / "here", tmp_path / "other"
    for root in (tmp_path, other):
        root.mkdir()
    make_dataset(tmp_path, "slow")
    process = start_slow_run(account, tmp_path)
    process.kill()
    process.communicate()
    run_id = run_folder(tmp_path).name

    first = command("stop", account, tmp_path, RUN=run_id)
    # The local AWS lets the invocations under way end first; AWS does not wait.
    wait_until(lambda: description(account, run_id)["status"] == "ABORTED")
    again = command("stop", account, tmp_path, RUN=run_id)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "stopped" in first.stdout
    assert again.stdout == f"{run_id} had already ended: stopped.\n"

    resumed = command("resume", account, tmp_path, RUN=run_id)
    there = command("status", account, other, RUN=run_id)
    complete = command("resume", account, tmp_path, RUN=run_id)

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith(f"{run_id}: complete\n")
    assert f"Resumed by {run_id}-resume-1: " in resumed.stdout
    assert there.stdout.startswith(f"{run_id}: complete\n"), there.stderr
    assert complete.stdout == f"{run_id} is complete: nothing is left to do.\n"


@pytest.mark.parametrize(("name", "said"), [("status", "running since "), ("stop", "is stopped.")])
def test_a_local_run_of_another_terminal_is_asked_and_stopped_while_it_goes(
    name: str, said: str, account: Rehearsal, tmp_path: Path
) -> None:
    """This process plays the other terminal."""
    bucket, run_id = account.deployment.bucket, f"run-{name}"
    account.s3.put_object(Bucket=bucket, Key="slow/slow/0.safetensors", Body=make_shard_bytes(3))
    states = boto3.client("stepfunctions", **account.aws.credentials)
    request = json.dumps({"bucket": bucket, "data_prefix": "slow/slow/"})
    arn = account.deployment.state_machine_arn
    arn = states.start_execution(stateMachineArn=arn, name=run_id, input=request)["executionArn"]
    (tmp_path / "runs" / run_id).mkdir(parents=True)
    noted = {"run_id": run_id, "target": "local", "execution_arn": arn, "bucket": bucket, "pid": os.getpid()}
    noted |= {"run_prefix": f"runs/{run_id}/", "started_at_s": time.time(), "endpoint_url": account.aws.endpoint_url}
    noted |= {"key": account.aws.key}
    (tmp_path / "runs" / run_id / "execution.json").write_text(json.dumps(noted))

    done = command(name, account, tmp_path, RUN=run_id, AWS_PROFILE="nobody")

    assert said in done.stdout, done.stdout + done.stderr
    wait_until(lambda: description(account, run_id)["status"] != "RUNNING")
    assert description(account, run_id)["status"] == {"status": "SUCCEEDED", "stop": "ABORTED"}[name]


@pytest.mark.parametrize("name", ["status", "stop"])
def test_an_unknown_run_is_told_with_similar_ones(name: str, account: Rehearsal, tmp_path: Path) -> None:
    (tmp_path / "runs" / "run-20260101T000000Z-abcd").mkdir(parents=True)
    (tmp_path / "runs" / "run-20260101T000000Z-abcd" / "summary.json").touch()

    done = command(name, account, tmp_path, RUN="run-20260101T000000Z-abce")

    assert done.returncode == 2
    assert done.stderr.startswith(
        "RUN=run-20260101T000000Z-abce: there is no such run. Similar: run-20260101T000000Z-abcd"
    )


# ----------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"account_id": "999999999999"}, "belong to account 123456789012, the stack redshift-local to 999999999999"),
        ({"bucket": "nobody"}, "HeadObject|The bucket of the stack does not exist"),
        (
            {"state_machine_arn": "arn:aws:states:us-east-1:123456789012:stateMachine:gone"},
            "state machine .* not exist",
        ),
        ({"state_machine_arn": None}, "knows no state machine: the stack is not deployed"),
    ],
    ids=["other account", "no bucket", "no state machine", "not deployed"],
)
def test_a_stack_that_is_not_there_is_told_in_one_line(
    changes: dict[str, Any], said: str, account: Rehearsal, tmp_path: Path
) -> None:
    make_dataset(tmp_path, "first")
    variables = environment(account, tmp_path, DATASET="first")
    (tmp_path / "outputs.json").write_text(json.dumps(account.outputs(**changes)))

    done = run_command("run", cwd=tmp_path, env=variables)

    assert done.returncode == 1
    assert re.search(said, " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("num_requests", "left"), [(8, ""), (24, "The run may still be running: `make status RUN=")], ids=["upload", "end"]
)
def test_a_session_that_expires_under_way_is_named_with_what_renews_it(
    num_requests: int, left: str, tmp_path: Path
) -> None:
    stages = read_stages()
    stages["infer"]["handler"] = "tests.integration.functions.rehearse.handler"
    rudeness = Rudeness(session_requests=num_requests)
    with LocalAws(log_dir=tmp_path / "logs", workers=2, rudeness=rudeness) as aws:
        account = Rehearsal(aws, deploy(aws, stages=stages))
        make_dataset(tmp_path, "tiny")

        done = command("run", account, tmp_path, DATASET="tiny", WORLD="4")

    assert done.returncode == 1
    said = " ".join(done.stderr.split())  # lines are as wide as the screen
    assert "have expired" in said
    assert "`aws sso login`" in said
    assert left in said
