"""A rendezvous server in a thread of the test, and the clients that try it."""

import asyncio
import contextlib
import errno
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from handlers.rendezvous.health import Health
from handlers.rendezvous.limits import Limits
from handlers.rendezvous.server import Rendezvous, Settings
from tests.namespaces import enter

DEADLINE_S = 60.0
"""Waits end when what is waited for is there; only a failure takes this long."""


@dataclass
class Running:
    """A server that runs."""

    rendezvous: Rendezvous
    loop: asyncio.AbstractEventLoop
    address: tuple[str, int]
    health: tuple[str, int]
    http: Health
    clients: list[socket.socket] = field(default_factory=list)

    def connect(self, said: bytes = b"", *, source: str = "127.0.0.1") -> socket.socket:
        """Connect a client, and let it send; one that is refused may be so before it is done with either."""
        client = socket.socket()
        self.clients.append(client)
        client.settimeout(DEADLINE_S)
        client.bind((source, 0))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.connect(self.address)
            client.sendall(said)
        return client

    def get(self, path: str) -> str:
        """Ask over HTTP."""
        with urllib.request.urlopen(f"http://{self.health[0]}:{self.health[1]}{path}", timeout=DEADLINE_S) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """Return a metric; 0 when it has no sample yet."""
        found = [line.split()[-1] for line in self.get("/metrics").splitlines() if line.startswith(name + " ")]
        return float(found[0]) if found else 0.0

    def wait_for(self, claim: Callable[[], bool]) -> None:
        """Wait until a claim about the server is true."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not claim():
            assert time.monotonic() < deadline_s, self.get("/metrics")
            time.sleep(0.002)

    def waiting(self, count: int) -> None:
        """Wait until so many clients wait."""
        self.wait_for(lambda: self.rendezvous.gauges()["waiting"] == count)

    def later(self, seconds: float) -> None:
        """Let so much time pass at once, on the server's clock."""
        now = self.loop.time
        self.loop.time = lambda: now() + seconds  # type: ignore[method-assign]
        for _ in range(3):  # what is due is done, and what that closes is forgotten
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(DEADLINE_S)

    def drain(self) -> "asyncio.Future[None]":
        """Begin what SIGTERM begins."""
        return asyncio.run_coroutine_threadsafe(self.rendezvous.drain(), self.loop)  # type: ignore[return-value]


@contextlib.contextmanager
def running(
    *,
    limits: Limits | None = None,
    key: bytes | None = None,
    expects_proxy_header: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    space: str = "",
) -> Iterator[Running]:
    """Run a server on this machine, on a free port unless it is given, until the block ends; or in a namespace.

    No error may be left to its event loop, which would only log it.
    """
    loop = asyncio.new_event_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    def run() -> None:
        if space:
            enter(space)
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    async def start() -> Running:
        settings = Settings(
            host=host,
            port=port,
            key=key,
            expects_proxy_header=expects_proxy_header,
            limits=limits or Limits(),
        )
        rendezvous = Rendezvous(settings)
        health = Health(rendezvous)
        return Running(rendezvous, loop, await rendezvous.start(), await health.start("127.0.0.1", 0), health)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(DEADLINE_S)
    try:
        yield server
    finally:
        for client in server.clients:
            client.close()
        server.drain().result(DEADLINE_S)
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(DEADLINE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert not errors


@contextlib.contextmanager
def nowhere() -> Iterator[tuple[str, int]]:
    """Give an address where no one listens, and where no one can until the block ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()


async def _end(server: Running) -> None:
    server.http.close()
    # Who was being let in while the server closed is let in, and sent home: a cancelled one would stay open.
    for _ in range(20):
        await asyncio.sleep(0)
    await server.rendezvous.drain()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # What they closed is closed in the next turn.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def take(client: socket.socket, count: int) -> bytes:
    """Receive exactly so many bytes, fewer only if the server closes."""
    received = b""
    while len(received) < count:
        part = client.recv(count - len(received))
        if not part:
            break
        received += part
    return received


def record(client: socket.socket) -> bytes:
    """Return the address of a client as v1 writes it."""
    host, port = client.getsockname()
    return socket.inet_aton(host) + struct.pack("!H", port) + b"\0\0"


def reset(client: socket.socket) -> None:
    """Close with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def is_over(client: socket.socket) -> bool:
    """Wait for the end of a connection, by FIN or RST, without a byte before it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except OSError as error:
        return error.errno == errno.ENOTCONN  # reset while it was being made
