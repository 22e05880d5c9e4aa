"""One client of the server until it is paired: who it is, what it asks for, and its wait."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from handlers.rendezvous.relay import reset
from inference.fmi.wire import (
    Address,
    Kind,
    ProtocolError,
    Reply,
    Request,
    Status,
    pack_address,
    pack_reply,
    parse_proxy_header,
    parse_request,
)

if TYPE_CHECKING:
    from handlers.rendezvous.server import Rendezvous

# A v1 client is silent after its name. The original ignores what follows; so do we, up to here.
MAX_NOISE_BYTES = 1024


class Phase(Enum):
    """Where a client stands."""

    GREETING = auto()
    WAITING = auto()
    DONE = auto()


class Connection(asyncio.Protocol):
    """A client. No byte of it and no silence of it keeps another one waiting."""

    transport: asyncio.Transport
    address: Address
    waits_since_s: float

    def __init__(self, rendezvous: "Rendezvous") -> None:
        self._rendezvous = rendezvous
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._noise_bytes = 0
        self._entered: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._phase = Phase.GREETING
        self.request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in, or not."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if reason := self._rendezvous.let_in(self) or (None if peer else "gone"):
            self.drop(reason)
            return
        self._after(self._rendezvous.limits.greeting_timeout_s, self._is_silent)
        if not self._rendezvous.expects_proxy_header:
            self._enter(peer)

    def data_received(self, data: bytes) -> None:
        """Take a piece of the request; what follows it is noise."""
        if self._phase is Phase.GREETING:
            self._received += data
            try:
                self._greet()
            except ProtocolError:
                self.drop("malformed")
        else:
            assert self.request
            self._noise_bytes += len(data)
            if self._noise_bytes > MAX_NOISE_BYTES or self.request.kind is Kind.RELAY:
                self.drop("noise")

    def eof_received(self) -> None:
        """Take the client for gone: asyncio closes the connection."""
        self._leave_the_hall()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget the client."""
        self._leave_the_hall()
        self.forget()

    def wait(self) -> None:
        """Begin to wait for a partner."""
        self._phase = Phase.WAITING
        self.waits_since_s = self._loop.time()
        self._after(self._rendezvous.limits.wait_timeout_s, self._is_not_met)

    def show(self, address: Address) -> None:
        """Send an address, as v1 does."""
        self.transport.write(pack_address(address))

    def answer(self, status: Status, address: Address) -> None:
        """Answer a request that is not of v1."""
        self.transport.write(pack_reply(Reply(status, address)))

    def dismiss(self, status: Status) -> None:
        """Say how it is, where the client understands it, and close; nothing once it is paired."""
        if self._phase is Phase.DONE:
            return
        if self.request and self.request.kind is not Kind.MEET:
            self.answer(status, self.address)
        self.close()

    def close(self) -> None:
        """Close once everything is sent."""
        self._end()
        self.transport.close()

    def drop(self, reason: str) -> None:
        """Reset the connection and count why."""
        self._rendezvous.metrics.rejected[reason] += 1
        self._end()
        reset(self.transport)

    def forget(self) -> None:
        """Give back what the client took of the limits: its connection has ended."""
        self._rendezvous.let_out(self)
        if self._entered is not None:
            self._rendezvous.admission.leave(self._entered)

    def paired(self) -> None:
        """Stop the clock of the wait."""
        self._end()

    def _end(self) -> None:
        self._phase = Phase.DONE
        if self._timer:
            self._timer.cancel()

    def _leave_the_hall(self) -> None:
        if self._phase is Phase.WAITING:
            self._rendezvous.metrics.departed += 1
            self._rendezvous.stop_waiting(self)
        self._end()

    def _enter(self, address: Address) -> None:
        self.address = address
        if reason := self._rendezvous.admission.enter(address[0], self._loop.time()):
            self.drop(reason)
        else:
            self._entered = address[0]

    def _greet(self) -> None:
        if self._rendezvous.expects_proxy_header and self._entered is None:
            if (found := parse_proxy_header(self._received)) is None:
                return
            address, num_bytes = found
            self._received = self._received[num_bytes:]
            if address is None:
                self.close()  # the load balancer looks whether the port is open
                return
            self._enter(address)
            if self._entered is None:
                return
        self.request = parse_request(self._received)
        if self.request:
            self._rendezvous.receive(self, self.request)

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, act)

    def _is_silent(self) -> None:
        self._rendezvous.metrics.timeouts["greeting"] += 1
        reset(self.transport)

    def _is_not_met(self) -> None:
        self._rendezvous.metrics.timeouts["wait"] += 1
        self._rendezvous.stop_waiting(self)
        self.dismiss(Status.TIMEOUT)
