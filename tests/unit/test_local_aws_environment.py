"""How the local AWS starts and ends, and what it and its workers get of what the user's shell happens to hold."""

import http.server
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from scripts.command.machine import num_cores
from scripts.command.repository import REPOSITORY
from scripts.local_aws import server
from scripts.local_aws.lambda_variables import worker_environment
from scripts.local_aws.rudeness import Rudeness
from scripts.local_aws.server import LocalAws, LocalAwsError, keep_results, stop_signals
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
def fail(error):
    raise error
for error in (ValueError("can't start new thread"), RuntimeError("another")):
    thread = threading.Thread(target=fail, args=(error,))
    thread.start()
    thread.join()
print("runs on", flush=True)
threading.Thread(target=fail, args=(RuntimeError("can't start new thread"),)).start()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)

    assert (done.returncode, done.stdout) == (1, "runs on\n")
    *traces, last = done.stderr.splitlines()
    assert last == "No more threads can be started here: see `ulimit -u` and `ulimit -v`."
    errors = ["ValueError: can't start new thread", "RuntimeError: another", "RuntimeError: can't start new thread"]
    assert [line for line in traces if line.startswith(("ValueError", "RuntimeError"))] == errors


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (b"ValueError: x\nOSError: [Errno 28] No space left on device\n127.0.0.1 PUT\n", "No space left on device."),
        (b"OSError: [Errno 27] File too large\n", "The local AWS said: OSError: [Errno 27] File too large."),
        (b"\xff\nMemoryError\n", "The local AWS said: MemoryError."),
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


def test_without_a_log_there_is_no_reason(tmp_path: Path) -> None:
    assert server.last_reason(tmp_path / "server.log") == ""


class FakeProcess:
    """A server that says where it listens, and ends when its parent goes, unless it hangs."""

    def __init__(self, said: str, *, hangs: bool = False) -> None:
        self.stdin, self.stdout = io.StringIO(), io.StringIO(said)
        self.hangs, self.is_killed, self.returncode = hangs, False, None

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        assert self.stdin.closed
        if self.hangs and not self.is_killed:
            assert timeout is not None, "it would be waited for for ever"
            raise subprocess.TimeoutExpired("serve", timeout)
        self.returncode = 0

    def kill(self) -> None:
        self.is_killed = True


class FakeServer(LocalAws):
    """The local AWS with such a server."""

    said = '{"endpoint_url": "http://127.0.0.1:9", "pid": 4711}\n'
    hangs = False

    def _start(self, settings: str, log: Any) -> Any:
        self.settings: dict[str, Any] = json.loads(settings)
        log.write(b"x" * 3000 + b"\xff reason\n")
        self.process = FakeProcess(self.said, hangs=self.hangs)
        return self.process


def test_a_server_is_told_what_it_was_asked_for_and_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rudeness = Rudeness(concurrency=3)
    aws = FakeServer(log_dir=Path("a/logs"), workers=5, port=4566, rudeness=rudeness, call_log=Path("calls.jsonl"))
    assert (aws.endpoint_url, aws.pid, aws.is_running()) == ("", 0, False)
    with aws:
        assert (aws.endpoint_url, aws.pid, aws.is_running()) == ("http://127.0.0.1:9", 4711, True)
        assert aws.credentials == {
            "endpoint_url": "http://127.0.0.1:9",
            "region_name": "us-east-1",
            "aws_access_key_id": aws.key,
            "aws_secret_access_key": aws.key,
        }
        assert aws.environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"

    assert aws.settings == {
        "port": 4566,
        "workers": 5,
        "log_dir": str(tmp_path / "a" / "logs"),
        "rudeness": msgspec.to_builtins(rudeness),
        "call_log": str(tmp_path / "calls.jsonl"),
    }
    assert (aws.is_running(), aws.process.is_killed) == (False, False)
    assert aws.process.stdout.closed
    assert (tmp_path / "a" / "logs" / "server.log").is_file()
    aws.stop()  # again


