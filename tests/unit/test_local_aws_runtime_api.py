"""The Runtime API of a worker: one request at a time, of programs of its user only."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.local_aws import runtime_api
from scripts.local_aws.runtime_api import Request, RuntimeApi

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n"


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with contextlib.closing(RuntimeApi()) as api:
        yield api


@pytest.fixture
def caller(api: RuntimeApi) -> Iterator[socket.socket]:
    """A program that asks for an invocation."""
    host, port = api.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as caller:
        caller.sendall(NEXT)
        api.receive(5.0)  # it connects
        yield caller


@pytest.mark.usefixtures("caller")
def test_a_program_of_the_user_is_served(api: RuntimeApi) -> None:
    assert api.receive(5.0) == Request("/2018-06-01/runtime/invocation/next", b"")
    # It waits for its answer.
    assert api.receive(0.0) == Request("/2018-06-01/runtime/invocation/next", b"")


def test_one_request_after_another_is_answered(api: RuntimeApi, caller: socket.socket) -> None:
    api.receive(5.0)
    api.answer(HTTPStatus.OK, {"Request-Id": "7"}, b"[1]")
    assert caller.recv(1024) == b"HTTP/1.1 200 OK\r\nRequest-Id: 7\r\nContent-Length: 3\r\n\r\n[1]"
    assert api.receive(0.0) is None
    # It takes a while.
    head = b"POST /result HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
    threading.Timer(0.1, caller.sendall, [head + b"[2]\n"]).start()
    assert api.receive(30.0) == Request("/result", b"[2]\n")
    api.answer(HTTPStatus.ACCEPTED)
    assert caller.recv(1024) == b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def test_a_program_may_connect_again_until_the_end(api: RuntimeApi, caller: socket.socket) -> None:
    host, port = api.address.split(":")
    api.receive(5.0)
    api.answer(HTTPStatus.OK)
    caller.recv(1024)
    caller.close()
    assert api.receive(5.0) is None  # it has gone

    with socket.create_connection((host, int(port)), timeout=5) as again:
        again.sendall(NEXT)
        assert api.receive(5.0) is None  # it connects
        assert api.receive(5.0) is not None
        api.close()
        assert again.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.usefixtures("caller")
def test_an_answer_is_sent_at_once(api: RuntimeApi) -> None:
    assert api._connection is not None
    assert api._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_program_that_stops_within_a_request_is_not_waited_for(
    api: RuntimeApi, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(runtime_api, "TRANSFER_TIMEOUT_S", 0.05)
    caller: socket.socket = request.getfixturevalue("caller")
    api.receive(5.0)
    api.answer(HTTPStatus.OK)
    caller.sendall(NEXT[:-2])

    with pytest.raises(TimeoutError):
        api.receive(5.0)


def test_a_system_without_a_table_serves_every_program(
    api: RuntimeApi, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime_api, "CONNECTIONS", tmp_path / "tcp")
    request.getfixturevalue("caller")

    assert api.receive(5.0) is not None


def test_a_connection_that_is_missing_in_a_changing_table_is_looked_for_again(
    api: RuntimeApi, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    read, tables = runtime_api.CONNECTIONS.read_text, iter(["", "  sl  local_address rem_address\n"])
    monkeypatch.setattr(runtime_api, "CONNECTIONS", SimpleNamespace(read_text=lambda: next(tables, None) or read()))
    request.getfixturevalue("caller")

    assert api.receive(5.0) is not None


def test_a_program_of_another_user_gets_no_invocation(
    api: RuntimeApi, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    other: socket.socket = request.getfixturevalue("caller")

    assert api.receive(0.0) is None
    with contextlib.suppress(ConnectionResetError):
        assert other.recv(1) == b""  # closed


def test_a_program_that_is_in_no_table_gets_no_invocation(
    api: RuntimeApi, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "tcp").write_text("")
    monkeypatch.setattr(runtime_api, "CONNECTIONS", tmp_path / "tcp")
    monkeypatch.setattr(runtime_api, "TABLE_TIMEOUT_S", 0.01)
    request.getfixturevalue("caller")

    assert api.receive(0.0) is None
