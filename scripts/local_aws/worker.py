"""One worker: a process of AWS's own Python runtime, which runs one invocation at a time."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from scripts.command.errors import CommandError
from scripts.command.repository import REPOSITORY
from scripts.local_aws.guardian import Guardian
from scripts.local_aws.lambda_variables import lambda_variables
from scripts.local_aws.runtime_api import Request, RuntimeApi
from scripts.local_aws.worker_log import WorkerLog

INIT_ALLOWANCE_S = 120.0
"""Longest init of a worker; importing torch on a busy machine takes some seconds."""

CHECK_S = 0.05
"""How often a busy worker's memory is measured, and how late its end may be noticed."""

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100


@dataclass(frozen=True, kw_only=True)
class FunctionSettings:
    """What was deployed. A worker serves exactly one such set and is replaced when it changes."""

    name: str
    arn: str
    """As it is invoked: with the version or alias, if one is named."""

    version: str
    region: str
    handler: str
    timeout_s: float
    memory_mb: int
    environment: tuple[tuple[str, str], ...]
    revision: str
    """Digest of the deployed code."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The answer to one invocation."""

    payload: bytes
    is_error: bool
    log_tail: bytes = b""
    """End of the invocation's log, at most 4 KiB."""


class WorkerStartError(CommandError):
    """A worker could not be started; the message says why."""


