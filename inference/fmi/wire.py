"""Bytes between a rank and the rendezvous server: TCPunch v1, two requests of our own, and PROXY v2 in front of them.

Two clients that send the same name meet. In v1 the server answers each with the address that it sees it under, then,
when the second is there, with the other's, and closes::

    client → server  NAME      1 to 100 bytes, no length, no terminator; then the client is silent
    server → client  ADDR      8 bytes: the client's own address
    server → client  ADDR      8 bytes: its partner's; then FIN

A refused name is answered by FIN alone. v1 cuts a name at NUL, so what begins with one is no name, but ours::

    client → server  00 "FMI" KIND LENGTH NAME   KIND: `Kind`, LENGTH: bytes of NAME, 0 to 100
    server → client  00 "FMI" STATUS ADDR        STATUS: `Status`

CHECK is answered at once: ADDR is the client's own, and STATUS says whether NAME would be let in (without a NAME only
the address is asked for). RELAY is answered when both are there, by PAIRED and the partner's ADDR, or by a refusal and
FIN; what follows PAIRED is the partner's bytes. Before that the client must be silent.

References
----------
TCPunch: https://github.com/spcl/TCPunch. PROXY protocol: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.
"""

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from inference.errors import RunError

Address = tuple[str, int]
"""IPv4 address in dotted decimals, and port."""

MAX_NAME_BYTES = 100

_ADDRESS = struct.Struct("!4sHxx")
ADDRESS_BYTES = _ADDRESS.size

_MAGIC = b"\0FMI"
_REQUEST = struct.Struct("!4sBB")
_REPLY = struct.Struct("!4sB8s")
REPLY_BYTES = _REPLY.size

_PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY_HEAD = struct.Struct("!12sBBH")
# Addresses take 12 bytes and a load balancer adds some identifiers; more than this is no header.
_MAX_PROXY_BYTES = 1024


class ProtocolError(RunError):
    """What came over a connection is not what this protocol allows. Not retried."""


class Kind(IntEnum):
    """What a client asks for."""

    MEET = 0
    """The partner's address; v1, so it has no number on the wire."""
    RELAY = 1
    """A connection to the partner through the server."""
    CHECK = 2
    """Its own address, and whether the name would be let in."""


class Status(IntEnum):
    """What the server says to RELAY and CHECK."""

    OK = 0
    PAIRED = 1
    TOKEN_INVALID = 2
    TOKEN_EXPIRED = 3
    FULL = 4
    TIMEOUT = 5
    CLOSING = 6

    @property
    def is_refusal(self) -> bool:
        """Whether nothing follows but FIN."""
        return self not in (Status.OK, Status.PAIRED)


class Request(NamedTuple):
    """A client's request, complete."""

    kind: Kind
    name: bytes


class Reply(NamedTuple):
    """The server's answer to RELAY or CHECK."""

    status: Status
    address: Address


def pair_label(rank: int, other: int) -> str:
    """Return the part of a name that says who meets, the same for both: ``LOW_HIGH``."""
    return f"{min(rank, other)}_{max(rank, other)}"


def open_name(run: str, rank: int, other: int) -> bytes:
    """Return the name under which two ranks meet where the server asks for no token.

    Raises
    ------
    ProtocolError
        If `run` makes it longer than v1 allows: it would be cut, and other ranks be met.
    """
    return _checked(f"{run}.{pair_label(rank, other)}".encode())


def pack_address(address: Address) -> bytes:
    """Return the 8 bytes of an address: IPv4 and port in network order, two zeros."""
    host, port = address
    return _ADDRESS.pack(socket.inet_pton(socket.AF_INET, host), port)


def unpack_address(record: bytes) -> Address:
    """Read the 8 bytes of an address; the last two mean nothing.

    Raises
    ------
    ProtocolError
        If there are fewer or more.
    """
    if len(record) != ADDRESS_BYTES:
        raise ProtocolError(f"An address has {ADDRESS_BYTES} bytes, not {len(record)}: this is no rendezvous server.")
    host, port = _ADDRESS.unpack(record)
    return socket.inet_ntop(socket.AF_INET, host), port


