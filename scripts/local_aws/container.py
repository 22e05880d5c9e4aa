"""The built image as Lambda would run it: under the Runtime Interface Emulator, within the limits of its stage."""

import contextlib
import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Self

from inference.plan import MB_PER_VCPU
from scripts.deployment.image.build import Image, image_name, inspect, machine_architecture
from scripts.deployment.image.engine import Engine, EngineError, find_engine
from scripts.deployment.stages import function_variables, read_stages
from scripts.local_aws.lambda_variables import lambda_variables
from scripts.local_aws.rie import Answer, Emulator, emulator, readable_log
from scripts.local_aws.server import LocalAws

RIE_PATH = "/usr/local/bin/aws-lambda-rie"
LISTEN_ALLOWANCE_S = 60.0


class Container:
    """One execution environment of one function, on this machine.

    Parameters
    ----------
    engine, image
        What to run and with what.
    stage : mapping
        ``handler``, ``memory_mb``, ``timeout_s`` and ``ephemeral_mb``, as in ``terraform/stages.json``.
    environment : mapping
        Variables of the function.
    name : str
        Name of the function.

    Notes
    -----
    The file system is read-only but for /tmp, the user has a random number and no capability, and the memory, CPU and
    /tmp are those that Lambda gives the stage. The network is the machine's, so that a local AWS at 127.0.0.1 is
    reached; the emulator listens on 127.0.0.1 only.
    """

    def __init__(
        self, engine: Engine, image: Image, *, stage: Mapping[str, Any], environment: Mapping[str, str], name: str
    ) -> None:
        self.memory_mb = int(stage["memory_mb"])
        self.timeout_s = int(stage["timeout_s"])
        self.name = f"{name}-{uuid.uuid4().hex[:8]}"
        self._engine = engine
        self._image = image
        self._stage = stage
        self._environment = environment
        self._function = name
        self._place = Emulator()

    @property
    def url(self) -> str:
        """Where to POST events."""
        return self._place.url

    def __enter__(self) -> Self:
        """Start the container; its runtime starts with the first invocation, as a cold start does."""
        variables = self._variables()
        self._engine.run(
            *("run", "--detach", "--name", self.name),
            *self._limits(),
            *("--volume", f"{emulator()}:{RIE_PATH}:ro", "--entrypoint", RIE_PATH),
            *(word for name in variables for word in ("--env", name)),
            self._image.name,
            *self._place.arguments(["/usr/local/bin/python", "-m", "awslambdaric", str(self._stage["handler"])]),
            variables=variables,
        )
        try:
            if not self._place.wait(self._is_running, LISTEN_ALLOWANCE_S):
                raise EngineError(f"The container did not start:\n{self.log()[-2000:]}")
        except EngineError:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End and remove the container."""
        self.stop()

    def invoke(self, event: object) -> Answer:
        """Run one invocation, as `Emulator.invoke`."""
        return self._place.invoke(event)

    def log(self) -> str:
        """Return what the function and the emulator printed."""
        return self._engine.run("logs", self.name, with_stderr=True)

    def run(self, *command: str) -> str:
        """Run a command inside the container."""
        return self._engine.run("exec", self.name, *command)

    def stop(self) -> None:
        """End and remove the container."""
        with contextlib.suppress(EngineError):
            self._engine.run("rm", "--force", "--volumes", self.name)

    def _is_running(self) -> bool:
        return self._engine.run("inspect", "--format", "{{.State.Running}}", self.name) == "true"

    def _limits(self) -> list[str]:
        # Podman would add writable places of its own to a read-only file system. Lambda shows nothing below /sys.
        no_sys = ["--tmpfs", "/sys:ro", "--tmpfs", "/sys/fs/cgroup:ro"]
        strict = ["--read-only-tmpfs=false", *no_sys] if self._engine.program == "podman" else []
        # Lambda's user is in no list of users, and whichever it is may change.
        user = 1000 + secrets.randbelow(59_000)
        return [
            *("--network", "host", "--read-only", *strict),
            *("--tmpfs", f"/tmp:rw,nosuid,nodev,size={self._stage['ephemeral_mb']}m,mode=1777"),  # noqa: S108
            *("--user", f"{user}:{user}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            # Equal, so that no swap lengthens the memory.
            *("--memory", f"{self.memory_mb}m", "--memory-swap", f"{self.memory_mb}m"),
            *("--cpus", f"{self.memory_mb / MB_PER_VCPU:.3f}", "--pids-limit", "1024"),
        ]

    def _variables(self) -> dict[str, str]:
        return {
            **self._environment,
            **lambda_variables(self._function, memory_mb=self.memory_mb, log_stream=self.name),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_s),
        }


def answer_from_image(aws: LocalAws, function: str, event: object) -> tuple[Answer, str]:
    """Invoke one function of the image built for this machine; return its answer and its log, as `answer_from_clone`.

    Raises
    ------
    EngineError
        If there is no engine or no image.
    """
    stages = read_stages()
    engine = find_engine()
    image = inspect(engine, image_name(machine_architecture()))
    environment = aws.environment | image_variables(stages, image)
    with Container(engine, image, stage=stages[function], environment=environment, name=function) as container:
        return container.invoke(event), readable_log(container.log())


def image_variables(stages: Mapping[str, Mapping[str, Any]], image: Image) -> dict[str, str]:
    """Return what a deployment of the image sets on every function."""
    return function_variables(stages, code_version=image.revision, image_digest=f"sha256:{image.id}")
