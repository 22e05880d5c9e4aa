"""What a runtime is given and what becomes of an invocation, with a runtime and on a clock of the test."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.command.repository import REPOSITORY
from scripts.local_aws import worker as module
from scripts.local_aws.runtime_api import Request
from scripts.local_aws.worker import INIT_ALLOWANCE_S, MAX_RESPONSE_BYTES, FunctionSettings, Worker, WorkerStartError

SETTINGS = FunctionSettings(
    name="infer",
    arn="arn:infer:1",
    version="1",
    region="eu-central-1",
    handler="handlers.infer.handler",
    timeout_s=3.0,
    memory_mb=100,
    environment=(("OWN", "function"), ("AWS_LAMBDA_FUNCTION_NAME", "other"), ("SHARED", "function")),
    revision="",
)
NEXT = Request("/2018-06-01/runtime/invocation/next", b"")
RESULT = Request("/2018-06-01/runtime/invocation/id/response", b'{"z": 0.1}')
INVALID = Request("/2018-06-01/runtime/invocation/id/error", b'{"errorType": "E"}')
NO_INIT = Request("/2018-06-01/runtime/init/error", b'{"errorType": "Runtime.ImportModuleError"}')

Step = Request | OSError | Callable[[], None] | None


class Runtime:
    """Its process, its API and the clock: every wait for a request takes 1/8 s and ends with the next step.

    Parameters
    ----------
    steps
        What comes of one wait after another: a request, an error of its connection, something that happens, or
        nothing, as of every wait after the last.
    """

    address = "127.0.0.1:9"
    pid = 4711
    returncode: int | None = None

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.now_s = 1000.0
        self.request: Request | None = None
        self.waited_s: list[float] = []
        self.answered: list[tuple[HTTPStatus, dict[str, str] | None, bytes]] = []
        self.is_killed = self.is_waited_for = self.is_deaf = self.is_closed = False
        self.started: dict[str, Any] = {}
        self.forgotten: list[int] = []

    # as an API

    def receive(self, timeout_s: float) -> Request | None:
        if self.request is None:
            self.waited_s.append(timeout_s)
            self.now_s += 0.125
            step = self.steps.pop(0) if self.steps else None
            if isinstance(step, OSError):
                raise step
            if callable(step):
                step()
            else:
                self.request = step
        return self.request

    def answer(self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.request = None
        self.answered.append((status, headers, body))
        if self.is_deaf:
            raise BrokenPipeError

    def close(self) -> None:
        self.is_closed = True

    # as a process

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.is_killed = True
        self.end(-9)

    def end(self, status: int) -> None:
        self.returncode = self.returncode or status
        self.steps.clear()

    def wait(self) -> None:
        assert self.returncode is not None
        self.is_waited_for = True

    # as a guardian

    def start(self, command: list[str], **options: Any) -> "Runtime":
        self.started = {"command": command, **options}
        return self

    def forget(self, pid: int) -> None:
        self.forgotten.append(pid)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Make a worker of a runtime, which holds 30 MB and held 40."""
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   40960 kB\nVmRSS:\t   30720 kB\n")
    workers: list[Worker] = []

    def make(runtime: Runtime, **changes: Any) -> Worker:
        monkeypatch.setattr(module, "RuntimeApi", lambda: runtime)
        clock = SimpleNamespace(monotonic=lambda: runtime.now_s, time=lambda: 5000.5 + runtime.now_s)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "Path", lambda path: tmp_path / Path(path).relative_to("/proc/4711"))
        given: Any = {"environment": {"PATH": "/bin", "SHARED": "server"}, "guardian": runtime}
        workers.append(Worker(replace(SETTINGS, **changes), log_path=tmp_path / "infer-2.log", slot=2, **given))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


def log_of(tmp_path: Path) -> str:
    return re.sub(r"RequestId: [0-9a-f-]{36}", "RequestId: ID", (tmp_path / "infer-2.log").read_text())


