"""The Lambda Runtime API: the HTTP requests by which AWS's runtime fetches invocations and hands in results.

``GET /2018-06-01/runtime/invocation/next`` waits for an invocation, ``POST …/invocation/ID/response`` and
``POST …/invocation/ID/error`` end it, and ``POST …/init/error`` says that there is nothing to invoke.

References
----------
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import http.client
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple

HOST = "127.0.0.1"
TRANSFER_TIMEOUT_S = 60.0
"""Longest pause within one request or answer."""

CONNECTIONS = Path("/proc/net/tcp")
"""The system's table of connections, with the user of each (man 5 proc_pid_net)."""

TABLE_TIMEOUT_S = 1.0


class Request(NamedTuple):
    """What a runtime asks."""

    path: str
    body: bytes


class RuntimeApi:
    """The API of one runtime, on a port of its own: AWS's client takes no path in its address.

    Needs no thread: a runtime asks for one thing at a time, and whoever wants an invocation done waits for it here.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._connection: socket.socket | None = None
        self._reader: IO[bytes] | None = None
        self._request: Request | None = None

    @property
    def address(self) -> str:
        """Value of AWS_LAMBDA_RUNTIME_API."""
        return f"{HOST}:{self._listener.getsockname()[1]}"

    def receive(self, timeout_s: float) -> Request | None:
        """Return the request that waits for an answer; None if there is none after `timeout_s` [s], or earlier.

        Raises
        ------
        OSError
            If the runtime ends in the middle of a request.
        """
        if self._request is None and _is_readable(self._connection or self._listener, timeout_s):
            if self._connection is None or self._reader is None:
                self._connect()
            else:
                self._request = self._read(self._reader)
        return self._request

    def answer(self, status: HTTPStatus, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer the request that waits.

        Raises
        ------
        OSError
            If the runtime has ended.
        """
        assert self._connection is not None
        fields = {**(headers or {}), "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self._request = None
        self._connection.sendall("\r\n".join(lines).encode() + body)

    def close(self) -> None:
        """Refuse every further request."""
        self._disconnect()
        self._listener.close()

    def _connect(self) -> None:
        connection, _ = self._listener.accept()
        if not _is_own(connection):
            connection.close()
            return
        self._connection = connection
        self._connection.settimeout(TRANSFER_TIMEOUT_S)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._connection.makefile("rb")

    def _disconnect(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._reader = None

    def _read(self, reader: IO[bytes]) -> Request | None:
        line = reader.readline().decode("ascii").split()
        if not line:
            self._disconnect()  # between two requests; the runtime may connect again
            return None
        headers = http.client.parse_headers(reader)
        return Request(line[1], reader.read(int(headers.get("Content-Length", 0))))


def _is_own(connection: socket.socket) -> bool:
    """Return whether a program of this user is at the other end: another user's could take our invocations.

    True where the system has no table of connections.
    """
    # Theirs, seen from their side.
    ends = [_in_table(*connection.getpeername()), _in_table(*connection.getsockname())]
    deadline = time.monotonic() + TABLE_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            table = CONNECTIONS.read_text()
        except OSError:
            return True
        for fields in map(str.split, table.splitlines()):
            if fields[1:3] == ends:
                return int(fields[7]) == os.getuid()
        # A connection can be missing in a table that changes while it is read.
    return False


def _in_table(address: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"


def _is_readable(source: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
