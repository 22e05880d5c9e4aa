"""Two connections spliced: what one sends, the other receives, at the pace of the slower."""

import asyncio
import socket
import struct
from collections.abc import Callable

from handlers.rendezvous.limits import Limits
from handlers.rendezvous.metrics import Metrics

BUFFER_BYTES = 256 * 1024
"""Held for a client that takes its bytes slowly, before no more are read from its partner."""


def reset(transport: asyncio.Transport) -> None:
    """Close with RST: what was not sent yet is dropped, and the other side learns that this was no regular end."""
    connection = transport.get_extra_info("socket")
    if not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Relay:
    """A pair of connections that have become one.

    An end that closes its direction leaves the other open; an end that is lost resets the other, so that neither takes
    a part of a message for the whole.
    """

    def __init__(self, limits: Limits, metrics: Metrics, on_end: Callable[["Relay"], None]) -> None:
        self._limits = limits
        self._metrics = metrics
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._num_bytes = 0
        self._moved_at_s = self._loop.time()
        self._timer = self._loop.call_later(limits.relay_idle_timeout_s, self._look)
        self._sides: list[_Side] = []

    def take(self, transport: asyncio.Transport, on_lost: Callable[[], None]) -> None:
        """Take over a connection, twice; `on_lost` is called when it has ended."""
        side = _Side(self, transport, on_lost)
        for other in self._sides:
            side.other, other.other = other, side
        self._sides.append(side)
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        transport.set_protocol(side)

    def abort(self) -> None:
        """Reset both connections."""
        for side in self._sides:
            reset(side.transport)

    def count(self, num_bytes: int) -> None:
        """Count bytes on their way; reset both connections when there were too many."""
        self._num_bytes += num_bytes
        self._metrics.relay_bytes += num_bytes
        self._moved_at_s = self._loop.time()
        if self._num_bytes > self._limits.relay_max_bytes:
            self._metrics.rejected["relay_bytes"] += 1
            self.abort()

    def lost(self, side: "_Side") -> None:
        """End the other connection too: in order when both have said all, else by a reset."""
        self._timer.cancel()
        self._sides.remove(side)
        for other in self._sides:
            if side.has_ended and other.has_ended:
                other.transport.close()  # it is open still where it could not be told of the end
            else:
                reset(other.transport)
        if not self._sides:
            self._on_end(self)

    def _look(self) -> None:
        idle_s = self._loop.time() - self._moved_at_s
        if idle_s < self._limits.relay_idle_timeout_s:
            self._timer = self._loop.call_later(self._limits.relay_idle_timeout_s - idle_s, self._look)
            return
        self._metrics.timeouts["relay"] += 1
        self.abort()


class _Side(asyncio.Protocol):
    """One of the two connections."""

    other: "_Side"

    def __init__(self, relay: Relay, transport: asyncio.Transport, on_lost: Callable[[], None]) -> None:
        self._relay = relay
        self._on_lost = on_lost
        self.transport = transport
        self.has_ended = False

    def data_received(self, data: bytes) -> None:
        self._relay.count(len(data))
        self.other.transport.write(data)  # nothing happens where both were reset

    def eof_received(self) -> bool:
        self.has_ended = True
        self.other.transport.write_eof()  # nothing happens where that end is closing
        if self.other.has_ended:
            self.other.transport.close()
        return not self.other.has_ended

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._on_lost()
        self._relay.lost(self)
