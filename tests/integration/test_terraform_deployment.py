"""The real configuration applied to the local AWS: what it deploys runs, stays as it is, and goes without a trace."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from rich.console import Console

from inference import contract
from inference.contract import RunSummary
from scripts import deploy
from scripts.command.repository import REPOSITORY
from scripts.deployment.holdings import Holdings
from scripts.deployment.stack import read_stack
from scripts.deployment.terraform import FOLDER, IMAGE_FILE, DeployError, Terraform
from scripts.local_aws.calls import STATES
from scripts.local_aws.deploy import DEFINITION_PATH, render_definition
from scripts.runs.first_account import Trial, settle
from scripts.runs.smoke_report import SmokeAnswer
from scripts.runs.target import connect_aws
from tests.commands import run_command
from tests.factories import make_arrays, make_shard_bytes
from tests.forked import LocalAws
from tests.iam import (
    ACCOUNT,
    OPERATOR,
    REGION,
    Call,
    Statement,
    as_list,
    idle_statements,
    is_allowed,
    matches,
    read_calls,
)
from tests.integration.test_terraform import copy_configuration
from tests.terraform_provider import planned_changes, shared_provider
from tests.unseen_calls import forbidden, unseen_of_operator, unseen_of_rendezvous, unseen_of_roles

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(900),
]

CALLS = "calls.jsonl"
POLICIES = ("operator-policy.json", "operator-policy-rendezvous.json")
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
IMAGE = f"{REGISTRY}/redshift-inference@sha256:{'a' * 64}"
SERVER_IMAGE = f"{REGISTRY}/redshift-inference-rendezvous@sha256:{'b' * 64}"


@dataclass
class Deployed:
    """A deployment in the local AWS, and what the tests do with it."""

    aws: LocalAws
    terraform: Terraform
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(service, **self.aws.credentials)

    def changes(self, command: str, *arguments: str) -> dict[str, str]:
        """Plan or apply; return resource → what is done to it."""
        return planned_changes(self.terraform.read(command, "-json", "-input=false", *arguments))


@pytest.fixture(scope="module")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch, LocalAws(log_dir=logs, call_log=logs / CALLS) as aws:
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
    written = (first_run(deployed) / "summary.json").read_bytes()
    summary = contract.decode(written, RunSummary)
    assert summary.complete
    assert (summary.num_records, summary.num_samples) == (8, 80)
    assert summary.image_digests == ("sha256:" + "a" * 64,)
    assert summary.code_versions == ("v1",)


def test_the_run_prints_its_result_with_what_it_cost(eight_ranks: subprocess.CompletedProcess[str]) -> None:
    assert ": complete\n" in eight_ranks.stdout
    assert all(words in eight_ranks.stdout for words in ("8 of 8", "GB-s, x86_64", "10 invocations"))


def test_the_run_is_known_afterwards(deployed: Deployed, eight_ranks: subprocess.CompletedProcess[str]) -> None:
    done = command("status", deployed.terraform.folder.parent, RUN=first_run(deployed).name)

    assert done.stdout == eight_ranks.stdout


def test_every_rank_logged_its_metrics_under_the_name_of_its_function(
    deployed: Deployed, eight_ranks: subprocess.CompletedProcess[str]
) -> None:
    lines = [line for log in deployed.aws.log_dir.glob("*.log") for line in log.read_text().splitlines()]

    metrics = [json.loads(line) for line in lines if line.startswith("{") and '"_aws"' in line]

    rows = [line["rows"] for line in metrics if line["function_name"] == "redshift-inference-infer"]
    assert rows == [10] * 8


@pytest.fixture(scope="module")
def two_ranks_of_three(deployed: Deployed, eight_ranks: object) -> subprocess.CompletedProcess[str]:
    """A run of which one rank fails, and what one asks about it afterwards."""
    root = deployed.terraform.folder.parent
    dataset = root / "datasets" / "cut" / "10MB"
    dataset.mkdir(parents=True)
    for number in range(3):
        content = make_shard_bytes(20, **make_arrays(20, seed=number))
        (dataset / f"{number}.safetensors").write_bytes(content if number else content[:-100])
    done = command("run", root, DATASET="cut", WORLD="3")
    for name in ("resume", "logs", "cost", "stop"):
        command(name, root, RUN=runs(deployed)[-1].name)
    command("doctor", root)
    return done


def test_a_rank_that_fails_is_noted_by_the_state_machine(
    deployed: Deployed, two_ranks_of_three: subprocess.CompletedProcess[str]
) -> None:
    assert two_ranks_of_three.returncode == 1, two_ranks_of_three.stderr
    assert "rank 0" in two_ranks_of_three.stdout


def first_run(deployed: Deployed) -> Path:
    return runs(deployed)[0]


def runs(deployed: Deployed) -> list[Path]:
    """Return the folders of the runs, the oldest first."""
    return sorted((deployed.terraform.folder.parent / "runs").iterdir())


@dataclass(frozen=True)
class Role:
    """What a role may do, and who may take it."""

    statements: list[Statement]
    trust: list[Statement]


@pytest.fixture(scope="module")
def roles(deployed: Deployed) -> dict[str, Role]:
    """Who asks → the role it has, as it was applied."""
    iam = deployed.client("iam")
    found = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"].removesuffix(f"-{REGION}")
        (policy,) = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
        found[STATES if name.endswith("-states") else name] = Role(
            document["Statement"], role["AssumeRolePolicyDocument"]["Statement"]
        )
    return found


# --------------------------------------------------------------------------------------------------- what it is like


def test_no_policy_has_a_wildcard_action_or_an_unexplained_wildcard_resource(roles: dict[str, Role]) -> None:
    statements = [statement for role in roles.values() for statement in role.statements]

    assert len(statements) > 20
    assert not [action for statement in statements for action in as_list(statement["Action"]) if "*" in action]
    anywhere = [statement["Sid"] for statement in statements if "*" in as_list(statement["Resource"])]
    assert set(anywhere) == {"Trace", "DeliverLogs"}


def test_every_log_group_has_a_retention(deployed: Deployed) -> None:
    groups = deployed.client("logs").describe_log_groups()["logGroups"]

    assert {group["logGroupName"]: group.get("retentionInDays") for group in groups} == dict.fromkeys(
        deployed.outputs["log_groups"].values(), 30
    )


def test_everything_that_can_be_tagged_says_whose_it_is(deployed: Deployed) -> None:
    tags = deployed.client("lambda").list_tags(Resource=deployed.outputs["function_arns"]["infer"])["Tags"]

    assert tags == {"project": "serverless-redshift-inference", "deployment": "redshift-inference"}


# ----------------------------------------------------------------------------------- what a first account is asked


@pytest.fixture(scope="module")
def answers(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SmokeAnswer]:
    """What `make smoke` asks of an account, asked here: its second plan is this file's, too."""
    root = tmp_path_factory.mktemp("smoke")
    stack = read_stack(deployed.terraform.folder)
    trial = Trial(deployed.terraform, connect_aws(stack), root, Console(stderr=True))
    return {answer.question.split()[-1]: answer for answer in settle(trial, snap_start=True)}


