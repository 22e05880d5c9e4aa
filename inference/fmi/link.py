"""One pair's channel of messages, over a socket or through the object store; neither ever blocks for the other end."""

import socket
import time
from collections import deque
from contextlib import suppress

import numpy as np

from inference.errors import MessageMismatchError
from inference.fmi.frame import Array, FrameReader, Kind, Message, header
from inference.fmi.meeting import Connection, Path, Store

READ_BYTES = 2**16
_POLL_S = (0.02, 1.0)


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
        self.num_waiting_bytes = 0
        """Size of the messages that were not asked for yet."""
        # Messages of the program, headers included; what ends a connection does not count.
        self.num_bytes_sent = self.num_bytes_received = self.num_sent = self.num_received = 0

    def offer(self, target: Array) -> None:
        """Say where the next step of a collective is wanted, unless it has begun to come."""
        if not self.collective and self.reader.is_between_messages:
            self.reader.target = target

    def _sort(self) -> None:
        """Put complete messages where they are looked for."""
        while self.reader.messages:
            message = self.reader.messages.popleft()
            if message.kind in (Kind.ABORT, Kind.BYE):
                self.control = message
                continue
            self.num_received += 1
            self.num_bytes_received += message.num_bytes
            self.num_waiting_bytes += message.array.nbytes
            (self.collective if message.kind is Kind.COLLECTIVE else self.point).append(message)

    def _count_sent(self, message: Message) -> None:
        if message.kind not in (Kind.ABORT, Kind.BYE):
            self.num_sent += 1
            self.num_bytes_sent += message.num_bytes


class SocketLink(Link):
    """A channel over a connected socket."""

    def __init__(self, connection: Connection, max_message_bytes: int) -> None:
        super().__init__(connection, max_message_bytes)
        assert connection.sock is not None, "this path has a socket"
        self._socket: socket.socket = connection.sock
        self._socket.setblocking(False)
        self._out: deque[memoryview] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))

    def fileno(self) -> int:
        """Return the socket's descriptor, for polling."""
        return self._socket.fileno()

    @property
    def is_pending(self) -> bool:
        """True while the kernel has not taken all that is to be sent."""
        return bool(self._out)

    def send(self, message: Message) -> None:
        """Send what the kernel takes at once; the rest with `flush`. The array must not change until it is gone."""
        array = np.ascontiguousarray(message.array)
        self._out.append(memoryview(header(message)))
        if array.nbytes:
            self._out.append(array.reshape(-1).view(np.uint8).data)
        self._count_sent(message)
        self.flush()

    def flush(self) -> None:
        """Send more of what is pending, as far as it goes without waiting."""
        try:
            while self._out:
                num_bytes = self._socket.sendmsg(list(self._out)[:16])
                while self._out and num_bytes >= len(self._out[0]):
                    num_bytes -= len(self._out.popleft())
                if num_bytes:
                    self._out[0] = self._out[0][num_bytes:]
        except BlockingIOError:
            return
        except OSError:
            # What the other end said before it closed is still to be read; `pump` comes to the end.
            self._out.clear()
            self.is_broken = True

    def pump(self) -> None:
        """Take in what has come, without waiting for more.

        Raises
        ------
        MessageMismatchError
            If it is no message, or one that is too large.
        """
        try:
            # Large payloads go straight to where they stay.
            rest = self.reader.rest
            while rest:
                num_bytes = self._socket.recv_into(rest)
                if not num_bytes:
                    self.is_ended = True
                    return
                self.reader.filled(num_bytes)
                rest = self.reader.rest
            num_bytes = self._socket.recv_into(self._buffer)
            self.is_ended = not num_bytes
            self.reader.feed(self._buffer[:num_bytes])
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
        self.is_pending = False
        """Never: an object is written when `send` returns."""

    @property
    def next_look(self) -> float:
        """When `pump` will look again, on the clock of `time.monotonic` [s]."""
        return self._next

    def send(self, message: Message) -> None:
        """Write the message."""
        self._store.write(f"{self._to}{self._num_written:08d}", header(message) + message.array.tobytes())
        self._num_written += 1
        self._count_sent(message)

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
