"""What the integration tests of the local AWS share."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from scripts.local_aws.deploy import IMAGE_URI, Deployment, deploy, make_role
from tests.forked import LocalAws

MARK = "PYTHON_TEST_MARK"
"""A variable that workers inherit, as those of Python."""

ECHO = "tests.integration.functions.echo.handler"


class LocalCloud:
    """A local AWS with stand-in functions deployed, and what the tests do with it."""

    def __init__(self, aws: LocalAws, deployment: Deployment) -> None:
        self.aws = aws
        self.deployment = deployment
        self.s3 = boto3.client("s3", **aws.credentials)
        self.step_functions = boto3.client("stepfunctions", **aws.credentials)
        self.functions = boto3.client("lambda", **aws.credentials)

    def invoke(self, function: str = "infer", **event: Any) -> tuple[str | None, Any]:
        """Return the function error, if any, and the decoded payload."""
        answer = self.functions.invoke(FunctionName=function, Payload=json.dumps(event))
        return answer.get("FunctionError"), json.load(answer["Payload"])

    def state_machine(self, name: str, states: Mapping[str, Any]) -> str:
        """Make a state machine that starts at its first state."""
        definition = {"StartAt": next(iter(states)), "States": states}
        made = self.step_functions.create_state_machine(
            name=name, definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/redshift-local"
        )
        return made["stateMachineArn"]

    def execute(self, state_machine_arn: str, name: str, payload: object) -> dict[str, Any]:
        """Run an execution to its end and return its description."""
        started = self.step_functions.start_execution(
            stateMachineArn=state_machine_arn, name=name, input=json.dumps(payload)
        )
        return self.wait(started["executionArn"])

    def wait(self, execution_arn: str) -> dict[str, Any]:
        """Return the description of an execution once it has ended."""

        def ended() -> bool:
            return self.step_functions.describe_execution(executionArn=execution_arn)["status"] != "RUNNING"

        wait_until(ended)
        return self.step_functions.describe_execution(executionArn=execution_arn)


def stage(handler: str, *, memory_mb: int = 256, timeout_s: int = 20) -> dict[str, Any]:
    """Return one entry of a table of stages."""
    return {"handler": handler, "memory_mb": memory_mb, "timeout_s": timeout_s, "ephemeral_mb": 600}


def make_functions(credentials: Mapping[str, str], *names: str) -> Any:
    """Make functions that echo, where no whole deployment is needed; return a client of Lambda."""
    functions, role_arn = boto3.client("lambda", **credentials), make_role(credentials)
    for name in names:
        functions.create_function(
            FunctionName=name,
            Role=role_arn,
            PackageType="Image",
            Code={"ImageUri": IMAGE_URI},
            ImageConfig={"Command": [ECHO]},
            MemorySize=256,
            Timeout=60,
        )
    return functions


def wait_until(condition: Callable[[], object], *, timeout_s: float = 60) -> None:
    """Return when `condition` holds."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.02
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, 0.1)


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def marked_processes(mark: str) -> list[int]:
    """Return the processes that inherited the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Serve the repository's own state machine over stand-in functions, two workers each."""
    stages = {
        "initialize": stage("tests.integration.functions.plan.handler"),
        "infer": stage(ECHO, timeout_s=3),
        "summarize": stage("tests.integration.functions.nothing.handler"),
    }
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=2) as aws:
        yield LocalCloud(aws, deploy(aws, stages=stages))