def test_a_second_plan_changes_nothing(answers: dict[str, SmokeAnswer]) -> None:
    assert answers["nothing?"].seen == "no changes"


def test_the_smoke_test_sees_its_ranks_start_one_fail_and_one_run_out_of_memory(
    answers: dict[str, SmokeAnswer],
) -> None:
    started, written, named = answers["policy?"], answers["write?"], answers["called?"]

    assert started.seen == "2 child executions succeed, 1 fails"
    assert written.seen == "2 records, rank 0 lost, manifest.json under map/"
    assert "ShardFormatError" in written.evidence[0]
    assert named.seen == "Runtime.ExitError", named.evidence
    assert all(answer.is_expected for answer in (answers["nothing?"], started, written, named))


def test_what_the_smoke_test_cannot_settle_is_an_answer_too(answers: dict[str, SmokeAnswer]) -> None:
    # The local AWS takes no snapshots.
    assert answers["SnapStart?"].seen == "Active, SnapStart Off"
    assert not answers["SnapStart?"].is_expected


# -------------------------------------------------------------------------------------------- what a change changes


@dataclass(frozen=True)
class Rendezvous:
    """The server at which ranks meet, added to the deployment with other code of the image."""

    changes: dict[str, str]
    outputs: dict[str, Any]


@pytest.fixture(scope="module")
def rendezvous(deployed: Deployed, roles: object) -> Rendezvous:
    folder = deployed.terraform.folder
    (folder / "terraform.tfvars").write_text("rendezvous = true\n")
    deploy.record_image(folder, IMAGE, "v2", SERVER_IMAGE)
    threading.Thread(target=look_at_the_load_balancer, args=(deployed,), daemon=True).start()
    return Rendezvous(deployed.changes("apply", "-refresh=false", "-auto-approve"), deployed.terraform.outputs())