def pack_request(request: Request) -> bytes:
    """Return what a client sends, in one write."""
    name = _checked(request.name) if request.name or request.kind is not Kind.CHECK else b""
    if request.kind is Kind.MEET:
        return name
    return _REQUEST.pack(_MAGIC, request.kind, len(name)) + name


def parse_request(received: bytes) -> Request | None:
    """Read a request from all that a client has sent so far; None while bytes are missing.

    v1 has no length: what the first read brought is the name, cut at 100 bytes and at the first NUL.

    Raises
    ------
    ProtocolError
        If no more bytes can make it a request: an empty name, an unknown kind, more bytes than announced.
    """
    if not received:
        return None
    if received[0] != 0:
        return Request(Kind.MEET, received[:MAX_NAME_BYTES].partition(b"\0")[0])
    if not received.startswith(_MAGIC[: len(received)]):
        raise ProtocolError("The name is empty.")
    if len(received) < _REQUEST.size:
        return None
    _, kind, num_bytes = _REQUEST.unpack_from(received)
    name = received[_REQUEST.size :]
    if kind not in (Kind.RELAY, Kind.CHECK) or num_bytes > MAX_NAME_BYTES or (kind == Kind.RELAY and not num_bytes):
        raise ProtocolError(f"There is no request of kind {kind} with a name of {num_bytes} bytes.")
    if len(name) > num_bytes:
        raise ProtocolError("The client spoke before it was answered.")
    return Request(Kind(kind), name) if len(name) == num_bytes else None


def pack_reply(reply: Reply) -> bytes:
    """Return the 13 bytes of a reply."""
    return _REPLY.pack(_MAGIC, reply.status, pack_address(reply.address))


def unpack_reply(record: bytes) -> Reply:
    """Read the 13 bytes of a reply.

    Raises
    ------
    ProtocolError
        If they are none.
    """
    if len(record) != REPLY_BYTES or not record.startswith(_MAGIC):
        raise ProtocolError("The answer is not of this protocol: the server is another one, or TCPunch's own.")
    _, status, address = _REPLY.unpack(record)
    try:
        return Reply(Status(status), unpack_address(address))
    except ValueError as error:
        raise ProtocolError(f"The server answered with status {status}, which this version does not know.") from error


def parse_proxy_header(received: bytes) -> tuple[Address | None, int] | None:
    """Read the PROXY v2 header that a load balancer puts in front of what a client sends.

    Returns
    -------
    tuple or None
        The client's address, None when the load balancer itself is asking (LOCAL), and the length of the header
        [bytes]; None while bytes are missing.

    Raises
    ------
    ProtocolError
        If `received` does not begin with a header, or if it is not of TCP over IPv4.
    """
    if not received.startswith(_PROXY_SIGNATURE[: len(received)]):
        raise ProtocolError("The connection does not begin with a PROXY v2 header.")
    if len(received) < _PROXY_HEAD.size:
        return None
    _, command, family, num_bytes = _PROXY_HEAD.unpack_from(received)
    if command not in (0x20, 0x21) or num_bytes > _MAX_PROXY_BYTES:
        raise ProtocolError(f"A PROXY header of command {command:#x} with {num_bytes} bytes is not of version 2.")
    end = _PROXY_HEAD.size + num_bytes
    if command == 0x20:
        return (None, end) if len(received) >= end else None
    if family != 0x11 or num_bytes < 12:
        raise ProtocolError(f"The PROXY header is of family {family:#x}; only TCP over IPv4 can meet.")
    if len(received) < end:
        return None
    source, _, port, _ = struct.unpack_from("!4s4sHH", received, _PROXY_HEAD.size)
    return (socket.inet_ntop(socket.AF_INET, source), port), end


def _checked(name: bytes) -> bytes:
    if not 1 <= len(name) <= MAX_NAME_BYTES or b"\0" in name:
        raise ProtocolError(
            f"The name {name!r} has {len(name)} bytes; a name has 1 to {MAX_NAME_BYTES}, none of them NUL. "
            "Choose a shorter name of the communicator."
        )
    return name
