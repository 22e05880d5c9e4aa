"""A worker gets what a program needs, not what the user's shell happens to hold."""

import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from scripts.local_aws import server
from scripts.local_aws.lambda_variables import worker_environment
from scripts.runs.target import LocalTarget


def test_a_worker_inherits_neither_tokens_nor_settings_of_another_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "AWS_PROFILE", "SSH_AUTH_SOCK", "MY_PASSWORD", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    for name in ("PATH", "PYTHONPATH", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, f"of {name}")

    found = worker_environment({"AWS_REGION": "us-east-1"})

    assert "secret" not in found.values()
    assert {name for name, value in found.items() if value == f"of {name}"} == {
        "PATH",
        "PYTHONPATH",
        "LC_ALL",
        "TMPDIR",
        "LD_LIBRARY_PATH",
    }
    assert (found["AWS_REGION"], found["OMP_NUM_THREADS"]) == ("us-east-1", "1")


def test_a_server_that_cannot_start_a_thread_ends_and_says_why() -> None:
    program = """
import threading, time
from scripts.local_aws.serve import _end_without_threads
threading.excepthook = _end_without_threads
def fail():
    raise RuntimeError("can't start new thread")
threading.Thread(target=fail).start()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)

    assert done.returncode == 1
    assert "No more threads can be started here" in done.stderr


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (b"ValueError: x\nOSError: [Errno 28] No space left on device\n127.0.0.1 PUT\n", "No space left on device."),
        (b"OSError: [Errno 27] File too large\n", "The local AWS said: OSError: [Errno 27] File too large."),
        (b"x\nMemoryError\n", "The local AWS said: MemoryError."),
        (b"RuntimeError: can't start new thread\n" + b"x" * server.TAIL_BYTES, "server.log may say why."),
        (None, "logs/server.log may say why."),
    ],
)
def test_what_the_local_aws_has_run_out_of_is_said_by_who_asked(tmp_path: Path, log: bytes | None, said: str) -> None:
    path = tmp_path / "server.log"
    if log is not None:
        path.write_bytes(log)
    target = LocalTarget("http://127.0.0.1:1", "key", None, None, log=path)

    assert target.why(ClientError({"Error": {"Code": "500"}}, "UploadPart")).endswith(said)