class _RuntimeLostError(Exception):
    """The runtime gives no answer."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.status = "timeout" if error_type == "Sandbox.Timedout" else "error"


class Worker:
    """One runtime process, started by the first invocation.

    Parameters
    ----------
    settings : FunctionSettings
        The function it serves.
    environment : dict
        Environment of the process, without the function's own variables.
    guardian : Guardian
        Kills the process when this one dies.
    log_path : Path
        File its output is appended to.
    slot : int
        Its number among the workers of the function.
    """

    def __init__(
        self, settings: FunctionSettings, *, environment: dict[str, str], guardian: Guardian, log_path: Path, slot: int
    ) -> None:
        self.settings = settings
        self.slot = slot
        self._environment = environment
        self._guardian = guardian
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._api: RuntimeApi
        self._log: WorkerLog
        self._opened: contextlib.ExitStack
        self._init_s: float
        self._peak_mb: int | None = None

    @property
    def pid(self) -> int | None:
        """The runtime's, once it was started."""
        return self._process.pid if self._process else None

    def is_usable(self) -> bool:
        """Return whether the next invocation would find the runtime alive, or none started yet."""
        return self._process is None or self._process.poll() is None

    def invoke(self, payload: bytes, *, with_log: bool = False) -> Outcome:
        """Run one invocation; afterwards `is_usable` says whether the worker can serve another.

        Init happens here too, before the function's timeout starts to count, as on Lambda.

        Raises
        ------
        WorkerStartError
            If there is no process to run it.
        """
        outcome = (self._start() if self._process is None else None) or self._call(payload)
        return replace(outcome, log_tail=self._log.tail()) if with_log else outcome

    def stop(self) -> None:
        """End the runtime and wait for its end."""
        if self._process is None:
            return
        self._kill()
        self._guardian.forget(self._process.pid)
        self._opened.close()

    def _kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    # ------------------------------------------------------------------------------------------------ start

    def _start(self) -> Outcome | None:
        """Start the runtime and wait until its init is over; return the error if it failed."""
        began = time.monotonic()
        try:
            self._spawn()
        except OSError as error:
            raise WorkerStartError(f"A worker of {self.settings.name} cannot be started: {error}") from error
        try:
            request = self._receive(began + INIT_ALLOWANCE_S, f"Init did not end within {INIT_ALLOWANCE_S:.2f} seconds")
        except _RuntimeLostError as error:
            self.stop()
            return _error(error, request_id="")
        if request.path.endswith("/init/error"):
            self.stop()
            return Outcome(payload=request.body, is_error=True)
        self._init_s = time.monotonic() - began
        return None

    def _spawn(self) -> None:
        settings = self.settings
        with contextlib.ExitStack() as opened:
            self._log = WorkerLog(self._log_path)
            opened.callback(self._log.close)
            self._api = RuntimeApi()
            opened.callback(self._api.close)
            self._process = self._guardian.start(
                [sys.executable, "-m", "awslambdaric", settings.handler],
                cwd=REPOSITORY,
                env={
                    **self._environment,
                    **dict(settings.environment),
                    **lambda_variables(
                        settings.name,
                        version=settings.version,
                        memory_mb=settings.memory_mb,
                        log_stream=self._log_path.stem,
                    ),
                    "AWS_REGION": settings.region,
                    "AWS_DEFAULT_REGION": settings.region,
                    "AWS_SESSION_TOKEN": settings.name,  # who asks: see calls.py
                    "AWS_LAMBDA_RUNTIME_API": self._api.address,
                    "LAMBDA_TASK_ROOT": str(REPOSITORY),
                },
                stdout=self._log.file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._opened = opened.pop_all()

    # ------------------------------------------------------------------------------------------------ invoke

    def _call(self, payload: bytes) -> Outcome:
        request_id = str(uuid.uuid4())
        self._log.start(request_id, self.settings.version)
        began = time.monotonic()
        lost: _RuntimeLostError | None = None
        try:
            outcome = self._exchange(request_id, payload, began + self.settings.timeout_s)
        except _RuntimeLostError as error:
            lost, outcome = error, _error(error, request_id)
        self._measure_memory()
        duration_s = time.monotonic() - began
        if lost:
            self._kill()
        self._log.end(
            request_id,
            duration_s=duration_s,
            init_s=self._init_s,
            memory_mb=self.settings.memory_mb,
            peak_mb=self._peak_mb,
            lost=str(lost or ""),
            status=lost.status if lost else "",
        )
        self._init_s = 0.0
        return outcome

    def _exchange(self, request_id: str, payload: bytes, deadline: float) -> Outcome:
        """Hand the invocation to the runtime and take its result."""
        too_late = f"Task timed out after {self.settings.timeout_s:.2f} seconds"
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.settings.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.settings.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
        }
        self._receive(deadline, too_late)  # which is …/next
        self._answer(HTTPStatus.OK, headers, payload)
        result = self._receive(deadline, too_late)
        self._answer(HTTPStatus.ACCEPTED)
        if len(result.body) > MAX_RESPONSE_BYTES:
            return _too_large(len(result.body))
        return Outcome(payload=result.body, is_error=result.path.endswith("/error"))

    def _receive(self, deadline: float, too_late: str) -> Request:
        """Wait for the runtime's next request, within the function's memory."""
        assert self._process is not None
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(OSError):  # it ended in the middle, as is seen next
                if (request := self._api.receive(min(CHECK_S, left_s))) is not None:
                    return request
            if self._process.poll() is not None:
                raise _RuntimeLostError("Runtime.ExitError", f"Runtime exited with error: {_end(self._process)}")
            if self._measure_memory() > self.settings.memory_mb:
                self._process.kill()
        raise _RuntimeLostError("Sandbox.Timedout", too_late)

    def _answer(self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        # A runtime that has ended is noticed when its next request is waited for.
        with contextlib.suppress(OSError):
            self._api.answer(status, headers, body)

    def _measure_memory(self) -> int:
        """Return what the runtime holds, and remember the most it ever held [MB]; 0 where there is no /proc."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            self._peak_mb = _kilobytes(status, "VmHWM") // 1024
            return _kilobytes(status, "VmRSS") // 1024
        return 0


def _error(error: _RuntimeLostError, request_id: str) -> Outcome:
    body = {"errorType": error.error_type, "errorMessage": f"RequestId: {request_id} Error: {error}"}
    return Outcome(payload=json.dumps(body).encode(), is_error=True)


def _too_large(size: int) -> Outcome:
    message = (
        f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
    )
    body = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
    return Outcome(payload=json.dumps(body).encode(), is_error=True)


def _end(process: "subprocess.Popen[bytes]") -> str:
    """Say how a process ended, as Lambda does."""
    status = process.returncode
    return f"signal: {signal.strsignal(-status)}".lower() if status < 0 else f"exit status {status}"


def _kilobytes(status: str, name: str) -> int:
    return int(status.split(f"{name}:")[1].split()[0])
