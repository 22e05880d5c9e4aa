"""A message on the wire: a header with kind, tag, dtype and shape, then the array's bytes.

::

    "FMI2"  kind u8  ndim u8  dtype 6 bytes, as numpy spells it ("<f8")  tag u32  payload u64  shape ndim u64  payload

All numbers in network order, the array in the byte order that its dtype names. Nothing that comes in is executed or
unpickled, and nothing is allocated for it before its header was checked.
"""

import struct
from collections import deque
from enum import IntEnum
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.errors import MessageMismatchError

Array = NDArray[Any]

MAX_DIMENSIONS = 8
LARGE_PAYLOAD_BYTES = 2**14
"""From this size on a second read costs less than a copy."""

_MAGIC = b"FMI2"
_HEAD = struct.Struct("!4sBB6sIQ")
_TAG = slice(12, 16)
_SHAPES = tuple(struct.Struct(f"!{ndim}Q") for ndim in range(MAX_DIMENSIONS + 1))
_KINDS_OF_NUMBERS = "biufc"


class Kind(IntEnum):
    """What a message is for."""

    POINT = 0
    """From `send` to `recv`."""

    COLLECTIVE = 1
    """A step of a collective; its tag says which."""

    ABORT = 2
    """The sender has given up; the payload says why, as JSON."""

    BYE = 3
    """The sender has closed its communicator in order; it says nothing more."""


# A tenth of the time that it takes to look one up in its class.
POINT, COLLECTIVE, ABORT, BYE = KINDS = tuple(Kind)


class Message(NamedTuple):
    """One message."""

    kind: Kind
    tag: int
    array: Array

    @property
    def num_bytes(self) -> int:
        """What it takes on the wire [bytes]."""
        return _HEAD.size + 8 * self.array.ndim + self.array.nbytes


def header(message: Message) -> bytes:
    """Return the bytes in front of the array's.

    Raises
    ------
    MessageMismatchError
        If the array holds something else than numbers, or has more than eight dimensions; if the tag has no place.
    """
    kind, tag, array = message
    before, after = _around_the_tag(kind, array.dtype, array.shape)
    try:
        return before + tag.to_bytes(4, "big") + after
    except OverflowError as error:
        raise MessageMismatchError(f"{tag} is no tag of a message: tags count from 0 to {2**32 - 1}.") from error


