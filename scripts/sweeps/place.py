"""Where the runs of a sweep go: one target for all of them, whose memory per rank can be set."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import boto3

from scripts.command.machine import num_cores
from scripts.deployment.stages import read_stages
from scripts.local_aws.server import client_arguments
from scripts.pricing.cost import Rates
from scripts.pricing.prices import LOCAL_REGION
from scripts.runs.target import LOCAL_CONFIG, AwsTarget, LocalTarget, Target, start_local
from scripts.sweeps.borrowed import Borrowed
from scripts.sweeps.plan import Setting
from scripts.sweeps.price import rates_of


class Place(Protocol):
    """Gives a target to every run; entered once, left when the sweep ends."""

    @property
    def name(self) -> str:
        """``local`` or ``aws``."""

    @property
    def region(self) -> str:
        """Whose prices count."""

    @property
    def max_concurrency(self) -> int:
        """Ranks that run at the same time."""

    @property
    def buckets(self) -> tuple[str | None, ...]:
        """Buckets that datasets may be read from; none where they lie on this machine."""

    def __enter__(self) -> Self:
        """Make ready."""

    def __exit__(self, *_: object) -> None:
        """Leave everything as it was."""

    def target(self, memory_mb: int | None) -> Target:
        """Return where a run goes whose ranks have that memory; as deployed when None."""

    def rates(self, memory_mb: int | None) -> Rates:
        """Return what decides the price of such a run."""

    def is_cold(self, setting: Setting) -> bool:
        """Return whether a run of that setting would pay for starts that the next one does not."""

    def after(self, folder: Path) -> None:
        """Put beside the results of a run what the place has of it."""

    def renew(self) -> None:
        """Make ready again after a run that the place failed."""


class LocalPlace:
    """The local AWS, started once for all runs.

    Parameters
    ----------
    log_dir : Path
        Folder for the logs of its server and workers.

    Notes
    -----
    Memory sets two things, as on Lambda: the threads of an engine (one per 1,769 MB) and the limit above which a worker
    is killed. A worker is replaced when its function changes, and loads an engine when it is first asked for it.
    """

    name = "local"
    region = LOCAL_REGION
    buckets: tuple[str | None, ...] = ()

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._served = ExitStack()
        self._target: LocalTarget | None = None
        self._deployed_mb = int(read_stages()["infer"]["memory_mb"])
        self._memory_mb = self._deployed_mb
        self._logged: dict[Path, int] = {}
        self._warm: set[tuple[object, ...]] = set()

    @property
    def max_concurrency(self) -> int:
        """Ranks that run at the same time: the workers."""
        return num_cores()

    def __enter__(self) -> Self:
        """Do nothing: the first run starts the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self.renew()

    def target(self, memory_mb: int | None) -> Target:
        """Return the local AWS, its workers with that memory."""
        if self._target is None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            started = self._served.enter_context(start_local(self._log_dir))
            assert isinstance(started, LocalTarget), "it was started here"
            self._target, self._memory_mb = started, self._deployed_mb
            self._warm.clear()
        wanted = memory_mb or self._deployed_mb
        if wanted != self._memory_mb:
            _set_memory(self._target, wanted)
            self._memory_mb = wanted
            self._warm.clear()
        self._logged = {path: path.stat().st_size for path in self._log_dir.glob("*.log")}
        return self._target

    def rates(self, memory_mb: int | None) -> Rates:
        """Return what decides the price of such a run if it were deployed."""
        return rates_of(None, memory_mb or self._deployed_mb)

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


class AwsPlace:
    """The deployed stack; for another memory, functions of the sweep's own beside it.

    Parameters
    ----------
    target : AwsTarget
        The stack.
    borrowed : Borrowed
        Makes the functions of the other memory sizes, and removes them.
    """

    name = "aws"

    def __init__(self, target: AwsTarget, borrowed: Borrowed) -> None:
        self._target = target
        self._borrowed = borrowed

    @property
    def region(self) -> str:
        """Where the stack is."""
        return self._target.stack.region

    @property
    def max_concurrency(self) -> int:
        """Ranks that run at the same time."""
        return self._target.stack.max_concurrency

    @property
    def buckets(self) -> tuple[str | None, ...]:
        """The stack's bucket and the one it may read besides."""
        return (self._target.stack.bucket, self._target.stack.data_bucket)

    def __enter__(self) -> Self:
        """Remove what an earlier sweep left that was killed."""
        self._borrowed.remove_left()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything that was made beside the stack."""
        self._borrowed.remove_left()

    def target(self, memory_mb: int | None) -> Target:
        """Return the stack, or its twin with that memory, which is made when it is first asked for."""
        stack = self._target.stack
        if memory_mb is None or memory_mb == stack.stages["infer"].memory_mb:
            return self._target
        return AwsTarget(self._borrowed.stack_with(memory_mb), self._target.account)

    def rates(self, memory_mb: int | None) -> Rates:
        """Return what decides the price of such a run."""
        stack = self._target.stack
        return rates_of(stack, memory_mb or stack.stages["infer"].memory_mb)

    def is_cold(self, setting: Setting) -> bool:  # noqa: ARG002
        """Return False: nobody knows, and cold starts are a part of what Lambda does."""
        return False

    def after(self, folder: Path) -> None:
        """Do nothing: CloudWatch keeps the logs."""

    def renew(self) -> None:
        """Do nothing: the account is there or not."""


def _set_memory(target: LocalTarget, memory_mb: int) -> None:
    """Give Infer that memory, and tell Initialize, which plans for it."""
    functions: Any = boto3.client("lambda", config=LOCAL_CONFIG, **client_arguments(target.endpoint_url))
    functions.update_function_configuration(FunctionName="infer", MemorySize=memory_mb)
    for name in ("initialize", "infer"):
        found = functions.get_function_configuration(FunctionName=name)
        variables = {**found["Environment"]["Variables"], "INFER_MEMORY_MB": str(memory_mb)}
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
