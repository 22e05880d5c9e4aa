"""One pair's channel of messages, over a socket or through the object store; neither waits long for the other end."""

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from os import sched_yield

import numpy as np

from inference.errors import MessageMismatchError
from inference.fmi.frame import ABORT, BYE, COLLECTIVE, LARGE_PAYLOAD_BYTES, Array, FrameReader, Message, header
from inference.fmi.meeting import Connection, Path, Store

READ_BYTES = 2**16
MAX_PARTS = 16
"""Of what is to be sent, in one call of the kernel."""

SPINS = 40
"""Looks for a message before a rank sleeps, some 50 µs: a core that slept takes as long to wake up."""

MOMENT_MS = 10
"""How long a rank then sleeps until it looks after its other connections too."""

_POLL_S = (0.02, 1.0)
_LAST_WORDS = (ABORT, BYE)


class Link:
    """What the ends of a pair have in common whichever way they talk: counts, and what has come so far."""

    def __init__(self, connection: Connection, max_message_bytes: int) -> None:
        self.peer = connection.peer
        self.path: Path = connection.path
        self.connection = connection
        self.reader = FrameReader(max_message_bytes)
        self.collective: deque[Message] = deque()
        """Steps of collectives that have come and were not asked for yet, in order."""
        self.point: deque[Message] = deque()
        """The same of messages between two ranks."""
        self.control: Message | None = None
        """ABORT or BYE, once it has come."""
        self.is_ended = False
        """Nothing more can come."""
        self.is_broken = False
        """Nothing more can be sent."""
        self.num_pending = 0
        """Headers and payloads that the kernel has not taken whole yet."""
        self.num_waiting_bytes = 0
        """Size of the messages that were not asked for yet."""
        # Messages of the program, headers included; what ends a connection does not count.
        self.num_bytes_sent = self.num_bytes_received = self.num_sent = self.num_received = 0

    def offer(self, targets: Sequence[Array]) -> None:
        """Say where the next steps of collectives are wanted; those that are there, or have begun to come, stay."""
        self.reader.targets = deque(targets[len(self.collective) + self.reader.has_begun_collective :])

    def _sort(self) -> None:
        """Put complete messages where they are looked for."""
        while self.reader.messages:
            message = self.reader.messages.popleft()
            if message.kind in _LAST_WORDS:
                self.control = message
                continue
            self.num_received += 1
            self.num_bytes_received += message.num_bytes
            self.num_waiting_bytes += message.array.nbytes
            (self.collective if message.kind is COLLECTIVE else self.point).append(message)

    def _count_sent(self, message: Message) -> None:
        if message.kind not in _LAST_WORDS:
            self.num_sent += 1
            self.num_bytes_sent += message.num_bytes