@lru_cache(256)
def _around_the_tag(kind: Kind, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Return what stands in front of the tag and behind it: made once for all messages that differ in nothing else."""
    if dtype.kind not in _KINDS_OF_NUMBERS or len(shape) > MAX_DIMENSIONS:
        raise MessageMismatchError(
            f"An array of dtype {dtype} with {len(shape)} dimensions cannot be sent: send numbers or booleans in at "
            f"most {MAX_DIMENSIONS} dimensions."
        )
    head = _HEAD.pack(_MAGIC, kind, len(shape), dtype.str.encode(), 0, dtype.itemsize * prod(shape))
    return head[: _TAG.start], head[_TAG.stop :] + _SHAPES[len(shape)].pack(*shape)


class FrameReader:
    """Turns bytes, in whatever pieces they come, into messages.

    Parameters
    ----------
    max_message_bytes : int
        Largest payload to accept [bytes].
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._head = bytearray()
        self._kind, self._tag = POINT, 0
        self._array: Array | None = None
        self.rest = memoryview(b"")
        """What is missing of a payload, to receive straight into; call `filled` then. Empty between payloads."""
        self.targets: deque[Array] = deque()
        """Where the next steps of collectives are wanted, in order, if they have this dtype and shape; contiguous."""
        self.messages: deque[Message] = deque()
        """Complete ones, in the order in which they were sent."""

    @property
    def is_between_messages(self) -> bool:
        """True when no message has begun: the stream may end here."""
        return not self._head and self._array is None

    @property
    def has_begun_collective(self) -> bool:
        """True when the payload of a step of a collective is on its way to where it stays."""
        return self._array is not None and self._kind is COLLECTIVE

    @property
    def num_bytes_wanted(self) -> int:
        """How much to read ahead of a payload [bytes], so that a target is read into and not copied to."""
        return max(1, _HEAD.size + 8 * self.targets[0].ndim - len(self._head))

    def filled(self, num_bytes: int) -> None:
        """Take note of bytes that were put into `rest`."""
        self.rest = self.rest[num_bytes:]
        if not self.rest and self._array is not None:
            self.messages.append(Message(self._kind, self._tag, self._array))
            self._array = None

    def feed(self, received: bytes | memoryview) -> None:
        """Take the next bytes of the stream.

        Raises
        ------
        MessageMismatchError
            If they are no message of this protocol, or one that is too large.
        """
        view = memoryview(received)
        while view:
            if self._array is not None:
                num_bytes = min(len(view), len(self.rest))
                self.rest[:num_bytes] = view[:num_bytes]
                self.filled(num_bytes)
            elif not self._head and (num_bytes := _header_bytes(view)) <= len(view):
                self._begin(view[:num_bytes])
            else:
                num_bytes = min(len(view), _header_bytes(self._head) - len(self._head))
                self._head += view[:num_bytes]
                if _header_bytes(self._head) == len(self._head):
                    head, self._head = self._head, bytearray()
                    self._begin(head)
            view = view[num_bytes:]

    def _begin(self, head: bytearray | memoryview) -> None:
        """Make room for the payload that a header announces."""
        _, kind, ndim, name, self._tag, num_bytes = _HEAD.unpack_from(head)
        self._kind = KINDS[kind]
        shape = _SHAPES[ndim].unpack_from(head, _HEAD.size)
        dtype = _dtype(name)
        if num_bytes != dtype.itemsize * prod(shape):
            raise MessageMismatchError(f"A message of {num_bytes} bytes claims to be {dtype} of shape {shape}.")
        if num_bytes > self._max_message_bytes:
            raise MessageMismatchError(
                f"A message of {num_bytes} bytes is larger than the limit of {self._max_message_bytes}: send it in "
                "parts, or raise max_message_bytes."
            )
        target = self.targets.popleft() if self.targets and self._kind is COLLECTIVE else None
        if target is None or target.dtype != dtype or target.shape != shape:
            if num_bytes < LARGE_PAYLOAD_BYTES:
                # In this order, and not the bytes of an array: a fifth of the time.
                small = bytearray(num_bytes)
                self._array, self.rest = np.ndarray(shape, dtype, small), memoryview(small)
                self.filled(0)
                return
            target = np.empty(shape, dtype)
        self._array, self.rest = target, target.reshape(-1).view(np.uint8).data
        self.filled(0)


def _header_bytes(head: bytearray | memoryview) -> int:
    """Return how long a header is that begins so: until its first part is there, the length of that.

    Raises
    ------
    MessageMismatchError
        If it is none.
    """
    if len(head) < _HEAD.size:
        return _HEAD.size
    if bytes(head[:4]) != _MAGIC or head[4] >= len(KINDS) or head[5] > MAX_DIMENSIONS:
        raise MessageMismatchError(
            f"What came is no message of this protocol ({bytes(head[:6])!r}): the peer runs another version."
        )
    return _HEAD.size + 8 * head[5]


@lru_cache(64)
def _dtype(padded: bytes) -> np.dtype[Any]:
    name = padded.rstrip(b"\0")
    try:
        dtype = np.dtype(name.decode("ascii"))
    except (TypeError, ValueError) as error:
        raise MessageMismatchError(f"A message claims the dtype {name!r}, which there is not.") from error
    if dtype.kind not in _KINDS_OF_NUMBERS:
        raise MessageMismatchError(f"A message claims the dtype {name!r}; only numbers and booleans are sent.")
    return dtype
