"""The stack's twins for other memory sizes: made beside it for a sweep, removed after it, unknown to Terraform.

A function has one memory. Changing the deployed one, or the definition that names it, would be drift that a kill leaves
behind; an alias would need rights that the state machine's role does not have. So a sweep makes functions, a role and
state machines of its own, from what is deployed and under names of its own, and touches nothing that is there.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from scripts.command.aws_errors import is_denied
from scripts.command.whole_file import write_whole
from scripts.deployment.stack import Stack, StackError
from scripts.runs.target import AwsTarget

FILE_NAME = "borrowed.json"
MAX_NAME = 64
"""Longest name of a function or a role."""

STAGES = ("initialize", "infer")
"""Stages with a twin: Infer has the memory, Initialize plans for it."""

IAM_SETTLES_S = 10.0
"""A new role is known everywhere in AWS after some seconds, and nothing says when."""

SAME = ("Role", "Timeout", "Architectures", "EphemeralStorage", "LoggingConfig", "TracingConfig")
"""What of a function its twin has too."""

ASSUME_ATTEMPTS = 15
ASSUME_PAUSE_S = 2.0
GONE = {"ResourceNotFoundException", "NoSuchEntity", "NoSuchEntityException", "StateMachineDoesNotExist"}


class Made(msgspec.Struct, frozen=True):
    """One thing that a sweep makes, noted before it is made."""

    kind: str
    """``role``, ``function`` or ``state machine``."""

    name: str
    """Its name, or its ARN where that is what deletes it."""


class Borrowed:
    """Makes twins of a stack and removes them.

    Parameters
    ----------
    target : AwsTarget
        The stack.
    folder : Path
        The sweep's folder: what was made is noted there, so that a later sweep removes what a killed one left.
    token : str
        Part of every name, so that two sweeps never share one.
    """

    def __init__(
        self, target: AwsTarget, folder: Path, token: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._target = target
        self._stack = target.stack
        self._note = folder / FILE_NAME
        self._token = token
        self._sleep = sleep
        self._twins: dict[int, Stack] = {}
        self._role_arn = ""

    def stack_with(self, memory_mb: int) -> Stack:
        """Return the stack's twin whose ranks have that memory [MB]; made when it is first asked for.

        Raises
        ------
        ClientError
            If AWS refuses to make something.
        """
        if memory_mb not in self._twins:
            self._role_arn = self._role_arn or self._make_role()
            arns = {stage: self._make_function(stage, memory_mb) for stage in STAGES}
            self._twins[memory_mb] = msgspec.structs.replace(
                self._stack,
                state_machine_arn=self._make_state_machine(memory_mb, arns),
                function_names=self._stack.function_names | {stage: arn.rsplit(":")[-1] for stage, arn in arns.items()},
                stages={
                    **self._stack.stages,
                    "infer": msgspec.structs.replace(self._stack.stages["infer"], memory_mb=memory_mb),
                },
            )
        return self._twins[memory_mb]

    def remove_left(self) -> None:
        """Remove everything that the note names, the newest first.

        Raises
        ------
        StackError
            Naming what could not be removed; the note keeps it.
        """
        for made in reversed(self._noted()):
            try:
                self._remove(made)
            except ClientError as error:
                if error.response["Error"]["Code"] not in GONE:
                    raise StackError(
                        f"The {made.kind} {made.name}, which the sweep made, could not be removed: {error}. Remove it, "
                        f"or go on with the sweep, which tries again; {self._note} names all that is left."
                    ) from error
            self._write_note([other for other in self._noted() if other != made])
        self._twins, self._role_arn = {}, ""

    # -------------------------------------------------------------------------------------------- what is made

    def _make_role(self) -> str:
        """Make the role of the twins' state machines: what the deployed one's role may, and to call the twins."""
        iam, name = self._client("iam"), self._name(self._stack.name, self._stack.region)
        machines = self._stack.state_machine_arn + self._suffix("*")
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "states.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                    "Condition": {
                        "StringEquals": {"aws:SourceAccount": self._stack.account_id},
                        "ArnLike": {"aws:SourceArn": machines},
                    },
                }
            ],
        }
        self._about_to_make("role", name)
        arn: str = iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Description="Of a sweep; goes with it."
        )["Role"]["Arn"]
        deployed = self._describe_machine()["roleArn"].rsplit("/", maxsplit=1)[-1]
        for policy in iam.list_role_policies(RoleName=deployed)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=deployed, PolicyName=policy)["PolicyDocument"]
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
        iam.put_role_policy(RoleName=name, PolicyName="sweep", PolicyDocument=json.dumps(self._policy(machines)))
        return arn

    def _policy(self, machines: str) -> dict[str, Any]:
        executions = machines.replace(":stateMachine:", ":execution:")
        functions = [f"{self._function(stage)['FunctionArn']}{self._suffix('*')}" for stage in STAGES]
        allowed = (
            (["lambda:InvokeFunction"], functions),
            (["states:StartExecution"], [machines]),
            (["states:DescribeExecution", "states:StopExecution"], [f"{executions}:*", f"{executions}/*"]),
        )
        statements = [{"Effect": "Allow", "Action": actions, "Resource": on} for actions, on in allowed]
        return {"Version": "2012-10-17", "Statement": statements}

    def _make_function(self, stage: str, memory_mb: int) -> str:
        """Make a function like the deployed one but for its memory; its log group is the deployed one's."""
        functions, deployed = self._client("lambda"), self._function(stage)
        name = self._name(self._stack.function_names[stage], str(memory_mb))
        image_uri = functions.get_function(FunctionName=self._stack.function_names[stage])["Code"]["ImageUri"]
        variables = dict(deployed.get("Environment", {}).get("Variables", {}))
        if "INFER_MEMORY_MB" in variables:
            variables["INFER_MEMORY_MB"] = str(memory_mb)
        same = {key: deployed[key] for key in SAME if key in deployed}
        self._about_to_make("function", name)
        arn: str = functions.create_function(
            **same,
            FunctionName=name,
            Description="Of a sweep; goes with it.",
            PackageType="Image",
            Code={"ImageUri": image_uri},
            ImageConfig={"Command": deployed["ImageConfigResponse"]["ImageConfig"]["Command"]},
            MemorySize=memory_mb if stage == "infer" else deployed["MemorySize"],
            Environment={"Variables": variables},
        )["FunctionArn"]
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        return arn

    def _make_state_machine(self, memory_mb: int, arns: Mapping[str, str]) -> str:
        """Make a state machine with the deployed definition that calls the twins."""
        definition = json.loads(self._describe_machine()["definition"])
        states = definition["States"]
        states["Initialize"]["Parameters"]["FunctionName"] = arns["initialize"]
        states["InferRanks"]["ItemProcessor"]["States"]["Infer"]["Parameters"]["FunctionName"] = arns["infer"]
        arn = self._stack.state_machine_arn + self._suffix(str(memory_mb))
        self._about_to_make("state machine", arn)
        for attempt in range(1, ASSUME_ATTEMPTS + 1):
            try:
                self._client("stepfunctions").create_state_machine(
                    name=arn.rsplit(":", maxsplit=1)[-1], definition=json.dumps(definition), roleArn=self._role_arn
                )
                break
            except ClientError as error:
                # Step Functions cannot assume the role until it is known everywhere.
                if not is_denied(error) or attempt == ASSUME_ATTEMPTS:
                    raise
                self._sleep(ASSUME_PAUSE_S)
        if not self._twins and "amazonaws.com" in self._client("iam").meta.endpoint_url:
            self._sleep(IAM_SETTLES_S)
        return arn

    # -------------------------------------------------------------------------------------------- what is there

    def _client(self, service: str) -> Any:
        return self._target.account.client(service)

    def _function(self, stage: str) -> dict[str, Any]:
        name = self._stack.function_names[stage]
        found: dict[str, Any] = self._client("lambda").get_function_configuration(FunctionName=name)
        return found

    def _describe_machine(self) -> dict[str, Any]:
        arn = self._stack.state_machine_arn
        found: dict[str, Any] = self._client("stepfunctions").describe_state_machine(stateMachineArn=arn)
        return found

    def _suffix(self, end: str) -> str:
        return f"-sweep-{self._token}-{end}"

    def _name(self, of: str, end: str) -> str:
        name = of + self._suffix(end)
        if len(name) > MAX_NAME:
            raise StackError(f"{name} is longer than the {MAX_NAME} characters of a name: deploy under a shorter one.")
        return name

    # -------------------------------------------------------------------------------------------- what is left

    def _remove(self, made: Made) -> None:
        if made.kind == "function":
            self._client("lambda").delete_function(FunctionName=made.name)
        elif made.kind == "state machine":
            self._client("stepfunctions").delete_state_machine(stateMachineArn=made.name)
        else:
            iam = self._client("iam")
            for policy in iam.list_role_policies(RoleName=made.name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=made.name, PolicyName=policy)
            iam.delete_role(RoleName=made.name)

    def _about_to_make(self, kind: str, name: str) -> None:
        self._write_note([*self._noted(), Made(kind, name)])

    def _noted(self) -> list[Made]:
        return msgspec.json.decode(self._note.read_bytes(), type=list[Made]) if self._note.exists() else []

    def _write_note(self, made: list[Made]) -> None:
        if not made:
            self._note.unlink(missing_ok=True)
            return
        write_whole(self._note, msgspec.json.format(msgspec.json.encode(made), indent=2))