class SocketLink(Link):
    """A channel over a connected socket."""

    def __init__(self, connection: Connection, max_message_bytes: int) -> None:
        super().__init__(connection, max_message_bytes)
        assert connection.sock is not None, "this path has a socket"
        self._socket: socket.socket = connection.sock
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._out: deque[memoryview] = deque()
        self._bytes = bytearray(READ_BYTES)
        self._buffer = memoryview(self._bytes)
        self.watched_for = 0
        """Events that the mesh polls for."""

    def fileno(self) -> int:
        """Return the socket's descriptor, for polling."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send what the kernel takes at once; the rest with `flush`. The array must not change until it is gone."""
        array = message.array
        if array.nbytes < LARGE_PAYLOAD_BYTES:
            self._out.append(memoryview(header(message) + array.tobytes()))
        else:
            flat = np.ascontiguousarray(array).reshape(-1)
            self._out += (memoryview(header(message)), flat.view(np.uint8).data)
        self._count_sent(message)
        self.flush()

    def post(self, frame: bytes) -> bool:
        """Send a message of the program, its header in front; True if the kernel took it at once."""
        self.num_sent += 1
        self.num_bytes_sent += len(frame)
        if not self._out:
            try:
                num_bytes = self._socket.send(frame)
                if num_bytes == len(frame):
                    return True
                frame = frame[num_bytes:]
            except OSError:  # `flush` finds out why
                pass
        self._out.append(memoryview(frame))
        self.flush()
        return False

    def flush(self) -> None:
        """Send more of what is pending, as far as it goes without waiting."""
        out = self._out
        try:
            while out:
                num_bytes = self._socket.sendmsg(islice(out, MAX_PARTS))
                while out and num_bytes >= len(out[0]):
                    num_bytes -= len(out.popleft())
                if num_bytes:
                    out[0] = out[0][num_bytes:]
        except BlockingIOError:
            pass
        except OSError:
            # What the other end said before it closed is still to be read; `pump` comes to the end.
            out.clear()
            self.is_broken = True
        self.num_pending = len(out)

    def catch(self, head: bytes, like: Array) -> Array | None:
        """Return the numbers of a small step of a collective if it comes within a moment, and comes alone.

        Its header is compared as a whole, not taken apart. Whatever else comes is taken in as `pump` does it.

        Parameters
        ----------
        head : bytes
            The header that it must have.
        like : array
            One of its dtype and shape.

        Raises
        ------
        MessageMismatchError
            If what comes is no message, or one that is too large.
        """
        if self.collective or self.point or self.control or self.is_ended or not self.reader.is_between_messages:
            return None
        poll, spins = self._poll.poll, SPINS
        while not poll(0 if spins else MOMENT_MS):
            if not spins:
                return None
            spins -= 1
            sched_yield()
        try:
            num_bytes = self._socket.recv_into(self._bytes)
        except BlockingIOError:
            return None
        except OSError:
            num_bytes = 0
        start = len(head)
        if num_bytes == start + like.nbytes and self._bytes.startswith(head):
            self.num_received += 1
            self.num_bytes_received += num_bytes
            return np.ndarray(like.shape, like.dtype, self._bytes[start:num_bytes]) if num_bytes > start else like
        self.is_ended = not num_bytes
        self.reader.feed(self._buffer[:num_bytes])
        self._sort()
        return None

    def pump(self) -> None:
        """Take in what has come, without waiting for more.

        Raises
        ------
        MessageMismatchError
            If it is no message, or one that is too large.
        """
        reader = self.reader
        try:
            while not reader.messages:
                # A payload goes straight to where it stays.
                place = reader.rest or (self._buffer[: reader.num_bytes_wanted] if reader.targets else self._buffer)
                num_bytes = self._socket.recv_into(place)
                if not num_bytes:
                    self.is_ended = True
                elif reader.rest:
                    reader.filled(num_bytes)
                else:
                    reader.feed(place[:num_bytes])
                if num_bytes < len(place):
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.is_ended = True
        finally:
            self._sort()

    def close(self) -> None:
        """Close the socket; what the kernel has taken still goes out."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()


class StoreLink(Link):
    """A channel of numbered objects, one per message; for ranks that no network connects, and slow."""

    def __init__(self, connection: Connection, max_message_bytes: int, store: Store) -> None:
        super().__init__(connection, max_message_bytes)
        self._store = store
        self._to, self._from = connection.store_keys
        self._wait_s, self._next = _POLL_S[0], 0.0
        self._num_read = self._num_written = 0

    @property
    def next_look(self) -> float:
        """When `pump` will look again, on the clock of `time.monotonic` [s]."""
        return self._next

    def send(self, message: Message) -> None:
        """Write the message."""
        self._store.write(f"{self._to}{self._num_written:08d}", header(message) + message.array.tobytes())
        self._num_written += 1
        self._count_sent(message)

    def post(self, frame: bytes) -> bool:
        """Write a message that is whole in one piece."""
        self._store.write(f"{self._to}{self._num_written:08d}", frame)
        self._num_written += 1
        self.num_sent += 1
        self.num_bytes_sent += len(frame)
        return True

    def catch(self, head: bytes, like: Array) -> None:
        """Find nothing within a moment."""

    def flush(self) -> None:
        """Do nothing."""

    def pump(self) -> None:
        """Read what has come since the last look; looks come less often while there is nothing."""
        if time.monotonic() < self._next:
            return
        found = set(self._store.list(self._from))
        self._wait_s = min(_POLL_S[1], self._wait_s * 1.5)
        while (key := f"{self._from}{self._num_read:08d}") in found:
            content = self._store.read(key)
            self.reader.feed(content)
            if not self.reader.is_between_messages:
                raise MessageMismatchError(f"{key} is cut off: it is no message of rank {self.peer}.")
            self._num_read += 1
            self._wait_s = _POLL_S[0]
        self._next = time.monotonic() + self._wait_s
        self._sort()

    def close(self) -> None:
        """Do nothing: the run's folder keeps the objects."""
