"""Nothing is left running, whatever ends the local AWS, and nothing listens beyond this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from scripts.command.repository import REPOSITORY
from scripts.local_aws.pool import Pool
from scripts.local_aws.server import LocalAws, LocalAwsError, client_arguments
from scripts.local_aws.worker import FunctionSettings, WorkerStartError
from tests.integration.conftest import ECHO, is_running, make_functions, wait_until

SETTINGS = FunctionSettings(
    name="echo",
    arn="arn:aws:lambda:us-east-1:123456789012:function:echo",
    version="$LATEST",
    region="us-east-1",
    handler=ECHO,
    timeout_s=20,
    memory_mb=256,
    environment=(),
    revision="",
)


def started_by(pid: int) -> set[int]:
    """Return a process and all below it."""
    # Not by the lists of children: those are per thread, and miss a child while the thread that started it ends.
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # a process that has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = set(), [pid]
    while waiting:
        found.add(one := waiting.pop())
        waiting += children.get(one, [])
    return found


def none_runs(pids: set[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


class Serving:
    """A server with one worker."""

    def __init__(self, log_dir: Path) -> None:
        self.aws = LocalAws(log_dir=log_dir, workers=1)
        self.aws.__enter__()
        self.functions = make_functions(self.aws.credentials, "infer", "summarize")
        self.runtime_pid = self.invoke()
        # The server, its guardian and the runtime.
        self.processes = started_by(self.aws.pid)

    def invoke(self) -> int:
        """Return the pid of the runtime that answered."""
        return int(json.load(self.functions.invoke(FunctionName="infer", Payload=b"{}")["Payload"])["pid"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server for the tests that only look; it has ended without a trace at their end."""
    serving = Serving(tmp_path_factory.mktemp("logs"))
    yield serving
    serving.aws.__exit__(None, None, None)
    assert none_runs(serving.processes)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path)
    yield serving
    serving.aws.stop()


def test_a_server_with_one_worker_is_three_processes(undisturbed: Serving) -> None:
    assert len(undisturbed.processes) == 3


def test_a_closed_pool_has_ended_its_workers_and_starts_none(tmp_path: Path) -> None:
    pool = Pool(environment=dict(os.environ), log_dir=tmp_path, workers_per_function=1)
    pid = int(json.loads(pool.invoke(SETTINGS, b"{}").payload)["pid"])

    pool.close()

    assert not is_running(pid)
    with pytest.raises(WorkerStartError, match="is ending"):
        pool.invoke(SETTINGS, b"{}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_server_ends_everything_and_what_waits_starts_nothing(
    serving: Serving, number: signal.Signals
) -> None:
    for _ in range(20):
        serving.functions.invoke(FunctionName="summarize", InvocationType="Event", Payload=b'{"sleep": 0.05}')
    # One runtime is idle. The other has started and not asked for its invocation yet: the moment that is easiest to
    # forget. The rest wait for it.
    wait_until(lambda: len(started_by(serving.aws.pid)) >= 4)
    processes = started_by(serving.aws.pid)

    os.kill(serving.aws.pid, number)

    wait_until(lambda: none_runs(processes), timeout_s=10)
    wait_until(lambda: not using(serving.aws.endpoint_url), timeout_s=10)
    # Whatever was about to start would have by now.
    time.sleep(0.5)
    assert not using(serving.aws.endpoint_url)


def using(endpoint_url: str) -> list[str]:
    """Return the processes that were started to use a server."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [environment.parent.name] if f"={endpoint_url}".encode() in environment.read_bytes() else []
    return found


def test_server_and_guardian_killed_at_once_leave_nothing(serving: Serving) -> None:
    serving.functions.invoke(FunctionName="summarize", InvocationType="Event", Payload=b'{"sleep": 60}')
    wait_until(lambda: len(started_by(serving.aws.pid)) >= 4)
    processes = started_by(serving.aws.pid)
    (guardian,) = [pid for pid in processes if b"guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    for pid in (guardian, serving.aws.pid):
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: none_runs(processes), timeout_s=10)


def test_a_server_killed_before_it_tells_the_guardian_leaves_nothing() -> None:
    server = """
import os, signal, subprocess
from scripts.local_aws.guardian import Guardian
guardian = Guardian()
# Nothing of ours in its hands: this test waits for its end, not for that of a pipe.
print(guardian.start(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

    started = subprocess.run(
        [sys.executable, "-c", server], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert started.returncode == -signal.SIGKILL, started.stderr
    wait_until(lambda: not is_running(int(started.stdout)), timeout_s=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_make_emulate_prints_what_to_export_and_its_end_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    command, environment = [sys.executable, "-m", "scripts.emulate"], {**os.environ, "LOG_DIR": str(tmp_path)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as emulate, contextlib.ExitStack() as undone:
        undone.callback(emulate.kill)
        assert emulate.stdout is not None
        endpoint, key = (emulate.stdout.readline().strip().partition("=")[2] for _ in range(2))
        with contextlib.closing(make_functions(client_arguments(endpoint, key), "infer")) as functions:
            functions.invoke(FunctionName="infer", Payload=b"{}")
        processes = started_by(emulate.pid)
        assert len(processes) == 4  # with the server, its guardian and the runtime

        emulate.send_signal(number)

        assert emulate.wait(timeout=10) == (-number if number == signal.SIGKILL else 0)
        wait_until(lambda: none_runs(processes), timeout_s=10)


def test_a_worker_outlives_the_request_that_started_it(undisturbed: Serving) -> None:
    assert {undisturbed.invoke() for _ in range(5)} == {undisturbed.runtime_pid}


def test_nothing_listens_on_another_address(undisturbed: Serving) -> None:
    sockets = {inode for pid in undisturbed.processes for inode in sockets_of(pid)}
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    listening = [line.split() for table in tables for line in table if line.split()[3] == "0A"]

    assert {fields[1].split(":")[0] for fields in listening if fields[9] in sockets} == {"0100007F"}


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found |= {os.readlink(link)[8:-1]} if os.readlink(link).startswith("socket:") else set()
    return found


def test_two_servers_run_at_once(undisturbed: Serving, tmp_path: Path) -> None:
    with LocalAws(log_dir=tmp_path) as other:
        boto3.client("s3", **undisturbed.aws.credentials).create_bucket(Bucket="only-here")

        assert boto3.client("s3", **other.credentials).list_buckets()["Buckets"] == []


def test_a_port_that_is_taken_is_an_error_that_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LocalAwsError, match="in use"):
        LocalAws(log_dir=tmp_path, port=taken.getsockname()[1]).__enter__()
