"""The server: who waits for whom, what is refused, and how it ends."""

import asyncio
import errno
import logging
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from handlers.rendezvous.connection import Connection
from handlers.rendezvous.limits import Admission, Limits
from handlers.rendezvous.metrics import Metrics
from handlers.rendezvous.relay import Relay
from inference.fmi import tokens
from inference.fmi.wire import Address, Kind, Request, Status

logger = logging.getLogger(__name__)

# Files that are no client's: the listeners, the loop's own, standard streams, requests for health.
NUM_OTHER_FILES = 128


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is decided at the start."""

    host: str = "127.0.0.1"
    port: int = 10000
    """0 takes a free one."""

    key: bytes | None = field(default=None, repr=False)
    """Key of the server: every name must be signed for a run of it. Without, every name is let in."""

    expects_proxy_header: bool = False
    """Every connection begins with a PROXY v2 header, from a load balancer that hides the clients' addresses."""

    limits: Limits = field(default_factory=Limits)


class Rendezvous:
    """One server in one event loop."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self.limits = settings.limits
        self.expects_proxy_header = settings.expects_proxy_header
        self.metrics = Metrics()
        self.admission = Admission(settings.limits)
        self.is_closing = False
        self._connections: set[Connection] = set()
        self._waiting: dict[Request, Connection] = {}
        self._relays: set[Relay] = set()
        self._has_fewer = asyncio.Event()
        self._listener: asyncio.Server | None = None

    # ---------------------------------------------------------------------------------------------- start and end

    async def start(self) -> Address:
        """Listen, and return where.

        Raises
        ------
        OSError
            If the address cannot be had.
        """
        self.limits = _within_open_files(self.limits)
        listener = listen(self._settings.host, self._settings.port)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), sock=listener, backlog=4096)
        host, port = listener.getsockname()
        return host, port

    async def drain(self) -> None:
        """Let no one in, send those home who wait, and give the relayed pairs time to end."""
        self.is_closing = True
        assert self._listener
        # Python 3.11 leaves a client open that was accepted just before its listener closes: let those in first.
        for listener in self._listener.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(2):
            await asyncio.sleep(0)
        self._listener.close()
        for connection in list(self._connections):
            connection.dismiss(Status.CLOSING)
        self._waiting.clear()
        try:
            await asyncio.wait_for(self._emptied(), self.limits.drain_timeout_s)
        except TimeoutError:
            logger.warning("relays cut", extra={"num_relays": len(self._relays)})
            for relay in list(self._relays):
                relay.abort()
            # Whoever else is still here, for whatever reason, does not keep the server from ending.
            for connection in list(self._connections):
                connection.transport.abort()
            await self._emptied()

    def gauges(self) -> dict[str, float]:
        """Return what is going on now, by the name of its metric."""
        return {
            "connections": len(self._connections),
            "waiting": len(self._waiting),
            "relays": len(self._relays),
            "addresses": len(self.admission),
            "closing": int(self.is_closing),
        }

    # --------------------------------------------------------------------------------------- called by connections

    def let_in(self, connection: Connection) -> str | None:
        """Count a connection; return why it must go, None when it may stay."""
        self._connections.add(connection)
        self.metrics.connections += 1
        return "connections" if len(self._connections) > self.limits.max_connections else None

    def let_out(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self._has_fewer.set()

    def receive(self, connection: Connection, request: Request) -> None:
        """Do what a client asks for."""
        status = self._judge(request)
        if request.kind is Kind.CHECK:
            self.metrics.checks += 1
            connection.dismiss(status)
        elif status is not Status.OK:
            self.metrics.rejected[status.name.lower()] += 1
            connection.dismiss(status)
        else:
            self._seat(connection, request)

    def stop_waiting(self, connection: Connection) -> None:
        """Forget that a client waits."""
        assert connection.request
        del self._waiting[connection.request]

    # ----------------------------------------------------------------------------------------------------- its own

    def _judge(self, request: Request) -> Status:
        if self.is_closing:  # it came in later than `drain` looked
            return Status.CLOSING
        # Only who asks whether the server answers may be without a name, and so without a token.
        if self._settings.key is not None and (request.name or request.kind is not Kind.CHECK):
            status = tokens.check(self._settings.key, request.name, now_s=self._clock())
            if status is not Status.OK:
                return status
        is_crowded = len(self._waiting) >= self.limits.max_waiting and request not in self._waiting
        return Status.FULL if is_crowded else Status.OK

    def _seat(self, connection: Connection, request: Request) -> None:
        if request.kind is Kind.MEET:
            connection.show(connection.address)
        first = self._waiting.pop(request, None)
        if first is None:
            self._waiting[request] = connection
            connection.wait()
            return
        self.metrics.paired(request.kind.name.lower(), asyncio.get_running_loop().time() - first.waits_since_s)
        if request.kind is Kind.RELAY:
            self._splice(first, connection)
            return
        # As the original: the first client is given its partner and closed, then the second.
        for one, other in ((first, connection), (connection, first)):
            one.show(other.address)
            one.close()

    def _splice(self, first: Connection, second: Connection) -> None:
        relay = Relay(self.limits, self.metrics, self._relays.discard)
        self._relays.add(relay)
        for one, other in ((first, second), (second, first)):
            one.paired()
            one.answer(Status.PAIRED, other.address)
        for one in (first, second):
            relay.take(one.transport, one.forget)

    async def _emptied(self) -> None:
        while self._connections:
            self._has_fewer.clear()
            await self._has_fewer.wait()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at an address, to be listened on.

    Raises
    ------
    OSError
        If the address cannot be had; the message says which and what to do.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The connections inherit it: a client that vanished without a word is found out within a minute, and the
        # connection of one that is still there is never silent for so long that a load balancer cuts it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items():
            if hasattr(socket, name):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        fix = "Choose another port." if is_port else "It needs an IPv4 address of this machine, or 0.0.0.0 for all."
        raise OSError(f"{host}:{port} cannot be had: {error.strerror or error}. {fix}") from error
    return listener


def _within_open_files(limits: Limits) -> Limits:
    """Take all files that the system allows, and return limits that fit them: a server without files accepts none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + NUM_OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    logger.warning("few open files allowed", extra={"num_files": soft, "max_connections": soft - NUM_OTHER_FILES})
    return replace(limits, max_connections=soft - NUM_OTHER_FILES)
