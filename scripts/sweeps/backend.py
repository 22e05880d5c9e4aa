"""Where the runs of a sweep go: one target for all of them, whose memory per rank can be set."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import msgspec
from botocore.exceptions import ClientError

from scripts.command.aws_clients import new_client
from scripts.command.aws_errors import is_denied
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.deployment.stack import Stack
from scripts.deployment.stages import read_stages
from scripts.deployment.variants import MemoryVariants
from scripts.local_aws.server import client_arguments
from scripts.pricing.cost import Rates
from scripts.pricing.prices import LOCAL_REGION
from scripts.runs.run_folder import local_rates
from scripts.runs.target import LOCAL_CONFIG, AwsTarget, LocalTarget, Target, start_local
from scripts.sweeps.plan import Setting

SETTLE_S = 60.0
"""How long a run that was just stopped may take to end."""

POLL_S = 2.0


class Backend:
    """Gives a target to every run of a sweep; entered once, left when the sweep ends.

    Parameters
    ----------
    stack : Stack or None
        What is deployed; None on this machine.
    memories_mb : sequence of int
        Memory sizes of the sweep [MB].
    """

    name: str
    """``local`` or ``aws``."""

    region: str
    """Whose prices count."""

    max_concurrency: int
    """Ranks that run at the same time."""

    buckets: tuple[str | None, ...] = ()
    """Buckets that datasets may be read from; none where they are on this machine."""

    def __init__(self, stack: Stack | None, memories_mb: Sequence[int]) -> None:
        self._stack = stack
        self._deployed_mb = stack.stages["infer"].memory_mb if stack else int(read_stages()["infer"]["memory_mb"])
        self._memories_mb = [memory_mb for memory_mb in memories_mb if self.variant(memory_mb)]

    def __enter__(self) -> Self:
        """Make ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave everything as it was."""

    def variant(self, memory_mb: int | None) -> int | None:
        """Return the memory that a run has to ask for [MB]; None where it is the deployed one."""
        return None if memory_mb == self._deployed_mb else memory_mb

    def target(self, memory_mb: int | None) -> Target:
        """Return where a run goes whose ranks have that memory [MB]; as deployed when None."""
        raise NotImplementedError

    def rates(self, memory_mb: int | None) -> Rates:
        """Return what decides the price of such a run; of a local one if it were deployed."""
        return rates_of(self._stack, memory_mb or self._deployed_mb)

    def is_cold(self, setting: Setting) -> bool:  # noqa: ARG002
        """Return whether a run of that setting would pay for starts that the next one does not.

        False where that cannot be known: on AWS cold starts are a part of what Lambda does.
        """
        return False

    def after(self, folder: Path) -> None:
        """Add to the results of a run what the backend has of it; CloudWatch keeps its logs."""

    def renew(self) -> None:
        """Make ready again after a run that the backend failed."""


class LocalBackend(Backend):
    """The local AWS, started once for all runs by the first one.

    Parameters
    ----------
    log_dir : Path
        Folder for the logs of its server and workers.
    memories_mb : sequence of int
        Memory sizes of the sweep [MB].
    model : Path, optional
        Folder of the model; the shipped one when absent.

    Notes
    -----
    Memory sets two things, as on Lambda: the threads of an engine (one per 1,769 MB) and the limit above which a worker
    is killed. A worker is replaced when its version of the function changes, and loads an engine when it is first asked
    for it.
    """

    name = "local"
    region = LOCAL_REGION

    def __init__(self, log_dir: Path, memories_mb: Sequence[int], model: Path | None = None) -> None:
        super().__init__(None, memories_mb)
        self.max_concurrency = num_cores()
        self._log_dir = log_dir
        self._model = model
        self._served = ExitStack()
        self._target: LocalTarget | None = None
        self._memory_mb: int | None = None
        self._logged: dict[Path, int] = {}
        self._warm: set[tuple[object, ...]] = set()

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self.renew()

    def target(self, memory_mb: int | None) -> Target:
        """Return the local AWS, started if it is not there."""
        if self._target is None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            started = self._served.enter_context(start_local(self._log_dir, self._model))
            assert isinstance(started, LocalTarget), "it was started here"
            functions = new_client("lambda", config=LOCAL_CONFIG, **client_arguments(started.endpoint_url, started.key))
            MemoryVariants(functions, "infer").make(self._memories_mb)
            self._target = started
        if self.variant(memory_mb) != self._memory_mb:
            self._memory_mb = self.variant(memory_mb)
            self._warm.clear()
        self._logged = {path: path.stat().st_size for path in self._log_dir.glob("*.log")}
        return self._target

    def is_cold(self, setting: Setting) -> bool:
        """Return whether the workers have not had this memory and this engine yet; asking is taken for warming up."""
        self.target(setting.memory)
        loaded = (setting.engine, setting.precision, setting.profile)
        is_cold = loaded not in self._warm
        self._warm.add(loaded)
        return is_cold

    def after(self, folder: Path) -> None:
        """Copy what the workers have logged since the run began."""
        if not folder.exists():
            return
        (folder / "logs").mkdir(exist_ok=True)
        for path in self._log_dir.glob("*.log"):
            with path.open("rb") as log:
                log.seek(self._logged.get(path, 0))
                if lines := log.read():
                    (folder / "logs" / path.name).write_bytes(lines)

    def renew(self) -> None:
        """End the server; the next run starts another one."""
        self._served.close()
        self._target = None
        self._warm.clear()


class AwsBackend(Backend):
    """The deployed stack, with versions of Infer for other memory sizes while the sweep is running.

    Parameters
    ----------
    target : AwsTarget
        The stack.
    memories_mb : sequence of int
        Memory sizes of the sweep [MB].
    """

    name = "aws"

    def __init__(
        self, target: AwsTarget, memories_mb: Sequence[int], *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(target.stack, memories_mb)
        self.region = target.stack.region
        self.max_concurrency = target.stack.max_concurrency
        self.buckets = (target.stack.bucket, target.stack.data_bucket)
        self._target = target
        self._variants = MemoryVariants(target.account.client("lambda"), target.stack.function_names["infer"])
        self._sleep = sleep

    def __enter__(self) -> Self:
        """Make the other memory sizes, without what an earlier sweep left that was killed.

        Raises
        ------
        UsageError
            If another run is running in the stack, whose function must not change.
        """
        if self._memories_mb or self._is_changed():
            self._wait_for_others()
            self._variants.remove()
        try:
            if self._memories_mb:
                self._variants.make(self._memories_mb)
        except BaseException:
            self._variants.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the other memory sizes."""
        if self._memories_mb:
            self._variants.remove()

    def target(self, memory_mb: int | None) -> Target:
        """Return the stack as it is to a run with that memory: its bill counts it."""
        stack = self._target.stack
        infer = msgspec.structs.replace(stack.stages["infer"], memory_mb=memory_mb or self._deployed_mb)
        stages = {**stack.stages, "infer": infer}
        return AwsTarget(msgspec.structs.replace(stack, stages=stages), self._target.account)

    def _is_changed(self) -> bool:
        """Return whether a killed sweep left versions, or another memory, which this sweep would measure."""
        try:
            return bool(self._variants.versions())
        except ClientError as error:
            # Without a memory of its own, a sweep needs no right to see the function.
            if is_denied(error):
                return False
            raise

    def _wait_for_others(self) -> None:
        asked = {"stateMachineArn": self._target.state_machine_arn, "statusFilter": "RUNNING", "maxResults": 1}
        for attempt in range(int(SETTLE_S / POLL_S)):
            if attempt:
                self._sleep(POLL_S)
            running = self._target.states.list_executions(**asked)["executions"]
            if not running:
                return
        raise UsageError(
            f"MEMORY: {running[0]['name']} runs in this stack, and for other memory sizes its function changes for "
            "some seconds. Start the sweep when it has ended; `make stop RUN=name` ends it."
        )


def rates_of(stack: Stack | None, memory_mb: int) -> Rates:
    """Return what decides the price of a run with `memory_mb` per rank; of a local one as it would be deployed."""
    rates = stack.rates if stack else local_rates()
    return replace(rates, memory_mb={**rates.memory_mb, "infer": memory_mb})