def look_at_the_load_balancer(deployed: Deployed) -> None:
    """Look until it is there: moto makes it active for those who have looked once, and Terraform looks every 10 s."""
    client = deployed.client("elbv2")
    while not client.describe_load_balancers()["LoadBalancers"]:
        time.sleep(0.5)


def test_two_variables_change_exactly_what_they_are_about(deployed: Deployed, rendezvous: Rendezvous) -> None:
    its_own = ("module.rendezvous[0].", "module.rendezvous_registry[0].")
    made = {address: change for address, change in rendezvous.changes.items() if address.startswith(its_own)}

    assert set(made.values()) == {"create"}
    assert {address: change for address, change in rendezvous.changes.items() if address not in made} == {
        # Whoever plans a run signs its names.
        'module.functions.aws_lambda_function.this["initialize"]': "update",
        'module.identity.aws_iam_role_policy.stage["initialize"]': "update",
        # What infers says which code it is.
        'module.functions.aws_lambda_function.this["infer"]': "update",
    }
    function = deployed.client("lambda").get_function_configuration(FunctionName="redshift-inference-infer")
    assert function["Environment"]["Variables"]["CODE_VERSION"] == "v2"


def test_another_image_changes_the_three_functions_and_a_plan_nothing_else_but_what_moto_forgets(
    deployed: Deployed, rendezvous: Rendezvous
) -> None:
    changes = deployed.changes("plan", f"-var=image_uri={IMAGE.replace('a' * 64, 'b' * 64)}")

    # moto 5.2.1 keeps neither the description of a rule that names a group nor a service's grace period.
    forgotten = {
        "module.rendezvous[0].aws_ecs_service.this",
        *(
            f'module.rendezvous[0].aws_vpc_security_group_{rule}["{port}"]'
            for rule in ("egress_rule.to_task", "ingress_rule.from_load_balancer")
            for port in ("clients", "health")
        ),
    }
    functions = {f'module.functions.aws_lambda_function.this["{stage}"]' for stage in deployed.outputs["function_arns"]}
    assert changes == dict.fromkeys(functions | forgotten, "update")


# --------------------------------------------------------------------------------------- the server at which ranks meet


def test_its_address_and_its_secret_are_outputs(deployed: Deployed, rendezvous: Rendezvous) -> None:
    found = rendezvous.outputs["rendezvous"]

    (balancer,) = deployed.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert (found["host"], found["port"]) == (balancer["DNSName"], 10000)
    assert balancer["Type"] == "network"
    assert rendezvous.outputs["rendezvous_repository_url"].endswith("/redshift-inference-rendezvous")


def test_the_task_is_confined_and_requires_signed_names(deployed: Deployed, rendezvous: Rendezvous) -> None:
    task = deployed.client("ecs").describe_task_definition(taskDefinition="redshift-inference-rendezvous")[
        "taskDefinition"
    ]

    (container,) = task["containerDefinitions"]
    assert "taskRoleArn" not in task or not task["taskRoleArn"]
    assert container["image"] == SERVER_IMAGE
    assert container["command"] == ["--require-token"]
    assert container["readonlyRootFilesystem"] is True
    assert container["user"] == "65534:65534"
    assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    (secret,) = container["secrets"]
    assert secret["name"] == "RENDEZVOUS_KEY"
    assert secret["valueFrom"].startswith(rendezvous.outputs["rendezvous"]["secret_arn"] + ":::")