def test_a_result_is_handed_in_and_the_runtime_stays(make: Callable[..., Worker], tmp_path: Path) -> None:
    runtime = Runtime(NEXT, RESULT, NEXT, INVALID)
    worker = make(runtime)
    assert (worker.pid, worker.is_usable(), worker.slot) == (None, True, 2)

    result, failure = worker.invoke(b"[1]", with_log=True), worker.invoke(b"[2]")

    assert (result.payload, result.is_error) == (b'{"z": 0.1}', False)
    assert result.log_tail.startswith(b"START RequestId: ")
    assert (failure.payload, failure.is_error, failure.log_tail) == (b'{"errorType": "E"}', True, b"")
    assert (worker.pid, worker.is_usable(), runtime.is_killed) == (4711, True, False)
    # Init takes a wait, and the second invocation another until the runtime asks for it.
    assert log_of(tmp_path) == "".join(
        f"START RequestId: ID Version: 1\nEND RequestId: ID\nREPORT RequestId: ID\tDuration: {duration}.00 ms\t"
        f"Billed Duration: {billed} ms\tMemory Size: 100 MB\tMax Memory Used: 40 MB{init}\n"
        for duration, billed, init in ((125, 250, "\tInit Duration: 125.00 ms"), (250, 250, ""))
    )


def test_an_invocation_comes_with_what_its_context_shows(make: Callable[..., Worker]) -> None:
    runtime = Runtime(NEXT, RESULT, NEXT, RESULT)
    worker = make(runtime)
    for _ in range(2):
        worker.invoke(b"[1]")

    (status, headers, body), accepted, (_, later, _), _ = runtime.answered
    assert (status, body, accepted) == (HTTPStatus.OK, b"[1]", (HTTPStatus.ACCEPTED, None, b""))
    assert headers is not None
    assert later is not None
    request_id, trace = headers.pop("Lambda-Runtime-Aws-Request-Id"), headers.pop("Lambda-Runtime-Trace-Id")
    assert request_id != later["Lambda-Runtime-Aws-Request-Id"]
    # It began at 6000.625 s, when init was over.
    assert headers == {
        "Content-Type": "application/json",
        "Lambda-Runtime-Deadline-Ms": "6003625",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:infer:1",
    }
    assert re.fullmatch(r"Root=1-00001770-[0-9a-f]{24};Sampled=0", trace)


