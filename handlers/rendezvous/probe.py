"""Looks whether a rendezvous server answers, and under which address it sees the one who asks."""

import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

from inference.fmi.wire import REPLY_BYTES, Address, Kind, ProtocolError, Request, Status, pack_request, unpack_reply


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What came of a question."""

    status: Status
    """OK, or why the server would not let the name in."""
    server: Address
    """What its name resolved to."""
    seen_as: Address
    """Where the server sees the question come from."""
    local: Address
    """Where the question came from, as this machine sees it: another port means a NAT that changes it."""
    connect_s: float
    answer_s: float


def probe(host: str, port: int, *, name: bytes = b"", timeout_s: float = 5.0) -> Sighting:
    """Ask a server for the address it sees, and whether it would let `name` in.

    Parameters
    ----------
    host : str
        Its DNS name or IPv4 address.
    port : int
    name : bytes
        A name as ranks meet under; empty to ask for no more than the address.
    timeout_s : float
        For all of it but the resolver's own.

    Raises
    ------
    ConnectionError
        If the name does not resolve, nothing listens, or no answer comes in time; the message says which.
    ProtocolError
        If what answers is no server of this protocol.
    """
    try:
        return _ask(host, port, name, timeout_s)
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ConnectionError(f"The rendezvous server {host}:{port} cannot be reached: {reason}.") from error


def _ask(host: str, port: int, name: bytes, timeout_s: float) -> Sighting:
    deadline_s = time.monotonic() + timeout_s
    server = (socket.gethostbyname(host), port)
    started_s = time.perf_counter()
    with socket.create_connection(server, timeout=timeout_s) as connection:
        connected_s = time.perf_counter()
        connection.sendall(pack_request(Request(Kind.CHECK, name)))
        answer = b""
        while len(answer) < REPLY_BYTES:
            connection.settimeout(max(0.001, deadline_s - time.monotonic()))
            part = connection.recv(REPLY_BYTES - len(answer))
            if not part:
                raise ProtocolError(f"{host}:{port} closed without an answer: it is no rendezvous server of ours.")
            answer += part
        reply = unpack_reply(answer)
        return Sighting(
            status=reply.status,
            server=server,
            seen_as=reply.address,
            local=connection.getsockname(),
            connect_s=connected_s - started_s,
            answer_s=time.perf_counter() - connected_s,
        )


def to_builtins(sighting: Sighting) -> dict[str, Any]:
    """Return what was seen as JSON takes it."""
    return asdict(sighting) | {"status": sighting.status.name}


def from_builtins(document: dict[str, Any]) -> Sighting:
    """Read what `to_builtins` returned, also after it was JSON."""
    addresses = {name: tuple(document[name]) for name in ("server", "seen_as", "local")}
    return Sighting(**document | addresses | {"status": Status[document["status"]]})
