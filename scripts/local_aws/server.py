"""Starting and stopping the local AWS from Python."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec

from scripts.command.errors import CommandError
from scripts.command.machine import num_cores
from scripts.command.repository import REPOSITORY
from scripts.local_aws.admission import KEY_HEADER, new_key
from scripts.local_aws.calls import STATES
from scripts.local_aws.rudeness import Rudeness

REGION = "us-east-1"
STOP_TIMEOUT_S = 15
SERVER_LOG = "server.log"
TAIL_BYTES = 2**16
REASON = re.compile(r"^(OSError: \[Errno \d+\] .*|MemoryError.*|RuntimeError: can't start new thread)$", re.MULTILINE)
"""Last line of a traceback that is about the machine."""


class LocalAwsError(CommandError):
    """The local AWS did not start; the message holds the end of its log."""


class LocalAws:
    """S3, Step Functions, Lambda and the rest of moto on 127.0.0.1, in a process of their own.

    Parameters
    ----------
    log_dir : Path, optional
        Folder for ``server.log`` and one log per worker (``infer-0.log``, …); a temporary one when absent.
    workers : int, optional
        Invocations of one function that run at the same time; the number of cores when absent.
    port : int
        Port to listen on; 0 takes a free one.
    rudeness : Rudeness, optional
        What it refuses although it could do it, as AWS does; nothing when absent.
    call_log : Path, optional
        File that every request is recorded in, see `calls`; none when absent.

    Examples
    --------
    >>> with LocalAws() as aws:  # doctest: +SKIP
    ...     boto3.client("s3", endpoint_url=aws.endpoint_url, **aws.credentials)
    """

    def __init__(
        self,
        *,
        log_dir: Path | None = None,
        workers: int | None = None,
        port: int = 0,
        rudeness: Rudeness | None = None,
        call_log: Path | None = None,
    ) -> None:
        self.workers = workers or num_cores()
        self.endpoint_url = ""
        self.key = new_key()
        self.pid = 0
        self._temporary = tempfile.TemporaryDirectory(prefix="local-aws-") if log_dir is None else None
        self.log_dir = Path(self._temporary.name) if self._temporary else Path(log_dir or "")
        self._port = port
        self._rudeness = rudeness or Rudeness()
        self._call_log = call_log
        self._process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point boto3, the AWS CLI or Terraform at this server."""
        return client_environment(self.endpoint_url, REGION, self.key)

    @property
    def credentials(self) -> dict[str, str]:
        """The same for `boto3.client`, as keyword arguments."""
        return client_arguments(self.endpoint_url, self.key)

    def __enter__(self) -> Self:
        """Start the server and wait until it answers."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"port": self._port, "workers": self.workers, "log_dir": str(self.log_dir.resolve())}
        settings["rudeness"] = msgspec.to_builtins(self._rudeness)
        settings["call_log"] = str(self._call_log.resolve()) if self._call_log else None
        with (self.log_dir / SERVER_LOG).open("ab") as log:
            self._process = self._start(json.dumps(settings), log)
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server and everything it started."""
        self.stop()

    def is_running(self) -> bool:
        """Return whether the server is alive."""
        return self._process is not None and self._process.poll() is None

    def wait(self, stop: threading.Event) -> None:
        """Wait until `stop` is set, or the server has ended."""
        while self.is_running() and not stop.wait(timeout=1):
            pass

    def stop(self) -> None:
        """End the server and everything it started; does nothing when it has ended."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its guardian ends the workers
            process.wait()
        process.stdout.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _start(self, settings: str, log: BinaryIO) -> "subprocess.Popen[str]":
        # A session of its own: Ctrl-C reaches only us, and we end it in order. Its stdin ends with this process.
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.local_aws.serve", settings],
            cwd=REPOSITORY,
            env=_server_environment(self.key),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready:
            log = (self.log_dir / SERVER_LOG).read_text(errors="replace")
            self.stop()
            raise LocalAwsError(f"The local AWS did not start:\n{log[-2000:]}")
        self.endpoint_url = json.loads(ready)["endpoint_url"]
        self.pid = json.loads(ready)["pid"]


def last_reason(log: Path) -> str:
    """Return the last line in which a server says what it has run out of; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
            found = REASON.findall(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return str(found[-1]) if found else ""


def stop_signals() -> threading.Event:
    """Return what Ctrl-C and SIGTERM set from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def keep_results(endpoint_url: str, key: str, *, bucket: str, prefix: str, folder: Path) -> None:
    """Let a server write what is put under a prefix into a folder, too, as soon as it is there."""
    body = json.dumps({"bucket": bucket, "prefix": prefix, "folder": str(folder.resolve())}).encode()
    request = urllib.request.Request(f"{endpoint_url}/_local/keep", body, {KEY_HEADER: key})  # noqa: S310
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def client_arguments(endpoint_url: str, key: str) -> dict[str, str]:
    """Return the keyword arguments that point `boto3.client` at `endpoint_url`, which wants its own key."""
    return {
        "endpoint_url": endpoint_url,
        "region_name": REGION,
        "aws_access_key_id": key,
        "aws_secret_access_key": key,
    }


def client_environment(endpoint_url: str, region: str, key: str) -> dict[str, str]:
    """Return the variables that point an AWS client at `endpoint_url`, which wants its own key."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_SESSION_TOKEN": key,  # or one of a user's profile would be sent
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # A proxy would not find 127.0.0.1.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _server_environment(key: str) -> dict[str, str]:
    """Return our variables with AWS settings of the server's own: a user's profile must never reach it.

    moto makes clients of its own; without credentials they would look for some at the EC2 metadata address.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    own = {name: value for name, value in client_environment("", REGION, key).items() if name != "AWS_ENDPOINT_URL"}
    return inherited | own | {"AWS_SESSION_TOKEN": STATES}