def test_a_runtime_has_the_environment_of_lambda_whatever_the_function_sets(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    runtime = Runtime(NEXT, RESULT)

    make(runtime).invoke(b"{}")

    environment = runtime.started.pop("env")
    assert runtime.started.pop("command")[1:] == ["-m", "awslambdaric", "handlers.infer.handler"]
    assert runtime.started.pop("stdout").name == str(tmp_path / "infer-2.log")
    assert runtime.started == {"cwd": REPOSITORY, "stderr": subprocess.STDOUT, "start_new_session": True}
    expected = {
        "PATH": "/bin",
        "OWN": "function",
        "SHARED": "function",
        "AWS_LAMBDA_FUNCTION_NAME": "infer",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "100",
        "AWS_LAMBDA_LOG_STREAM_NAME": "infer-2",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_SESSION_TOKEN": "infer",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
    }
    assert environment.items() >= expected.items()


def test_an_invocation_that_takes_too_long_ends_its_runtime(make: Callable[..., Worker], tmp_path: Path) -> None:
    runtime = Runtime(NEXT)
    worker = make(runtime, timeout_s=3 + 1 / 64)

    outcome = worker.invoke(b"{}", with_log=True)

    said = json.loads(outcome.payload)
    assert (outcome.is_error, said["errorType"]) == (True, "Sandbox.Timedout")
    assert re.fullmatch(r"RequestId: [0-9a-f-]{36} Error: Task timed out after 3.02 seconds", said["errorMessage"])
    assert (runtime.is_killed, runtime.is_waited_for, worker.is_usable()) == (True, True, False)
    assert "RequestId: ID Error: Task timed out after 3.02 seconds\nEND" in log_of(tmp_path)
    assert log_of(tmp_path).endswith("\tInit Duration: 125.00 ms\tStatus: timeout\n")
    # Memory and the end are looked for so often, and never for longer than is left.
    assert runtime.waited_s == [0.05] * 25 + [1 / 64]


@pytest.mark.parametrize(
    ("status", "said"), [(3, "exit status 3"), (-9, "signal: killed"), (-11, "signal: segmentation")]
)
def test_a_runtime_that_ends_is_told_with_its_end(
    make: Callable[..., Worker], tmp_path: Path, status: int, said: str
) -> None:
    runtime = Runtime(NEXT)

    def break_off() -> None:
        runtime.end(status)
        raise ConnectionResetError

    runtime.steps.append(break_off)
    outcome = make(runtime).invoke(b"{}")

    assert json.loads(outcome.payload)["errorType"] == "Runtime.ExitError"
    assert f" Error: Runtime exited with error: {said}" in json.loads(outcome.payload)["errorMessage"]
    assert log_of(tmp_path).endswith("\tStatus: error\n")


def test_a_connection_that_breaks_is_no_end(make: Callable[..., Worker]) -> None:
    runtime = Runtime(OSError(), NEXT, ConnectionResetError(), RESULT)
    runtime.is_deaf = True

    assert make(runtime).invoke(b"{}").payload == RESULT.body


@pytest.mark.parametrize(("memory_mb", "is_killed"), [(30, False), (29, True)])
def test_a_runtime_may_hold_the_memory_of_its_function(
    make: Callable[..., Worker], memory_mb: int, is_killed: bool
) -> None:
    runtime = Runtime(NEXT, None, RESULT)

    outcome = make(runtime, memory_mb=memory_mb).invoke(b"{}")

    assert (runtime.is_killed, outcome.is_error) == (is_killed, is_killed)
    assert is_killed == (b"signal: killed" in outcome.payload)


def test_a_system_that_shows_no_memory_limits_none(make: Callable[..., Worker], tmp_path: Path) -> None:
    runtime = Runtime(NEXT, None, RESULT)
    worker = make(runtime, memory_mb=1)
    (tmp_path / "status").unlink()

    assert worker.invoke(b"{}").payload == RESULT.body
    assert "Max Memory Used" not in log_of(tmp_path)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_result_may_be_as_large_as_on_lambda(make: Callable[..., Worker], excess: int) -> None:
    result = RESULT._replace(body=b"x" * (MAX_RESPONSE_BYTES + excess))
    worker = make(Runtime(NEXT, result))

    outcome = worker.invoke(b"{}")

    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, as the emulator of AWS counts.
    assert MAX_RESPONSE_BYTES == 6 * 2**20 + 100
    assert worker.is_usable()
    if excess:
        assert outcome.is_error
        assert json.loads(outcome.payload) == {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": "Response payload size (6291557 bytes) exceeded maximum allowed payload size "
            "(6291556 bytes).",
        }
    else:
        assert outcome.payload == result.body


def test_a_handler_that_cannot_be_imported_is_told_and_leaves_nothing(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    runtime = Runtime(NO_INIT)
    worker = make(runtime)

    outcome = worker.invoke(b"{}", with_log=True)

    assert (outcome.payload, outcome.is_error, outcome.log_tail) == (NO_INIT.body, True, b"")
    assert (runtime.is_killed, runtime.is_closed, runtime.forgotten) == (True, True, [4711])
    assert runtime.started["stdout"].closed
    assert not worker.is_usable()


def test_an_init_that_does_not_end_is_given_up(make: Callable[..., Worker]) -> None:
    runtime = Runtime()
    runtime.steps.append(lambda: setattr(runtime, "now_s", runtime.now_s + INIT_ALLOWANCE_S))

    outcome = make(runtime).invoke(b"{}")

    assert json.loads(outcome.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId:  Error: Init did not end within 120.00 seconds",
    }
    assert (runtime.is_killed, runtime.is_closed, runtime.forgotten) == (True, True, [4711])


def test_an_init_may_take_longer_than_the_function(make: Callable[..., Worker]) -> None:
    runtime = Runtime()
    runtime.steps += [lambda: setattr(runtime, "now_s", runtime.now_s + INIT_ALLOWANCE_S - 1), NEXT, RESULT]

    assert make(runtime).invoke(b"{}").payload == RESULT.body


def test_a_worker_without_a_process_says_so_and_leaves_nothing(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, logs = Runtime(), []

    def refuse(_command: list[str], *, stdout: Any, **_: Any) -> None:
        logs.append(stdout)
        raise OSError(11, "Resource temporarily unavailable")

    worker = make(runtime)
    monkeypatch.setattr(runtime, "start", refuse)
    with pytest.raises(WorkerStartError, match=r"A worker of infer cannot be started: .*temporarily unavailable"):
        worker.invoke(b"{}")

    assert runtime.is_closed
    assert logs[0].closed
    worker.stop()
    assert (worker.is_usable(), runtime.forgotten) == (True, [])
