"""Programs as ``python -m`` starts them, forked from a process that has imported what they import.

Importing costs a command or a local AWS a second of CPU and a worker a third of one. Tests of processes and signals,
such as `tests/integration/test_local_aws_processes.py`, start them from nothing.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NoReturn

from execnet import gateway_base, gateway_io

from scripts.command.repository import REPOSITORY
from scripts.local_aws import server


class Forked:
    """A program that runs, with as much of `subprocess.Popen` as is used here."""

    stdin: Any = None
    stdout: Any = None
    returncode: int | None = None

    def __init__(self, line: socket.socket, held: int) -> None:
        self._said, self._held = line.makefile(), held
        line.close()
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        """Return its exit status if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status once it has ended."""
        if self.returncode is None:
            if not wait([self._held], timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._said.readline())
            self._said.close()
            os.close(self._held)
        return self.returncode

    def kill(self) -> None:
        """End it if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Preloaded:
    """A process that forks programs; it starts with the first and ends with this process.

    Parameters
    ----------
    name : str
        Of this one below.
    imports : str
        What it does first, in Python.
    asks : Preloaded, optional
        The one that its programs fork others from.
    """

    def __init__(self, name: str, imports: str, *, asks: "Preloaded | None" = None) -> None:
        self._name, self.imports, self._asks = name, imports, asks
        self._channel: socket.socket | None = None

    @property
    def channel(self) -> socket.socket:
        """What asks it for programs."""
        if self._channel is None:
            self._channel, theirs = socket.socketpair()
            handed_on = [self._asks.channel.fileno()] if self._asks else []
            program = f"{self.imports}\nfrom tests import forked\nforked.{self._name}.fork_programs(*{handed_on})"
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    cwd=REPOSITORY,
                    env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))},
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    pass_fds=handed_on,
                    start_new_session=True,
                )
            atexit.register(self._end)
        return self._channel

    def _end(self) -> None:
        self.channel.close()
        self._process.kill()
        self._process.wait()

    def start(self, *argv: str, cwd: Path, env: Mapping[str, str], streams: Iterable[Any]) -> Forked:
        """Start ``python -m ARGV`` or ``-c CODE`` in a session of its own, with files or descriptors as its streams."""
        line, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.channel, [b"+"], [theirs.fileno()])
        # The program alone holds one end of a pipe, unseen: the other one tells at once that it has ended.
        held, end = os.pipe()
        socket.send_fds(line, [b"+"], [one if isinstance(one, int) else one.fileno() for one in (*streams, end)])
        os.close(end)
        line.sendall(json.dumps([argv, str(cwd), dict(env)]).encode() + b"\n")
        return Forked(line, held)

    def start_piped(self, *argv: str, cwd: Path, env: Mapping[str, str], stderr: Any) -> tuple[Forked, int, int]:
        """Start it between two pipes; return also what to write to and what to read from."""
        inputs, outputs = os.pipe(), os.pipe()
        process = self.start(*argv, cwd=cwd, env=env, streams=(inputs[0], outputs[1], stderr))
        os.close(inputs[0])
        os.close(outputs[1])
        return process, inputs[1], outputs[0]

    def fork_programs(self, *handed_on: int) -> None:
        """Fork a program whenever one is asked for, until nobody is left who could ask."""
        if self._asks:
            self._asks._channel = socket.socket(fileno=handed_on[0])
        sys.path[0] = str(REPOSITORY)
        gc.freeze()
        channel = socket.socket(fileno=os.dup(0))
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        while (asked := socket.recv_fds(channel, 1, 1))[0]:
            with contextlib.suppress(ChildProcessError):  # there is none
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            with socket.socket(fileno=asked[1][0]) as line:
                if os.fork() == 0:
                    channel.close()
                    _start_and_wait(line)


