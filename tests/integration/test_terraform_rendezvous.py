"""The server at which ranks meet, applied to the local AWS with `rendezvous = true`: what is made, and that it goes."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from scripts.command.repository import REPOSITORY
from scripts.deployment.terraform import Terraform
from scripts.local_aws.server import LocalAws
from tests.iam import ACCOUNT, OPERATOR, Call, idle_statements, is_allowed, read_calls
from tests.integration.test_terraform import copy_configuration
from tests.terraform_provider import planned_changes, shared_provider

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(600),
]

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference-rendezvous@sha256:" + "b" * 64
# The rest of the deployment has tests of its own.
TARGETS = ("-target=module.rendezvous", "-target=module.rendezvous_registry")
SERVER = "module.rendezvous[0]"
CALLS = "calls.jsonl"
POLICIES = ("operator-policy.json", "operator-policy-rendezvous.json")


@dataclass
class Deployed:
    """A rendezvous in the local AWS."""

    aws: LocalAws
    terraform: Terraform
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(service, **self.aws.credentials)

    def plan(self) -> dict[str, str]:
        """Plan; return resource → what would be done to it."""
        return planned_changes(self.terraform.read("plan", "-json", "-input=false", *TARGETS))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch, LocalAws(log_dir=logs, workers=1, call_log=logs / CALLS) as aws:
        for name in [name for name in os.environ if name.startswith(("AWS_", "TF_"))]:
            patch.delenv(name)
        variables = {"local_endpoint": aws.endpoint_url, "rendezvous": "true", "rendezvous_image_uri": IMAGE}
        for name, value in {
            **aws.environment,
            **{f"TF_VAR_{name}": value for name, value in variables.items()},
        }.items():
            patch.setenv(name, value)
        with shared_provider(copy_configuration(tmp_path_factory.mktemp("deployment") / "terraform")) as terraform:
            found = Deployed(aws, terraform, {})
            threading.Thread(target=look_at_the_load_balancer, args=(found,), daemon=True).start()
            terraform.read("apply", "-input=false", "-auto-approve", *TARGETS)
            found.outputs = terraform.outputs()
            yield found


def look_at_the_load_balancer(deployed: Deployed) -> None:
    """Look until it is there: moto makes it active for those who have looked once, and Terraform looks every 10 s."""
    client = deployed.client("elbv2")
    while not client.describe_load_balancers()["LoadBalancers"]:
        time.sleep(0.5)


def test_its_address_and_its_secret_are_outputs(deployed: Deployed) -> None:
    found = deployed.outputs["rendezvous"]

    (balancer,) = deployed.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert (found["host"], found["port"]) == (balancer["DNSName"], 10000)
    assert balancer["Type"] == "network"
    assert deployed.outputs["rendezvous_repository_url"].endswith("/redshift-inference-rendezvous")


def test_the_task_is_confined_and_requires_signed_names(deployed: Deployed) -> None:
    task = deployed.client("ecs").describe_task_definition(taskDefinition="redshift-inference-rendezvous")[
        "taskDefinition"
    ]

    (container,) = task["containerDefinitions"]
    assert "taskRoleArn" not in task or not task["taskRoleArn"]
    assert container["image"] == IMAGE
    assert container["command"] == ["--require-token"]
    assert container["readonlyRootFilesystem"] is True
    assert container["user"] == "65534:65534"
    assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    (secret,) = container["secrets"]
    assert secret["name"] == "RENDEZVOUS_KEY"
    assert secret["valueFrom"].startswith(deployed.outputs["rendezvous"]["secret_arn"] + ":::")


def test_clients_reach_one_port_and_only_the_load_balancer_reaches_the_task(deployed: Deployed) -> None:
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


def test_the_load_balancer_keeps_the_clients_addresses_and_never_checks_their_port(deployed: Deployed) -> None:
    elb = deployed.client("elbv2")
    (group,) = elb.describe_target_groups()["TargetGroups"]
    attributes = elb.describe_target_group_attributes(TargetGroupArn=group["TargetGroupArn"])["Attributes"]

    assert {"Key": "preserve_client_ip.enabled", "Value": "true"} in attributes
    assert (group["HealthCheckProtocol"], group["HealthCheckPort"], group["HealthCheckPath"]) == (
        "HTTP",
        "10001",
        "/readyz",
    )


def test_the_key_is_in_no_file_of_terraform(deployed: Deployed) -> None:
    secret = deployed.client("secretsmanager").get_secret_value(SecretId=deployed.outputs["rendezvous"]["secret_arn"])

    key = secret["SecretString"]
    assert len(key) == 64
    for path in deployed.terraform.folder.rglob("*.tfstate*"):
        assert key not in path.read_text()


def test_what_starts_the_task_may_pull_its_image_read_its_key_and_log(deployed: Deployed) -> None:
    iam = deployed.client("iam")
    role = "redshift-inference-rendezvous-us-east-1"
    policy = iam.get_role_policy(RoleName=role, PolicyName="start")["PolicyDocument"]

    may = {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]}

    repository = "arn:aws:ecr:us-east-1:123456789012:repository/redshift-inference-rendezvous"
    logs = "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/redshift-inference-rendezvous:*"
    assert may == {
        "LogInToRegistry": "*",
        "PullImage": repository,
        "ReadKey": deployed.outputs["rendezvous"]["secret_arn"],
        "Log": logs,
    }
    assert not [statement for statement in policy["Statement"] if "*" in str(statement["Action"])]


def test_an_alarm_looks_at_this_load_balancer(deployed: Deployed) -> None:
    (alarm,) = deployed.client("cloudwatch").describe_alarms(AlarmNames=["redshift-inference-rendezvous-down"])[
        "MetricAlarms"
    ]

    assert {dimension["Name"] for dimension in alarm["Dimensions"]} == {"LoadBalancer", "TargetGroup"}
    assert alarm["TreatMissingData"] == "breaching"


def test_a_second_plan_changes_only_what_moto_forgets(deployed: Deployed) -> None:
    # moto 5.2.1 keeps neither the description of a rule that names a group nor a service's grace period.
    forgotten = {
        f"{SERVER}.aws_ecs_service.this",
        *(
            f'{SERVER}.aws_vpc_security_group_{rule}["{port}"]'
            for rule in ("egress_rule.to_task", "ingress_rule.from_load_balancer")
            for port in ("clients", "health")
        ),
    }

    assert deployed.plan() == dict.fromkeys(forgotten, "update")


def test_destroy_leaves_nothing(deployed: Deployed) -> None:
    deployed.terraform.read("destroy", "-input=false", "-auto-approve", "-refresh=false")

    ec2, ecs = deployed.client("ec2"), deployed.client("ecs")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    left = {
        "networks": [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]],
        "security groups": [group for group in groups if "rendezvous" in group["GroupName"]],
        "load balancers": deployed.client("elbv2").describe_load_balancers()["LoadBalancers"],
        "target groups": deployed.client("elbv2").describe_target_groups()["TargetGroups"],
        "clusters": [
            cluster
            for cluster in ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
            if cluster["status"] == "ACTIVE"
        ],
        "task definitions": ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"],
        "secrets": deployed.client("secretsmanager").list_secrets()["SecretList"],
        "repositories": deployed.client("ecr").describe_repositories()["repositories"],
        "log groups": deployed.client("logs").describe_log_groups()["logGroups"],
        "roles": deployed.client("iam").list_roles()["Roles"],
        "alarms": deployed.client("cloudwatch").describe_alarms()["MetricAlarms"],
    }
    assert {kind: entries for kind, entries in left.items() if entries} == {}
    assert deployed.terraform.read("state", "list") == ""


def test_the_operators_two_policies_suffice_for_it_and_hold_nothing_that_is_not_needed(deployed: Deployed) -> None:
    general, its_own = (json.loads((REPOSITORY / "docs" / name).read_text()) for name in POLICIES)
    recorded = [call for call in read_calls(deployed.aws.log_dir / CALLS) if call.principal == OPERATOR]
    calls = [call for call in recorded if call.action not in ("sts:GetCallerIdentity", "iam:GetUser")] + unseen()

    statements = general["Statement"] + its_own["Statement"]

    assert len(calls) > 60
    assert [call for call in calls if not is_allowed(call, statements)] == []
    assert [sid for sid in idle_statements(statements, calls) if sid.startswith("Rendezvous")] == []
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    assert len("".join(json.dumps(its_own).split())) <= 6144


def unseen() -> list[Call]:
    """Return what the local AWS is not asked for: the first of its kind in an account, and a record of one's own."""
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    zone = "arn:aws:route53:::hostedzone/Z0"
    return [
        Call(OPERATOR, "iam:CreateServiceLinkedRole", role, (("iam:AWSServiceName", "ecs.amazonaws.com"),)),
        *(Call(OPERATOR, f"route53:{verb}", zone) for verb in ("ChangeResourceRecordSets", "GetHostedZone")),
        Call(OPERATOR, "route53:GetChange", "arn:aws:route53:::change/C0"),
    ]