def test_a_server_ends_with_this_process_and_not_with_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("subprocess.Popen", lambda command, **options: asked.update(options, command=command))
    aws = LocalAws(log_dir=tmp_path)

    with (tmp_path / "log").open("wb") as log:
        aws._start("{}", log)

    assert asked == {
        "command": [sys.executable, "-m", "scripts.local_aws.serve", "{}"],
        "cwd": REPOSITORY,
        "env": server._server_environment(aws.key),
        # It ends with its stdin, and Ctrl-C reaches no other session.
        "stdin": subprocess.PIPE,
        "start_new_session": True,
        "stdout": subprocess.PIPE,
        "stderr": log,
        "text": True,
    }


def test_a_server_has_a_key_of_its_own_and_a_folder_that_goes_with_it() -> None:
    with FakeServer() as aws, FakeServer() as other:
        assert (aws.workers, aws.settings["port"], aws.settings["call_log"]) == (num_cores(), 0, None)
        assert aws.settings["rudeness"] == msgspec.to_builtins(Rudeness())
        assert aws.log_dir.is_dir()
        assert aws.key != other.key

    assert not aws.log_dir.exists()


def test_a_server_that_does_not_start_is_ended_and_the_end_of_its_log_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeServer, "said", "")
    aws = FakeServer(log_dir=tmp_path)

    with pytest.raises(LocalAwsError) as failed, aws:
        pytest.fail("it did not start")

    assert str(failed.value) == f"The local AWS did not start:\n{'x' * 1991}\ufffd reason\n"
    assert (aws.is_running(), aws.process.returncode) == (False, 0)


def test_a_server_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeServer, "hangs", True)
    with FakeServer(log_dir=tmp_path) as aws:
        pass

    assert (aws.process.is_killed, aws.process.returncode) == (True, 0)
    assert aws.process.stdout.closed


@pytest.mark.parametrize("is_asked", [True, False])
def test_who_waits_for_a_server_is_told_by_either_end(tmp_path: Path, is_asked: bool) -> None:
    waited_s: list[float | None] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited_s.append(timeout)
            if len(waited_s) == 3 and not is_asked:
                aws.process.returncode = 1
            return len(waited_s) == 3 and is_asked

    with FakeServer(log_dir=tmp_path) as aws:
        aws.wait(Stop())

    # Every second it is looked whether the server is still there.
    assert waited_s == [1, 1, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_a_server_to_end(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    stop = stop_signals()
    assert not stop.is_set()

    handlers[number](number, None)

    assert stop.is_set()


def test_a_server_and_its_clients_get_the_settings_of_no_other_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "MOTO_PORT"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("OWN", "kept")

    client = server.client_environment("http://127.0.0.1:9", "eu-central-1", "KEY")
    found = server._server_environment("KEY")

    assert client == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "KEY",
        "AWS_SESSION_TOKEN": "KEY",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    # Who asks is the state machine, unless it says another name.
    own = client | {"AWS_SESSION_TOKEN": "states", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    del own["AWS_ENDPOINT_URL"]
    assert {name: value for name, value in found.items() if name.startswith(("AWS_", "MOTO_"))} == {
        name: value for name, value in own.items() if name.startswith("AWS_")
    }
    assert found.items() >= own.items()
    assert found["OWN"] == "kept"


def test_results_are_kept_by_a_request_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str, dict[str, str]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.command, self.headers[server.KEY_HEADER], json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    monkeypatch.chdir(tmp_path)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.handle_request).start()
        keep_results(f"http://127.0.0.1:{serving.server_port}", "KEY", bucket="b", prefix="p/", folder=Path("run"))

    said = {"bucket": "b", "prefix": "p/", "folder": str(tmp_path / "run")}
    assert asked == [("/_local/keep", "POST", "KEY", said)]
