"""A message on the wire: a header with kind, tag, dtype and shape, then the array's bytes.

::

    "FMI2"  kind u8  ndim u8  dtype 6 bytes, as numpy spells it ("<f8")  tag u32  payload u64  shape ndim u64  payload

All numbers in network order, the array in the byte order that its dtype names. Nothing that comes in is executed or
unpickled, and nothing is allocated for it before its header was checked.
"""

import struct
from collections import deque
from enum import IntEnum
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.errors import MessageMismatchError

Array = NDArray[Any]

MAX_DIMENSIONS = 8
_MAGIC = b"FMI2"
_HEAD = struct.Struct("!4sBB6sIQ")
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
        If the array holds something else than numbers, or has more than eight dimensions.
    """
    array = message.array
    if array.dtype.kind not in _KINDS_OF_NUMBERS or array.ndim > MAX_DIMENSIONS:
        raise MessageMismatchError(
            f"An array of dtype {array.dtype} with {array.ndim} dimensions cannot be sent: send numbers or booleans in "
            f"at most {MAX_DIMENSIONS} dimensions."
        )
    head = _HEAD.pack(_MAGIC, message.kind, array.ndim, array.dtype.str.encode(), message.tag, array.nbytes)
    return head + struct.pack(f"!{array.ndim}Q", *array.shape)


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
        self._kind, self._tag = Kind.POINT, 0
        self._array: Array | None = None
        self._rest = memoryview(b"")
        self.target: Array | None = None
        """Where the next message is wanted, if it has this dtype and shape; contiguous."""
        self.messages: deque[Message] = deque()
        """Complete ones, in the order in which they were sent."""

    @property
    def rest(self) -> memoryview:
        """What is missing of a payload, to receive straight into; call `filled` afterwards. Empty between payloads."""
        return self._rest

    @property
    def is_between_messages(self) -> bool:
        """True when no message has begun: the stream may end here."""
        return not self._head and self._array is None

    def filled(self, num_bytes: int) -> None:
        """Take note of bytes that were put into `rest`."""
        self._rest = self._rest[num_bytes:]
        self._finish()

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
                num_bytes = min(len(view), len(self._rest))
                self._rest[:num_bytes] = view[:num_bytes]
                self.filled(num_bytes)
            else:
                num_bytes = min(len(view), self._num_header_bytes() - len(self._head))
                self._head += view[:num_bytes]
                if len(self._head) == _HEAD.size:
                    self._check()
                if len(self._head) == self._num_header_bytes():
                    self._begin()
            view = view[num_bytes:]

    def _num_header_bytes(self) -> int:
        if len(self._head) < _HEAD.size:
            return _HEAD.size
        return _HEAD.size + 8 * self._head[5]

    def _check(self) -> None:
        magic, kind, ndim, *_ = _HEAD.unpack_from(self._head)
        if magic != _MAGIC or kind not in Kind._value2member_map_ or ndim > MAX_DIMENSIONS:
            raise MessageMismatchError(
                f"What came is no message of this protocol ({bytes(self._head[:6])!r}): the peer runs another version."
            )

    def _begin(self) -> None:
        _, kind, ndim, name, tag, num_bytes = _HEAD.unpack_from(self._head)
        shape = struct.unpack_from(f"!{ndim}Q", self._head, _HEAD.size)
        dtype = _dtype(name.rstrip(b"\0"))
        if num_bytes != dtype.itemsize * prod(shape):
            raise MessageMismatchError(f"A message of {num_bytes} bytes claims to be {dtype} of shape {shape}.")
        if num_bytes > self._max_message_bytes:
            raise MessageMismatchError(
                f"A message of {num_bytes} bytes is larger than the limit of {self._max_message_bytes}: send it in "
                "parts, or raise max_message_bytes."
            )
        self._head.clear()
        self._kind, self._tag = Kind(kind), tag
        target, self.target = self.target, None
        fits = target is not None and target.dtype == dtype and target.shape == shape and kind == Kind.COLLECTIVE
        self._array = target if fits else np.empty(shape, dtype)
        assert self._array is not None, "one of the two"
        self._rest = self._array.reshape(-1).view(np.uint8).data if num_bytes else memoryview(b"")
        self._finish()

    def _finish(self) -> None:
        if not self._rest and self._array is not None:
            self.messages.append(Message(self._kind, self._tag, self._array))
            self._array = None


def _dtype(name: bytes) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name.decode("ascii"))
    except (TypeError, ValueError) as error:
        raise MessageMismatchError(f"A message claims the dtype {name!r}, which there is not.") from error
    if dtype.kind not in _KINDS_OF_NUMBERS:
        raise MessageMismatchError(f"A message claims the dtype {name!r}; only numbers and booleans are sent.")
    return dtype