def _start_and_wait(line: socket.socket) -> NoReturn:
    """Start one program, say its pid and, at its end, its exit status, which only its parent is told."""
    descriptors = socket.recv_fds(line, 1, 4)[1]
    with line.makefile() as asked:
        argv, cwd, environment = json.loads(asked.readline())
    pid = os.fork()
    if pid == 0:
        line.close()
        _run(argv, cwd, environment, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # whoever asked has ended
        line.sendall(f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        line.sendall(f"{status}\n".encode())
    os._exit(0)


def _run(argv: list[str], cwd: str, environment: dict[str, str], descriptors: list[int]) -> NoReturn:
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    sys.modules.pop(argv[0], None)  # what it imports stays; it is run as the program
    if argv[0] == "-c":
        exec(argv[1], {"__name__": "__main__"})
        # Libraries that started a thread when they were imported would wait for it, and it was not forked.
        atexit._run_exitfuncs()
        os._exit(0)
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    sys.exit()


WORKERS = Preloaded(
    "WORKERS",
    """
import sys
import handlers.infer, handlers.initialize, handlers.summarize
# What reads its environment when it is imported is imported again.
for name in [name for name in sys.modules if name.partition(".")[0] == "handlers"]:
    del sys.modules[name]
""",
)

SERVERS = Preloaded(
    "SERVERS",
    """
import functools, os
from scripts.local_aws import serve
serve._import_when_used(serve.CERTIFICATES)
serve._import_interpreter()
from moto.core.responses import _get_method_urls
from moto.moto_api._internal import mock_random
from moto.moto_server import werkzeug_app
from scripts.local_aws import guardian, middleware, objects, patches
# What moto makes of a service when it is first asked: its routes take a tenth of a second of CPU.
werkzeug_app.create_backend_app = functools.cache(werkzeug_app.create_backend_app)
for service in ("awslambda", "ecr", "iam", "logs", "s3", "stepfunctions", "sts"):
    werkzeug_app.create_backend_app(service)
    _get_method_urls(service, serve.REGION)
from tests.forked import fork_worker
os.register_at_fork(after_in_child=mock_random.seed)
guardian.Guardian._spawn = fork_worker
""",
    asks=WORKERS,
)

COMMANDS = Preloaded(
    "COMMANDS",
    """
from scripts import catalog, cost, doctor, invoke, resume, run, status, sweep
from scripts.local_aws import server
from tests.forked import LocalAws
server.LocalAws._start = LocalAws._start
""",
    asks=SERVERS,
)


class LocalAws(server.LocalAws):
    """The local AWS, its server and workers forked."""

    def _start(self, settings: str, log: Any) -> Any:
        process, to_it, from_it = SERVERS.start_piped(
            *("scripts.local_aws.serve", settings),
            cwd=REPOSITORY,
            env=server._server_environment(self.key),
            stderr=log,
        )
        process.stdin, process.stdout = os.fdopen(to_it, "w"), os.fdopen(from_it)
        return process


def fork_worker(
    guardian: Any, command: list[str], _lifeline: int, *, cwd: Path, env: Any, stdout: Any, **_: Any
) -> Any:
    """Fork a worker instead of starting it, and tell its guardian."""
    with open(os.devnull, "rb") as nothing:
        process = WORKERS.start(*command[2:], cwd=cwd, env=env, streams=(nothing, stdout, stdout))
    with contextlib.suppress(BrokenPipeError):
        guardian._process.stdin.write(f"+{process.pid}\n".encode())
        guardian._process.stdin.flush()
    return process


TESTERS = Preloaded("TESTERS", "")


class Tester(gateway_base.Popen2IO):
    """A process that runs tests, forked from one that has collected them: each would spend 8 s of CPU on it, of 9.

    Parameters
    ----------
    paths : list of str
        What to collect.
    execmodel
        Of execnet.
    """

    def __init__(self, paths: list[str], execmodel: Any) -> None:
        # What the tests of tables import when they use it is used by all of these processes.
        TESTERS.imports = f"""
import astropy.table, pandas, pyarrow.compute, pytest
pytest.main(['--collect-only', '-qq', '-n0', *{paths}])
"""
        self._process, to_it, from_it = TESTERS.start_piped(
            *("-c", gateway_io.popen_bootstrapline), cwd=Path.cwd(), env=os.environ, stderr=2
        )
        super().__init__(os.fdopen(to_it, "wb"), os.fdopen(from_it, "rb"), execmodel)

    def wait(self) -> int:
        """Return its exit status once it has ended."""
        return self._process.wait()

    def kill(self) -> None:
        """End it if it runs."""
        self._process.kill()