def test_clients_reach_one_port_and_only_the_load_balancer_reaches_the_task(
    deployed: Deployed, rendezvous: Rendezvous
) -> None:
    ec2 = deployed.client("ec2")
    groups = {
        group["GroupName"].removeprefix("redshift-inference-rendezvous-"): group
        for group in ec2.describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith("redshift-inference-rendezvous-")
    }

    def inbound(name: str) -> set[tuple[int, str]]:
        return {
            (permission["FromPort"], source)
            for permission in groups[name]["IpPermissions"]
            for source in [
                *(block["CidrIp"] for block in permission["IpRanges"]),
                *(pair["GroupId"] for pair in permission["UserIdGroupPairs"]),
            ]
        }

    balancer = groups["load-balancer"]["GroupId"]
    assert inbound("load-balancer") == {(10000, "0.0.0.0/0")}
    assert inbound("task") == {(10000, balancer), (10001, balancer)}


def test_the_load_balancer_keeps_the_clients_addresses_and_never_checks_their_port(
    deployed: Deployed, rendezvous: Rendezvous
) -> None:
    elb = deployed.client("elbv2")
    (group,) = elb.describe_target_groups()["TargetGroups"]
    attributes = elb.describe_target_group_attributes(TargetGroupArn=group["TargetGroupArn"])["Attributes"]

    assert {"Key": "preserve_client_ip.enabled", "Value": "true"} in attributes
    assert (group["HealthCheckProtocol"], group["HealthCheckPort"], group["HealthCheckPath"]) == (
        "HTTP",
        "10001",
        "/readyz",
    )


def test_the_key_is_in_no_file_of_terraform(deployed: Deployed, rendezvous: Rendezvous) -> None:
    secret = deployed.client("secretsmanager").get_secret_value(SecretId=rendezvous.outputs["rendezvous"]["secret_arn"])

    key = secret["SecretString"]
    assert len(key) == 64
    for path in deployed.terraform.folder.rglob("*.tfstate*"):
        assert key not in path.read_text()


def test_what_starts_the_task_may_pull_its_image_read_its_key_and_log(
    deployed: Deployed, rendezvous: Rendezvous
) -> None:
    iam = deployed.client("iam")
    role = "redshift-inference-rendezvous-us-east-1"
    policy = iam.get_role_policy(RoleName=role, PolicyName="start")["PolicyDocument"]

    may = {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]}

    repository = "arn:aws:ecr:us-east-1:123456789012:repository/redshift-inference-rendezvous"
    logs = "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/redshift-inference-rendezvous:*"
    assert may == {
        "LogInToRegistry": "*",
        "PullImage": repository,
        "ReadKey": rendezvous.outputs["rendezvous"]["secret_arn"],
        "Log": logs,
    }
    assert not [statement for statement in policy["Statement"] if "*" in str(statement["Action"])]


def test_an_alarm_looks_at_this_load_balancer(deployed: Deployed, rendezvous: Rendezvous) -> None:
    (alarm,) = deployed.client("cloudwatch").describe_alarms(AlarmNames=["redshift-inference-rendezvous-down"])[
        "MetricAlarms"
    ]

    assert {dimension["Name"] for dimension in alarm["Dimensions"]} == {"LoadBalancer", "TargetGroup"}
    assert alarm["TreatMissingData"] == "breaching"


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


def test_destroy_says_what_it_deletes_asks_and_leaves_nothing(deployed: Deployed, rendezvous: Rendezvous) -> None:
    s3 = deployed.client("s3")
    bucket = deployed.outputs["bucket"]
    for content in (b"old", b"newer"):
        s3.put_object(Bucket=bucket, Key="results/mine/summary.json", Body=content)
    # Only the mark of a deleted object keeps AWS from deleting a bucket, too.
    s3.delete_object(Bucket=bucket, Key="results/gone")
    assert not Holdings(REGION).is_empty(bucket)
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
    cloudwatch, logs, secrets = (deployed.client(service) for service in ("cloudwatch", "logs", "secretsmanager"))
    ec2, ecs, elb = (deployed.client(service) for service in ("ec2", "ecs", "elbv2"))
    clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
    found = {
        "roles": deployed.client("iam").list_roles()["Roles"],
        "functions": deployed.client("lambda").list_functions()["Functions"],
        "state machines": deployed.client("stepfunctions").list_state_machines()["stateMachines"],
        "repositories": deployed.client("ecr").describe_repositories()["repositories"],
        "log groups": logs.describe_log_groups()["logGroups"],
        "metric filters": logs.describe_metric_filters()["metricFilters"],
        "alarms": cloudwatch.describe_alarms()["MetricAlarms"],
        "dashboards": cloudwatch.list_dashboards()["DashboardEntries"],
        "networks": [network for network in ec2.describe_vpcs()["Vpcs"] if not network["IsDefault"]],
        "security groups": [group for group in ec2.describe_security_groups()["SecurityGroups"] if is_ours(group)],
        "load balancers": elb.describe_load_balancers()["LoadBalancers"],
        "target groups": elb.describe_target_groups()["TargetGroups"],
        "clusters": [cluster for cluster in clusters if cluster["status"] == "ACTIVE"],
        "task definitions": ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"],
        "secrets": secrets.list_secrets()["SecretList"],
    }
    return {kind: entries for kind, entries in found.items() if entries}


