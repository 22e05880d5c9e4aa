"""One worker: an emulator process with the Lambda runtime behind it, serving one invocation at a time."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.command.errors import CommandError
from scripts.command.repository import REPOSITORY
from scripts.local_aws.guardian import ClosedError, Guardian
from scripts.local_aws.worker_log import WorkerLog

INIT_ALLOWANCE_S = 120.0
"""Longest init of a worker; importing torch on a busy machine takes some seconds."""

PORTS = range(15000, 32000)
"""Below the ports that systems hand out for outgoing connections, so that only another server can take one first."""

START_ATTEMPTS = 3
ERROR_KEYS = {"errorMessage", "errorType", "requestId", "stackTrace"}
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class FunctionSettings:
    """What was deployed. A worker serves exactly one such set and is replaced when it changes."""

    name: str
    arn: str
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
    """A worker could not be started; the message names its log."""


class Worker:
    """One emulator and its runtime, started by the first invocation.

    Parameters
    ----------
    settings : FunctionSettings
        The function it serves.
    emulator : Path
        The Runtime Interface Emulator.
    environment : dict
        Environment of the processes, without the function's own variables.
    guardian : Guardian
        Kills the emulator when this process dies.
    log_path : Path
        File its output is appended to.
    slot : int
        Its number among the workers of the function.
    """

    def __init__(
        self,
        settings: FunctionSettings,
        *,
        emulator: Path,
        environment: dict[str, str],
        guardian: Guardian,
        log_path: Path,
        slot: int,
    ) -> None:
        self.settings = settings
        self.slot = slot
        self.runtime_pid: int | None = None
        self._emulator = emulator
        self._environment = environment
        self._guardian = guardian
        self._log = WorkerLog(log_path, memory_mb=settings.memory_mb, peak_mb=self._peak_mb)
        self._warm_up_event = json.dumps({"warm-up": uuid.uuid4().hex})
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._num_calls = 0
        self._last_peak_mb: int | None = None

    @property
    def pids(self) -> list[int]:
        """Processes of this worker that were started: the emulator, then the runtime."""
        emulator = [self._process.pid] if self._process else []
        return emulator + ([self.runtime_pid] if self.runtime_pid else [])

    def is_usable(self) -> bool:
        """Return whether the next invocation would find both processes alive, or none started yet."""
        if self._process is None:
            return True
        return self._process.poll() is None and self.runtime_pid is not None and _is_alive(self.runtime_pid)

    def invoke(self, payload: bytes, *, with_log: bool = False) -> Outcome:
        """Run one invocation; afterwards `is_usable` tells whether the worker can serve another.

        Init happens here too, before the function's timeout starts to count, as on Lambda.
        """
        try:
            outcome = (self._start() if self._process is None else None) or self._call(payload)
        except ClosedError as error:
            raise WorkerStartError("The local AWS is ending.") from error
        return replace(outcome, log_tail=self._log.tail(self._num_calls)) if with_log else outcome

    def enforce_memory(self) -> None:
        """Kill the runtime if it holds more than the function's memory; the emulator tells the caller."""
        if self.runtime_pid is None:
            return
        self._peak_mb()
        if _resident_bytes(self.runtime_pid) > self.settings.memory_mb * 2**20:
            _kill(self.runtime_pid)

    def stop(self) -> None:
        """End both processes and wait for them."""
        if self._process is None:
            return
        self._process.terminate()  # takes the runtime along within milliseconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        for pid in self.pids:
            _kill(pid)
        self._process.wait()
        self._guardian.forget(self.pids)
        self._log.join()

    # ------------------------------------------------------------------------------------------------ start

    def _start(self) -> Outcome | None:
        """Start both processes and run init; return the error if init failed."""
        for _ in range(START_ATTEMPTS):
            began = time.monotonic()
            self._spawn()
            answer = self._warm_up()
            if answer is not None:
                break
            self.stop()  # another program took a port between the check and the emulator's bind
        else:
            raise WorkerStartError(f"The emulator of {self.settings.name} does not start; see {self._log.path}.")
        self._num_calls = 1
        if answer.is_error:
            self.stop()
            return answer
        self._log.init_s = time.monotonic() - began
        self.runtime_pid = int(json.loads(answer.payload)["pid"])
        self._guardian.watch(self.runtime_pid)
        return None

    def _spawn(self) -> None:
        settings = self.settings
        self._port, runtime_port = _free_ports(2)
        command = [
            *(str(self._emulator), "--log-level", "info"),
            # Without both addresses the emulator listens on all interfaces.
            *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
            *(sys.executable, "-m", "scripts.local_aws.runtime"),
            *(f"{settings.timeout_s:g}", settings.arn, self._warm_up_event, settings.handler),
        ]
        self._process = self._guardian.start(
            command,
            cwd=REPOSITORY,
            env=self._environment | dict(settings.environment) | _lambda_variables(settings, self._log.path.stem),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._log.follow(self._process.stdout)

    def _warm_up(self) -> Outcome | None:
        """Run init by a call that the handler never sees; None if the emulator ended instead."""
        assert self._process is not None
        deadline = time.monotonic() + INIT_ALLOWANCE_S
        pause_s = 0.002
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return self._post(self._warm_up_event.encode(), timeout_s=deadline - time.monotonic())
            except ConnectionRefusedError:
                time.sleep(pause_s)  # not listening yet
                pause_s = min(pause_s * 1.5, 0.05)
            except TimeoutError:
                return _error("Sandbox.Timedout", "", f"Init did not end within {INIT_ALLOWANCE_S:.2f} seconds")
            except (ConnectionError, http.client.HTTPException):
                return None
        return None

    # ------------------------------------------------------------------------------------------------ invoke

    def _call(self, payload: bytes) -> Outcome:
        self._num_calls += 1
        began = time.monotonic()
        try:
            outcome = self._post(payload, timeout_s=self.settings.timeout_s)
        except TimeoutError:
            return self._lose("Sandbox.Timedout", f"Task timed out after {self.settings.timeout_s:.2f} seconds", began)
        except (ConnectionError, http.client.HTTPException):
            return self._lose("Runtime.ExitError", "Runtime exited with error: signal: killed", began)
        if outcome.is_error and json.loads(outcome.payload)["errorType"] == "Runtime.ExitError":
            message = json.loads(outcome.payload)["errorMessage"].partition("Error: ")[2]
            return self._lose("Runtime.ExitError", message, began)
        return outcome

    def _lose(self, error_type: str, message: str, began: float) -> Outcome:
        """End a worker whose invocation cannot be answered, and answer in its place."""
        self.stop()
        status = "timeout" if error_type == "Sandbox.Timedout" else "error"
        self._log.report_lost(began, message=message, status=status)
        return _error(error_type, self._log.request_id, message)

    def _post(self, payload: bytes, *, timeout_s: float) -> Outcome:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", payload)
            body = connection.getresponse().read()
        finally:
            connection.close()
        return Outcome(payload=body, is_error=_is_error(body))

    def _peak_mb(self) -> int | None:
        if self.runtime_pid is not None:
            with contextlib.suppress(OSError, IndexError, ValueError):
                status = Path(f"/proc/{self.runtime_pid}/status").read_text()
                self._last_peak_mb = int(status.split("VmHWM:")[1].split()[0]) // 1024
        return self._last_peak_mb


def _lambda_variables(settings: FunctionSettings, log_stream: str) -> dict[str, str]:
    """Return the variables that Lambda sets itself and a function's configuration cannot override."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": settings.name,
        "AWS_LAMBDA_FUNCTION_VERSION": settings.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mb),
        # The emulator counts init against this; the worker enforces the function's own timeout.
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(int(settings.timeout_s + INIT_ALLOWANCE_S + 10)),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{settings.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_Image",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
    }


def _error(error_type: str, request_id: str, message: str) -> Outcome:
    body = {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    return Outcome(payload=json.dumps(body).encode(), is_error=True)


def _is_error(body: bytes) -> bool:
    """Return whether the runtime reported an error: the emulator answers 200 either way."""
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and {"errorMessage", "errorType"} <= answer.keys() <= ERROR_KEYS


def _free_ports(count: int) -> list[int]:
    free: list[int] = []
    while len(free) < count:
        port = random.choice(PORTS)  # noqa: S311 -- no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
    return free


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return 0  # no /proc: the limit is not enforced


def _is_alive(pid: int) -> bool:
    """Return whether a process can still serve: one that ended and waits to be collected cannot."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state not in ("Z", "X")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
