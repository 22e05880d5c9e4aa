"""The deployment that Terraform makes on AWS, made in the local one from the same two files."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.contract import SAMPLE_PREFIX
from scripts.command.aws_clients import new_client
from scripts.command.repository import REPOSITORY
from scripts.data.sample import ensure_sample
from scripts.deployment.stages import function_variables, read_stages
from scripts.local_aws.server import LocalAws

DEFINITION_PATH = REPOSITORY / "terraform" / "state_machine.asl.json"
IMAGE_URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/local:latest"
"""Names no image: the workers run the handlers of this clone."""

STARTS_PER_S = 0.5
"""Workers that a slow machine starts in a second: those of a function start all at once and share its cores."""

PLACEHOLDER = re.compile(r'"\$\{([a-z0-9_]+)\}"')


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What one needs to run the state machine."""

    bucket: str
    state_machine_arn: str
    function_arns: dict[str, str]
    """Stage to function."""


def deploy(
    aws: LocalAws,
    *,
    bucket: str = "redshift-local",
    max_concurrency: int | None = None,
    code_version: str = "local",
    rendezvous: str = "",
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    definition: str | None = None,
    model: Path | None = None,
) -> Deployment:
    """Make bucket, role, functions and state machine in a running local AWS.

    Parameters
    ----------
    aws : LocalAws
        Where to deploy.
    bucket : str
        Name of the bucket.
    max_concurrency : int, optional
        Ranks that run at the same time; the number of workers when absent.
    code_version : str
        What the records state as the version of the code.
    rendezvous : str
        Where ranks meet, ``host:port``; empty where there is no such server.
    stages, definition : optional
        Instead of ``terraform/stages.json`` and ``terraform/state_machine.asl.json``.
    model : Path, optional
        Folder of the model that the functions predict with; the shipped one when absent.
    """
    stages = stages or read_stages()
    definition = definition or DEFINITION_PATH.read_text()
    _make_bucket(aws, bucket)
    role_arn = make_role(aws.credentials)
    variables = function_variables(
        stages,
        code_version=code_version,
        image_digest="local",
        max_concurrency=min(max_concurrency or aws.workers, aws.workers),
        starts_per_s=STARTS_PER_S,
        rendezvous=rendezvous,
        model=model,
    )
    function_arns = _make_functions(aws, stages, variables, role_arn=role_arn)
    values: dict[str, object] = {f"{stage}_arn": arn for stage, arn in function_arns.items()}
    state_machine = new_client("stepfunctions", **aws.credentials).create_state_machine(
        name="redshift-local", definition=render_definition(definition, values), roleArn=role_arn
    )
    return Deployment(bucket=bucket, state_machine_arn=state_machine["stateMachineArn"], function_arns=function_arns)


def upload_sample(aws: LocalAws, bucket: str) -> None:
    """Put the sample dataset under its own prefix, where requests without a prefix look for it."""
    s3 = new_client("s3", **aws.credentials)
    for path in sorted(ensure_sample().iterdir()):
        s3.upload_file(str(path), bucket, f"{SAMPLE_PREFIX}{path.name}")


def render_definition(text: str, values: Mapping[str, object]) -> str:
    """Replace every ``"${name}"`` in a state machine, quotes included, by a JSON value.

    Raises
    ------
    KeyError
        If a placeholder has no value, or a value no placeholder.
    """
    wanted = set(PLACEHOLDER.findall(text))
    if wanted != set(values):
        missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
        raise KeyError(f"Placeholders of the state machine without a value: {missing}; values without one: {unknown}.")
    return PLACEHOLDER.sub(lambda match: json.dumps(values[match[1]]), text)


def _make_bucket(aws: LocalAws, bucket: str) -> None:
    new_client("s3", **aws.credentials).create_bucket(Bucket=bucket)


def make_role(credentials: Mapping[str, str]) -> str:
    """Make the role that functions and state machine have, or find it; return its ARN."""
    iam = new_client("iam", **credentials)
    services = {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]}
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": services, "Action": "sts:AssumeRole"}],
    }
    try:
        role = iam.create_role(RoleName="redshift-local", AssumeRolePolicyDocument=json.dumps(trust))
    except iam.exceptions.EntityAlreadyExistsException:
        role = iam.get_role(RoleName="redshift-local")
    arn: str = role["Role"]["Arn"]
    return arn


def _make_functions(
    aws: LocalAws, stages: Mapping[str, Mapping[str, Any]], variables: Mapping[str, str], *, role_arn: str
) -> dict[str, str]:
    functions = new_client("lambda", **aws.credentials)
    arns: dict[str, str] = {}
    for stage, settings in stages.items():
        function = functions.create_function(
            FunctionName=stage,
            Role=role_arn,
            PackageType="Image",
            Code={"ImageUri": IMAGE_URI},
            ImageConfig={"Command": [settings["handler"]]},
            MemorySize=settings["memory_mb"],
            Timeout=settings["timeout_s"],
            EphemeralStorage={"Size": settings["ephemeral_mb"]},
            Environment={"Variables": dict(variables)},
        )
        arns[stage] = function["FunctionArn"]
    return arns
