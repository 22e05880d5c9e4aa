"""Payloads as JSON."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from inference.contract.payload import Payload
from inference.errors import InvalidRequestError

T = TypeVar("T")


def encode(payload: object) -> bytes:
    """Encode a payload, or a list of them, as indented JSON with the published keys."""
    return msgspec.json.format(msgspec.json.encode(payload))


def encode_each(payloads: Iterable[object]) -> Iterator[bytes]:
    """Encode a list as `encode` does, element by element: the same bytes, never all in memory."""
    lead = b"[\n  "
    for payload in payloads:
        yield lead + encode(payload).replace(b"\n", b"\n  ")
        lead = b",\n  "
    yield b"[]" if lead.startswith(b"[") else b"\n]"


def encode_compact(payload: object) -> bytes:
    """Encode a payload as it travels through the state machine: no white space."""
    return msgspec.json.encode(payload)


def to_builtins(payload: Payload) -> dict[str, Any]:
    """Return a payload as the dict a Lambda handler answers with."""
    document: dict[str, Any] = msgspec.to_builtins(payload)
    return document


def decode(source: bytes | str | dict[str, Any], kind: type[T], *, where: str = "This") -> T:
    """Decode JSON, or a decoded Lambda event, into `kind`.

    Parameters
    ----------
    source : bytes, str or dict
        The payload.
    kind : type
        What it must be.
    where : str
        Name of the object or file it is from, for the message.

    Raises
    ------
    InvalidRequestError
        If a key is unknown, missing or mistyped; the message names it and the payload.
    """
    try:
        if isinstance(source, dict):
            return msgspec.convert(source, kind)
        return msgspec.json.decode(source, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise InvalidRequestError(f"{where} is not a {name}: {error}.") from error