def is_ours(security_group: dict[str, Any]) -> bool:
    return "rendezvous" in security_group["GroupName"]


def names(buckets: list[dict[str, Any]]) -> set[str]:
    return {bucket["Name"] for bucket in buckets}


# ------------------------------------------------------------------------------ who may do what, now that all is done


def test_every_call_of_a_whole_life_is_allowed_and_no_statement_is_idle(
    local_aws: LocalAws, roles: dict[str, Role]
) -> None:
    recorded = read_calls(local_aws.log_dir / CALLS)

    for name, role in roles.items():
        calls = [call for call in [*recorded, *unseen_of_roles()] if call.principal == name]
        assert len(calls) > 5
        assert [call for call in calls if not is_allowed(call, role.statements)] == []
        assert [call for call in forbidden() if call.principal == name and is_allowed(call, role.statements)] == []
        assert (
            idle_statements(role.statements, [*calls, *(call for call in forbidden() if call.principal == name)]) == []
        )


def test_the_operators_two_policies_suffice_and_hold_nothing_that_is_not_needed(
    local_aws: LocalAws, rendezvous: Rendezvous
) -> None:
    general, its_own = (json.loads((REPOSITORY / "docs" / name).read_text())["Statement"] for name in POLICIES)
    recorded = [call for call in read_calls(local_aws.log_dir / CALLS) if is_the_operators(call)]
    calls = [*recorded, *unseen_of_operator(), *unseen_of_rendezvous()]
    of_rendezvous = [call for call in calls if any(matches(statement, call) for statement in its_own)]
    others = [call for call in calls if call not in of_rendezvous]

    assert len(others) > 100
    assert len(of_rendezvous) > 50
    assert [call for call in calls if not is_allowed(call, general + its_own)] == []
    assert idle_statements(general, others) == []
    assert idle_statements(its_own, of_rendezvous) == []
    # The second is about nothing that a deployment without a rendezvous asks for.
    assert [call for call in of_rendezvous if not is_for_a_rendezvous(call)] == []
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    for statements in (general, its_own):
        assert len("".join(json.dumps({"Version": "2012-10-17", "Statement": statements}).split())) <= 6144


def is_for_a_rendezvous(call: Call) -> bool:
    service = call.action.partition(":")[0]
    return (
        "rendezvous" in call.resource
        or service in ("ec2", "ecs", "elasticloadbalancing", "route53")
        or (call.action == "iam:CreateServiceLinkedRole")
    )


def test_only_this_state_machine_and_its_ranks_take_its_role(roles: dict[str, Role]) -> None:
    def is_taken_by(source: str, account: str = ACCOUNT) -> bool:
        context = (("aws:SourceAccount", account), ("aws:SourceArn", f"arn:aws:states:{REGION}:{ACCOUNT}:{source}"))
        return is_allowed(Call("states.amazonaws.com", "sts:AssumeRole", "*", context), roles[STATES].trust)

    assert is_taken_by("stateMachine:redshift-inference")
    assert is_taken_by("stateMachine:redshift-inference/InferRanks")
    assert is_taken_by("stateMachine:redshift-inference:1")
    assert not is_taken_by("stateMachine:redshift-inference-2")
    assert not is_taken_by("stateMachine:another")
    assert not is_taken_by("stateMachine:redshift-inference", account="210987654321")


def is_the_operators(call: Call) -> bool:
    """Return whether it is asked of the deployment: who one is needs no permission, a remote state is one's own."""
    # The provider asks for the user where it may not check credentials, as in a rehearsal.
    here = call.action not in ("sts:GetCallerIdentity", "iam:GetUser") and "my-terraform-states" not in call.resource
    return call.principal == OPERATOR and here
