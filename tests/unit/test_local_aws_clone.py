"""How a handler of the clone is run under the emulator: with what its function has, and ended whatever happens."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.command.repository import REPOSITORY
from scripts.deployment.stages import read_stages
from scripts.local_aws import clone
from scripts.local_aws.rie import Answer, EmulatorUnavailableError

REPORT = "REPORT RequestId: id\tDuration: 4.19 ms"
PRINTED = f"START\n02 Jan 2026 03:04:05,678 [INFO] (rapid) exec\n{REPORT}\tMax Memory Used: 128 MB\n"


class FakeEmulator:
    """One that listens while its program runs: a guardian, its process and a place in one."""

    is_running = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.started: dict[str, Any] = {}
        self.allowance_s = 0.0

    def arguments(self, runtime: list[str]) -> list[str]:
        return ["--listen", *runtime]

    def start(self, command: list[str], *, stdout: Any, **options: Any) -> "FakeEmulator":
        stdout.write(PRINTED.encode())
        self.started = {"command": command, **options}
        return self

    def wait(self, is_running: Callable[[], bool] | None = None, timeout_s: float = 0.0) -> bool:
        if is_running is None:  # as a process
            self.asked.append("wait")
            return True
        self.allowance_s = timeout_s
        return is_running()

    def poll(self) -> int | None:
        return None if self.is_running else 1

    def invoke(self, event: object) -> Answer:
        self.asked.append("invoke")
        return Answer(None, event)

    def terminate(self) -> None:
        self.asked.append("terminate")

    def close(self) -> None:
        self.asked.append("close")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> FakeEmulator:
    fake = FakeEmulator()
    monkeypatch.setattr(clone, "emulator", lambda: Path("/cache/rie"))
    for name in ("Emulator", "Guardian"):
        monkeypatch.setattr(clone, name, lambda: fake)
    return fake


def aws(tmp_path: Path) -> Any:
    return SimpleNamespace(environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "OWN": "1"}, log_dir=tmp_path)


def test_a_handler_runs_with_what_its_function_has(emulator: FakeEmulator, tmp_path: Path) -> None:
    stage = read_stages()["infer"]

    answer, log = clone.answer_from_clone(aws(tmp_path), "infer", {"rank": 3})

    assert (answer, log) == (Answer(None, {"rank": 3}), f"START\n{REPORT}\n")
    assert (tmp_path / "infer.log").read_text() == PRINTED
    environment = emulator.started.pop("env")
    command = ["/cache/rie", "--listen", sys.executable, "-m", "awslambdaric", stage["handler"]]
    assert emulator.started == {
        "command": command,
        "cwd": REPOSITORY,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,
    }
    expected = {
        "OWN": "1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_LAMBDA_FUNCTION_NAME": "infer",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(stage["memory_mb"]),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(stage["timeout_s"]),
        "AWS_LAMBDA_LOG_STREAM_NAME": "infer",
        "CODE_VERSION": "local",
        "IMAGE_DIGEST": "local",
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
    }
    assert environment.items() >= expected.items()
    assert emulator.asked == ["invoke", "terminate", "wait", "close"]


def test_an_emulator_that_does_not_start_is_told_with_what_it_printed(emulator: FakeEmulator, tmp_path: Path) -> None:
    emulator.is_running = False

    with pytest.raises(EmulatorUnavailableError) as failed:
        clone.answer_from_clone(aws(tmp_path), "infer", {})

    assert str(failed.value) == f"The emulator did not start:\n{PRINTED}"
    assert emulator.asked == ["close"]
