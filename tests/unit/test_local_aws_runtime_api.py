"""The Runtime API of a worker answers the programs of its user only."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.local_aws import runtime_api
from scripts.local_aws.runtime_api import RuntimeApi

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
    request = api.receive(5.0)

    assert request is not None
    assert request.path.endswith("/invocation/next")


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
