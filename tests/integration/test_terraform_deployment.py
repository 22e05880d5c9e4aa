"""The real configuration applied to the local AWS: what it deploys runs, stays as it is, and goes without a trace."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from inference import contract
from inference.contract import RunSummary
from scripts import deploy
from scripts.deployment.terraform import FOLDER, IMAGE_FILE, DeployError, Terraform
from scripts.local_aws.deploy import DEFINITION_PATH, render_definition
from scripts.local_aws.server import LocalAws
from tests.commands import run_command
from tests.factories import make_arrays, make_shard_bytes
from tests.integration.test_terraform import copy_configuration
from tests.terraform_provider import planned_changes, shared_provider

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(900),
]

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference@sha256:" + "a" * 64


@dataclass
class Deployed:
    """A deployment in the local AWS, and what the tests do with it."""

    aws: LocalAws
    terraform: Terraform
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(service, **self.aws.credentials)

    def changes(self, command: str, *arguments: str) -> dict[str, str]:
        """Plan or apply over what the last command saw; return resource → what is done to it."""
        return planned_changes(self.terraform.read(command, "-json", "-input=false", "-refresh=false", *arguments))


@pytest.fixture(scope="module")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with pytest.MonkeyPatch.context() as patch, LocalAws(log_dir=tmp_path_factory.mktemp("logs")) as aws:
        for name in [name for name in os.environ if name.startswith(("AWS_", "TF_"))]:
            patch.delenv(name)
        for name, value in {**aws.environment, "TF_VAR_local_endpoint": aws.endpoint_url}.items():
            patch.setenv(name, value)
        yield aws


@pytest.fixture(scope="module")
def deployed(local_aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = copy_configuration(tmp_path_factory.mktemp("deployment") / "terraform")
    with shared_provider(folder) as terraform:
        deploy.ensure_registry(terraform)
        deploy.record_image(folder, IMAGE, "v1")
        deploy.apply(terraform, confirm=refuse)
        yield Deployed(local_aws, terraform, terraform.outputs())


def refuse(question: str) -> bool:
    raise AssertionError(question)


# ---------------------------------------------------------------------------------------------- what it deploys runs


def test_the_state_machine_is_the_file_with_its_placeholders_filled_in(deployed: Deployed) -> None:
    values: dict[str, object] = {f"{stage}_arn": arn for stage, arn in deployed.outputs["function_arns"].items()}
    expected = render_definition(DEFINITION_PATH.read_text(), values)

    found = deployed.client("stepfunctions").describe_state_machine(
        stateMachineArn=deployed.outputs["state_machine_arn"]
    )

    assert json.loads(found["definition"]) == json.loads(expected)


@pytest.fixture(scope="module")
def eight_ranks(deployed: Deployed) -> subprocess.CompletedProcess[str]:
    """`make run WORLD=8` in the working copy that applied the configuration: nothing tells it where the stack is."""
    root = deployed.terraform.folder.parent
    dataset = root / "datasets" / "tiny" / "10MB"
    dataset.mkdir(parents=True)
    for number in range(4):
        (dataset / f"{number}.safetensors").write_bytes(make_shard_bytes(20, **make_arrays(20, seed=number)))
    return command("run", root, DATASET="tiny", WORLD="8")


def command(name: str, root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {"TARGET", "OUTPUTS", "RUN"}}
    return run_command(name, cwd=root, env=inherited | {"COLUMNS": "120"} | variables)


def test_make_run_goes_to_the_stack_that_was_applied_and_its_eight_ranks_complete(
    deployed: Deployed, eight_ranks: subprocess.CompletedProcess[str]
) -> None:
    assert eight_ranks.returncode == 0, eight_ranks.stderr
    assert eight_ranks.stderr.startswith("target     aws: this working copy is deployed; TARGET=local runs here\n")
    assert "upload     4 files of datasets/tiny/10MB" in eight_ranks.stderr
    written = (only_run(deployed) / "summary.json").read_bytes()
    summary = contract.decode(written, RunSummary)
    assert summary.complete
    assert (summary.num_records, summary.num_samples) == (8, 80)
    assert summary.image_digests == ("sha256:" + "a" * 64,)
    assert summary.code_versions == ("v1",)


def test_the_run_prints_its_result_with_what_it_cost(eight_ranks: subprocess.CompletedProcess[str]) -> None:
    assert ": complete\n" in eight_ranks.stdout
    assert all(words in eight_ranks.stdout for words in ("8 of 8", "GB-s, x86_64", "10 invocations"))


def test_the_run_is_known_afterwards(deployed: Deployed, eight_ranks: subprocess.CompletedProcess[str]) -> None:
    done = command("status", deployed.terraform.folder.parent, RUN=only_run(deployed).name)

    assert done.stdout == eight_ranks.stdout


def test_every_rank_logged_its_metrics_under_the_name_of_its_function(
    deployed: Deployed, eight_ranks: subprocess.CompletedProcess[str]
) -> None:
    lines = [line for log in deployed.aws.log_dir.glob("*.log") for line in log.read_text().splitlines()]

    metrics = [json.loads(line) for line in lines if line.startswith("{") and '"_aws"' in line]

    rows = [line["rows"] for line in metrics if line["function_name"] == "redshift-inference-infer"]
    assert rows == [10] * 8


def only_run(deployed: Deployed) -> Path:
    (folder,) = (deployed.terraform.folder.parent / "runs").iterdir()
    return folder


# --------------------------------------------------------------------------------------------------- what it is like


def test_no_policy_has_a_wildcard_action_or_an_unexplained_wildcard_resource(deployed: Deployed) -> None:
    iam = deployed.client("iam")
    statements = [
        statement
        for role in iam.list_roles()["Roles"]
        for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]["Statement"]
    ]

    assert len(statements) > 20
    assert not [action for statement in statements for action in as_list(statement["Action"]) if "*" in action]
    anywhere = [statement["Sid"] for statement in statements if "*" in as_list(statement["Resource"])]
    assert set(anywhere) == {"Trace", "DeliverLogs"}


def test_the_table_of_access_reaches_the_policies(deployed: Deployed) -> None:
    iam = deployed.client("iam")
    policy = iam.get_role_policy(RoleName="redshift-inference-infer-us-east-1", PolicyName="infer")["PolicyDocument"]

    writes = [statement for statement in policy["Statement"] if statement["Action"] == "s3:PutObject"]

    arn = f"arn:aws:s3:::{deployed.outputs['bucket']}"
    assert {statement["Effect"]: as_list(statement["Resource"]) for statement in writes} == {
        "Allow": [f"{arn}/*/ranks/*", f"{arn}/*/predictions/*", f"{arn}/*/fmi/*"],
        "Deny": [f"{arn}/datasets/*"],
    }


def test_every_log_group_has_a_retention(deployed: Deployed) -> None:
    groups = deployed.client("logs").describe_log_groups()["logGroups"]

    assert {group["logGroupName"]: group.get("retentionInDays") for group in groups} == dict.fromkeys(
        deployed.outputs["log_groups"].values(), 30
    )


def test_everything_that_can_be_tagged_says_whose_it_is(deployed: Deployed) -> None:
    tags = deployed.client("lambda").list_tags(Resource=deployed.outputs["function_arns"]["infer"])["Tags"]

    assert tags == {"project": "serverless-redshift-inference", "deployment": "redshift-inference"}


# ------------------------------------------------------------------------------------------------------ what changes


def test_a_second_plan_changes_nothing(deployed: Deployed) -> None:
    # Exit status 2, changes to make, would be raised as an error.
    printed = deployed.terraform.read("plan", "-detailed-exitcode", "-input=false", "-no-color")

    assert "No changes" in printed


def test_another_image_changes_the_three_functions_and_nothing_else(deployed: Deployed) -> None:
    changes = deployed.changes("plan", f"-var=image_uri={IMAGE.replace('a' * 64, 'b' * 64)}")

    assert changes == {
        f'module.functions.aws_lambda_function.this["{stage}"]': "update" for stage in deployed.outputs["function_arns"]
    }


def test_one_variable_changes_exactly_what_it_is_about(deployed: Deployed) -> None:
    changes = deployed.changes("apply", "-auto-approve", "-var=code_version=v2")

    assert changes == {'module.functions.aws_lambda_function.this["infer"]': "update"}
    function = deployed.client("lambda").get_function_configuration(FunctionName="redshift-inference-infer")
    assert function["Environment"]["Variables"]["CODE_VERSION"] == "v2"


# ------------------------------------------------------------------------------------------------------ remote state


def test_the_example_of_a_remote_state_keeps_and_locks_it_in_s3(local_aws: LocalAws, tmp_path: Path) -> None:
    s3 = boto3.client("s3", **local_aws.credentials)
    s3.create_bucket(Bucket="my-terraform-states")
    # Any resource will do: this one needs no provider.
    (tmp_path / "main.tf").write_text('resource "terraform_data" "this" {}')
    shutil.copy(FOLDER / "backend.tf.example", tmp_path / "backend.tf")
    here = ("use_path_style", "skip_credentials_validation", "skip_metadata_api_check", "skip_requesting_account_id")
    terraform = Terraform(tmp_path)
    terraform.read("init", "-no-color", *(f"-backend-config={name}=true" for name in here))
    key = "redshift-inference/terraform.tfstate"

    terraform.read("apply", "-input=false", "-auto-approve")
    kept = json.loads(s3.get_object(Bucket="my-terraform-states", Key=key)["Body"].read())
    s3.put_object(Bucket="my-terraform-states", Key=f"{key}.tflock", Body=json.dumps({"ID": "a-colleague"}))

    assert [resource["type"] for resource in kept["resources"]] == ["terraform_data"]
    with pytest.raises(DeployError, match="state lock"):
        terraform.read("plan", "-input=false", "-no-color")


# ------------------------------------------------------------------------------------------------------ and it goes


def test_destroy_says_what_it_deletes_asks_and_leaves_nothing(deployed: Deployed) -> None:
    s3 = deployed.client("s3")
    bucket = deployed.outputs["bucket"]
    for content in (b"old", b"newer"):
        s3.put_object(Bucket=bucket, Key="results/mine/summary.json", Body=content)
    asked: list[str] = []
    with pytest.raises(DeployError, match="Nothing was deleted"):
        deploy.destroy(deployed.terraform, confirm=lambda question: bool(asked.append(question)))
    assert f"s3://{bucket}/results/: 2 objects with their versions" in asked[0]
    assert bucket in names(s3.list_buckets()["Buckets"])

    deploy.destroy(deployed.terraform, confirm=lambda question: True)

    assert bucket not in names(s3.list_buckets()["Buckets"])
    assert left_behind(deployed) == {}
    assert deployed.terraform.read("state", "list") == ""
    assert not (deployed.terraform.folder / IMAGE_FILE).exists()


def left_behind(deployed: Deployed) -> dict[str, Any]:
    cloudwatch, logs = deployed.client("cloudwatch"), deployed.client("logs")
    found = {
        "roles": deployed.client("iam").list_roles()["Roles"],
        "functions": deployed.client("lambda").list_functions()["Functions"],
        "state machines": deployed.client("stepfunctions").list_state_machines()["stateMachines"],
        "repositories": deployed.client("ecr").describe_repositories()["repositories"],
        "log groups": logs.describe_log_groups()["logGroups"],
        "metric filters": logs.describe_metric_filters()["metricFilters"],
        "alarms": cloudwatch.describe_alarms()["MetricAlarms"],
        "dashboards": cloudwatch.list_dashboards()["DashboardEntries"],
    }
    return {kind: entries for kind, entries in found.items() if entries}


def names(buckets: list[dict[str, Any]]) -> set[str]:
    return {bucket["Name"] for bucket in buckets}


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
