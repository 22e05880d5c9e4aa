"""What is started ends with who started it, however that ends."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.local_aws import guardian as module
from scripts.local_aws.guardian import Guardian

SLEEP = ["sleep", "600"]


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()
    for ours in guardian._lifelines.values():
        os.close(ours)


def test_a_closed_guardian_has_killed_what_runs_and_starts_nothing(guardian: Guardian, tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said:
        shell = guardian.start(["sh", "-c", "cat; pwd; exec sleep 600"], stdout=said, cwd=tmp_path)
    while not (tmp_path / "said").read_text():
        assert shell.poll() is None

    guardian.close()

    assert shell.wait(10) == -signal.SIGKILL
    assert (tmp_path / "said").read_text() == f"{tmp_path}\n"  # and it had nothing to read
    with pytest.raises(BrokenPipeError, match="is ending"):
        guardian.start(SLEEP)


@pytest.mark.skipif(not Path("/proc").exists(), reason="the kernel of Linux does it")
def test_what_runs_ends_with_us_without_a_guardian_too(guardian: Guardian) -> None:
    guardian._process.kill()
    guardian._process.wait()
    process = guardian.start(SLEEP)

    os.close(guardian._lifelines.pop(process.pid))  # as at the end of this process

    assert process.wait(10) == -signal.SIGKILL


def test_what_has_ended_is_left_alone(guardian: Guardian, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_kill_at_the_end_of", lambda *_: None)
    with (tmp_path / "said").open("wb") as said:
        process = guardian.start(["sh", "-c", "pwd; exec sleep 600"], stdout=said)
    while not (tmp_path / "said").read_text():  # the guardian knows it by then
        assert process.poll() is None
    lifeline = guardian._lifelines[process.pid]

    guardian.forget(process.pid)  # as if its number were another process's by now
    assert not is_open(lifeline)
    guardian.close()
    guardian.forget(process.pid)

    with process:
        assert process.poll() is None
        process.kill()


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_what_cannot_be_started_leaves_nothing_open(guardian: Guardian, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pipe, opened = os.pipe, list[int]()

    def pipe() -> tuple[int, int]:
        ends = make_pipe()
        opened.extend(ends)
        return ends

    monkeypatch.setattr(os, "pipe", pipe)

    with pytest.raises(FileNotFoundError):
        guardian.start(SLEEP, cwd="/nowhere")

    assert opened
    assert not any(map(is_open, opened))


def test_a_guardian_outlives_signals_and_kills_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: dict[int, object] = {}
    killed: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        raise ProcessLookupError

    monkeypatch.setattr(signal, "signal", handled.__setitem__)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr("sys.stdin", io.StringIO("+11\n+12\n+13\n-12\n-14\n"))

    module.main()

    assert handled == dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)
    assert sorted(killed) == [(11, signal.SIGKILL), (13, signal.SIGKILL)]
