"""How two ranks find each other: directly through their NATs, else through the relay, else through the object store.

Both register at the rendezvous under one name and learn the address that the other is seen under. Then both connect to
it from the very port that the server saw, so that each opens its own NAT for the other. Whichever connections arise,
the lower rank chooses one that has proved to lead to the other rank (`hello`): both ends agree by construction.

References
----------
Ford, Srisuresh & Kegel 2005, Peer-to-peer communication across network address translators, USENIX ATC.
"""

import random
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from inference.errors import AuthError, FmiError, FmiTimeout, RunError
from inference.fmi import wire
from inference.fmi.hello import Handshake
from inference.fmi.wire import Address, Kind, Request, Status

Path = Literal["direct", "relay", "store"]

PUNCH_S = 3.0
"""How long both ends try to connect directly before they meet at the relay."""

RELAY_S = 2.0
"""How long one end waits for the other at the relay; both come there within the skew of their clocks."""

CONNECT_S = 3.0
"""How long to wait for the server to accept or to answer."""

# Random, so that two ends whose packets cross at the wrong moment do not stay in step.
RETRY_S = (0.02, 0.12)
NEW_SYN_S = (0.4, 0.8)
GLANCE_S = 2.0
ANNOUNCED_GLANCE_S = 0.1
MAX_GLANCE_S = 5.0
MAX_CANDIDATES = 32

ROUNDS_BEFORE_STORE = 2
"""Rounds that may fail before the store helps, as on a busy machine; at once where the server cannot be reached."""


class Store(Protocol):
    """The little of an object store that ranks need to talk through it; any number of threads may use it."""

    def read(self, key: str) -> bytes:
        """Return an object."""

    def write(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys directly under `prefix`, which ends in ``/``."""


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Where the ranks of a communicator meet."""

    host: str
    """Name or IPv4 address of the rendezvous server."""

    port: int
    """Its TCP port."""

    name: Callable[[int, int], bytes]
    """The name under which two ranks register."""

    key: bytes = field(repr=False)
    """What only the ranks of this communicator share."""

    paths: tuple[Path, ...] = ("direct", "relay", "store")
    """Kinds of connection to try, in this order."""

    store: Store | None = None
    """The last resort; without it there is none."""

    store_prefix: str = ""
    """Where the messages go in the store, ending in ``/``."""


@dataclass(kw_only=True)
class Connection:
    """What two ranks talk over."""

    peer: int
    path: Path
    sock: socket.socket | None = None
    """None on the path ``store``."""

    store_keys: tuple[str, str] = ("", "")
    """On the path ``store``: the prefixes to write to and to read from."""

    wait_s: float = 0.0
    """From asking until the other was there too [s]."""

    meet_s: float = 0.0
    """From then until the connection was proved and chosen [s]."""


class _ServerAwayError(Exception):
    """The rendezvous server cannot be reached, or has gone."""


@dataclass
class _Candidate:
    sock: socket.socket
    path: Path
    handshake: Handshake


def meet_all(
    rank: int, others: list[int], venue: Venue, deadline: float
) -> tuple[dict[int, Connection], dict[int, FmiError]]:
    """Meet several ranks at once.

    Parameters
    ----------
    rank : int
        This rank.
    others : list of int
        Those to meet; each of them must ask for this one too.
    venue : Venue
    deadline : float
        When to give up, on the clock of `time.monotonic` [s].

    Returns
    -------
    connections, failures : dict
        By rank.
    """
    nonces: set[bytes] = set()
    connections: dict[int, Connection] = {}
    failures: dict[int, FmiError] = {}

    def meet(other: int) -> None:
        try:
            connections[other] = Meeting(rank, other, venue, deadline, nonces).meet()
        except FmiError as error:
            failures[other] = error

    if len(others) == 1:
        meet(others[0])
    elif others:
        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(meet, others))
    return connections, failures


class Meeting:
    """One rank's search for another one.

    Parameters
    ----------
    rank, other, venue, deadline
        As for `meet_all`.
    own_nonces : set of bytes
        See `Handshake`.
    """

    def __init__(self, rank: int, other: int, venue: Venue, deadline: float, own_nonces: set[bytes]) -> None:
        self._rank, self._other, self._venue, self._deadline = rank, other, venue, deadline
        self._own_nonces = own_nonces
        self._name = venue.name(rank, other)
        self._selector = selectors.DefaultSelector()
        self._candidates: list[_Candidate] = []
        self._chosen: Connection | None = None
        self._refusals: list[str] = []
        self._fatal: FmiError | None = None
        self._why = "it did not come to the rendezvous"
        self._began = self._paired = time.monotonic()
        self._store_names: _StoreNames | None = None
        if venue.store is not None and "store" in venue.paths:
            self._store_names = _StoreNames(venue.store_prefix, rank, other)
        self._interface = "127.0.0.1"
        self._num_failed = 0
        self._greeting = ""
        self._glance_s = GLANCE_S
        self._next_glance = self._began + self._glance_s

    def meet(self) -> Connection:
        """Return a connection that leads to the other rank.

        Raises
        ------
        FmiTimeout
            If there is none before the deadline.
        AuthError
            If the server refuses the name, or whoever is there under it does not have the run's key.
        """
        try:
            while self._chosen is None and time.monotonic() < self._deadline:
                self._round()
            if self._chosen is None:
                raise self._failure()
            self._chosen.wait_s = self._paired - self._began
            self._chosen.meet_s = time.monotonic() - self._paired
            return self._chosen
        finally:
            self._close()

    # --------------------------------------------------------------------------------------------- the search

    def _round(self) -> None:
        """Try every path once; a server that restarts, or loses one end, is asked again in the next round."""
        try:
            if "direct" in self._venue.paths:
                self._try_directly()
            if "relay" in self._venue.paths:
                self._try_relay()
            self._num_failed += 1
        except _ServerAwayError as error:
            self._why = str(error)
            self._num_failed = ROUNDS_BEFORE_STORE
        if self._chosen is None:
            if self._num_failed >= ROUNDS_BEFORE_STORE:
                self._announce()
            self._until(lambda: False, time.monotonic() + random.uniform(0.05, 0.3))  # noqa: S311

    def _try_directly(self) -> None:
        server = self._ask(self._name)
        try:
            own = self._answer(server, wire.ADDRESS_BYTES, time.monotonic() + CONNECT_S)
            if own is None:
                if self._chosen is None:
                    self._ask_why()
                return
            partner = self._answer(server, wire.ADDRESS_BYTES, self._deadline)
            if partner is None:
                return
            self._paired = time.monotonic()
            self._why = "neither a direct connection nor one through the relay came about"
            self._punch(server.getsockname()[1], wire.unpack_address(partner))
        finally:
            # Until now: a NAT may forget the mapping once this connection has ended.
            server.close()

    def _try_relay(self) -> None:
        if self._chosen is not None:
            return
        is_only = "direct" not in self._venue.paths
        until = self._deadline if is_only else min(self._deadline, time.monotonic() + RELAY_S)
        server = self._ask(wire.pack_request(Request(Kind.RELAY, self._name)))
        is_kept = False
        try:
            record = self._answer(server, wire.REPLY_BYTES, until)
            if record is None:
                return
            reply = wire.unpack_reply(record)
            if reply.status.is_refusal:
                self._refused(reply.status)
                return
            if is_only:
                self._paired = time.monotonic()
            is_kept = True
            self._try(server, "relay")
        except wire.ProtocolError as error:
            self._why = str(error)
            return
        finally:
            if not is_kept:
                server.close()
        self._until(lambda: False, min(self._deadline, time.monotonic() + RELAY_S))

    def _punch(self, port: int, partner: Address) -> None:
        until = min(self._deadline, time.monotonic() + PUNCH_S)
        try:
            listener = _listening(self._interface, port)
        except OSError as error:
            self._why = f"its own port {port} cannot be listened on ({error})"
            return
        opening: list[socket.socket] = []
        timing = {"next": 0.0, "renew": 0.0}

        def connected() -> None:
            made = opening.pop()
            self._selector.unregister(made)
            if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                made.close()
                timing["next"] = time.monotonic() + random.uniform(*RETRY_S)  # noqa: S311
            else:
                self._try(made, "direct")
                timing["next"] = time.monotonic() + random.uniform(*NEW_SYN_S)  # noqa: S311

        def accept() -> None:
            with suppress(OSError):
                self._try(listener.accept()[0], "direct")

        try:
            self._selector.register(listener, selectors.EVENT_READ, accept)
            while self._is_searching(until):
                now = time.monotonic()
                if opening and now > timing["renew"]:
                    self._selector.unregister(opening[0])
                    opening.pop().close()
                if not opening and now >= timing["next"]:
                    started = _start_connecting(self._interface, port, partner)
                    timing["next"] = now + random.uniform(*RETRY_S)  # noqa: S311
                    if started:
                        opening.append(started)
                        timing["renew"] = now + random.uniform(*NEW_SYN_S)  # noqa: S311
                        self._selector.register(started, selectors.EVENT_WRITE, connected)
                self._turn(min(until, timing["renew"] if opening else timing["next"]))
        finally:
            self._selector.unregister(listener)
            listener.close()
            for one in opening:
                self._selector.unregister(one)
                one.close()

    # -------------------------------------------------------------------------------------------- candidates

    def _try(self, made: socket.socket, path: Path) -> None:
        """Find out whether a connection leads to the other rank."""
        if len(self._candidates) >= MAX_CANDIDATES:
            made.close()
            return
        made.setblocking(False)
        candidate = _Candidate(made, path, Handshake(self._rank, self._other, self._venue.key, self._own_nonces))
        self._candidates.append(candidate)
        self._selector.register(made, selectors.EVENT_READ, lambda: self._listen(candidate))
        try:
            made.send(candidate.handshake.hello())
        except OSError:
            self._drop(candidate)

    def _listen(self, candidate: _Candidate) -> None:
        handshake = candidate.handshake
        try:
            received = candidate.sock.recv(handshake.num_bytes_wanted)
            answer = handshake.feed(received)
            if answer:
                candidate.sock.send(answer)
            if handshake.is_proven and self._rank < self._other and self._chosen is None:
                candidate.sock.send(handshake.choose())
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if handshake.is_own_rank:
            self._fatal = AuthError(
                f"Two processes claim to be rank {self._rank} of this run: give every rank its own number.",
                ranks=(self._rank,),
            )
        if not received or handshake.refusal:
            self._drop(candidate)
        elif handshake.is_chosen:
            self._selector.unregister(candidate.sock)
            self._candidates.remove(candidate)
            _tune(candidate.sock)
            self._chosen = Connection(peer=self._other, path=candidate.path, sock=candidate.sock)

    def _drop(self, candidate: _Candidate) -> None:
        if candidate.handshake.refusal:
            self._refusals.append(candidate.handshake.refusal)
        self._candidates.remove(candidate)
        self._selector.unregister(candidate.sock)
        candidate.sock.close()

    # -------------------------------------------------------------------------------------------- the server

    def _ask(self, request: bytes) -> socket.socket:
        """Connect to the server and send a request."""
        venue = self._venue
        where = f"{venue.host}:{venue.port}"
        made: socket.socket | None = None
        try:
            found = socket.getaddrinfo(venue.host, venue.port, socket.AF_INET, socket.SOCK_STREAM)
            address: Address = found[0][4]  # type: ignore[assignment]
            # What meets on this machine alone is not to be reached from outside.
            self._interface = "127.0.0.1" if address[0].startswith("127.") else "0.0.0.0"  # noqa: S104
            made = _bound(self._interface)
            made.settimeout(max(0.01, min(CONNECT_S, self._deadline - time.monotonic())))
            made.connect(address)
            made.sendall(request)
            made.setblocking(False)
        except OSError as error:
            if made:
                made.close()
            raise _ServerAwayError(f"the rendezvous server {where} cannot be reached ({error})") from error
        return made

    def _answer(self, server: socket.socket, num_bytes: int, until: float) -> bytes | None:
        """Wait for the server's next bytes; None when it has hung up, or the search is over before."""
        received = bytearray()
        is_over = False

        def read() -> None:
            nonlocal is_over
            try:
                piece = server.recv(num_bytes - len(received))
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            is_over = not piece
            received.extend(piece)

        self._selector.register(server, selectors.EVENT_READ, read)
        try:
            self._until(lambda: is_over or len(received) == num_bytes, until)
        finally:
            self._selector.unregister(server)
        if is_over:
            self._why = f"the rendezvous server {self._venue.host}:{self._venue.port} hung up"
        return bytes(received) if len(received) == num_bytes else None

    def _ask_why(self) -> None:
        """Ask for the reason of a refusal; TCPunch's own server, which has none to give, hangs up again."""
        server = self._ask(wire.pack_request(Request(Kind.CHECK, self._name)))
        try:
            record = self._answer(server, wire.REPLY_BYTES, time.monotonic() + CONNECT_S)
            if record:
                self._refused(wire.unpack_reply(record).status)
        except wire.ProtocolError as error:
            self._why = str(error)
        finally:
            server.close()

    def _refused(self, status: Status) -> None:
        where = f"{self._venue.host}:{self._venue.port}"
        self._why = f"the rendezvous server {where} answered {status.name}"
        if status in (Status.TOKEN_INVALID, Status.TOKEN_EXPIRED):
            what = "expired" if status is Status.TOKEN_EXPIRED else "not made with the server's key"
            self._fatal = AuthError(
                f"The rendezvous server {where} refuses rank {self._rank}: the token of the run is {what}. "
                "Start the run again.",
                ranks=(self._rank,),
            )

    # --------------------------------------------------------------------------------------------- the store

    def _announce(self) -> None:
        """Let the other rank know, through the store, that no socket worked from here."""
        names, store = self._store_names, self._venue.store
        if names is None or store is None or self._greeting:
            return
        self._note_store_trouble(lambda: self._greet(names, store, names.nonce))

    def _greet(self, names: "_StoreNames", store: Store, greeting: str) -> None:
        """Write this rank's greeting, unless it is there already, and look for the answer soon."""
        if greeting == self._greeting:
            return
        store.write(names.own, greeting.encode())
        self._greeting = greeting
        self._glance_s, self._next_glance = ANNOUNCED_GLANCE_S, 0.0

    def _glance(self) -> None:
        """Look whether the other rank is at the store; if so, go there too, and the lower rank chooses it."""
        names, store = self._store_names, self._venue.store
        if names is None or store is None or time.monotonic() < self._next_glance:
            return
        self._note_store_trouble(lambda: self._look(names, store))
        self._glance_s = min(MAX_GLANCE_S, self._glance_s * 1.5)
        self._next_glance = time.monotonic() + self._glance_s

    def _look(self, names: "_StoreNames", store: Store) -> None:
        """Answer a greeting, and choose or be chosen: only by what names this very attempt of both (`_StoreNames`)."""
        found = store.list(names.folder)
        if names.theirs not in found:
            return
        theirs = store.read(names.theirs).decode()
        if names.is_lower:
            self._greet(names, store, names.nonce)
            if not theirs.startswith(f"{names.nonce}-"):
                return
            pair = theirs
            store.write(names.choice, pair.encode())
        else:
            pair = f"{theirs}-{names.nonce}"
            self._greet(names, store, pair)
            if names.choice not in found or store.read(names.choice).decode() != pair:
                return
        ways = tuple(f"{names.folder}{pair}/{rank}/" for rank in (self._rank, self._other))
        self._chosen = Connection(peer=self._other, path="store", store_keys=(ways[0], ways[1]))

    def _note_store_trouble(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (RunError, OSError) as error:
            self._why = f"the object store does not help either ({error})"

    # ----------------------------------------------------------------------------------------------- waiting

    def _is_searching(self, until: float) -> bool:
        if self._fatal:
            raise self._fatal
        return self._chosen is None and time.monotonic() < min(until, self._deadline)

    def _until(self, is_enough: Callable[[], bool], until: float) -> None:
        while self._is_searching(until) and not is_enough():
            self._turn(until)

    def _turn(self, until: float) -> None:
        """Wait for the next thing that happens, and act on it."""
        until = min(until, self._deadline, self._next_glance if self._store_names else until)
        timeout_s = max(0.0, until - time.monotonic())
        if self._selector.get_map():
            for key, _ in self._selector.select(timeout_s):
                if self._chosen is None and key.fileobj in self._selector.get_map():
                    key.data()
        else:
            time.sleep(timeout_s)
        if self._chosen is None:
            self._glance()

    def _failure(self) -> FmiError:
        if self._fatal:
            return self._fatal
        # A stranger's connection is no reason to give up, but where no other came it is the best explanation.
        if self._refusals:
            return AuthError(
                f"Rank {self._rank} was connected to what should be rank {self._other}, but {self._refusals[-1]}.",
                ranks=(self._other,),
            )
        waited_s = time.monotonic() - self._began
        return FmiTimeout(
            f"Rank {self._rank} did not meet rank {self._other} within {waited_s:.1f} s: {self._why}.",
            ranks=(self._other,),
        )

    def _close(self) -> None:
        for candidate in list(self._candidates):
            self._drop(candidate)
        self._selector.close()


class _StoreNames:
    """Keys of one pair's meeting in the store, and what is written there.

    Objects of an earlier attempt may lie under the same keys, so that each step names the one that it answers::

        lower   hello-LOWER    L, its nonce
        higher  hello-HIGHER   H, its own; L-H as soon as a greeting lies there, again when another one does
        lower   choice         L-H, once that begins with its own nonce; the higher rank takes no other pair
    """

    def __init__(self, prefix: str, rank: int, other: int) -> None:
        self.folder = f"{prefix}{wire.pair_label(rank, other)}/"
        self.own, self.theirs = f"{self.folder}hello-{rank}", f"{self.folder}hello-{other}"
        self.choice = f"{self.folder}choice"
        self.is_lower = rank < other
        self.nonce = secrets.token_hex(8)


def _bound(interface: str, port: int = 0) -> socket.socket:
    """Return a socket with a port of its own, or of this process; bound before it connects.

    A port that connect() chooses may be shared with a socket that does not allow it, and cannot be bound again.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((interface, port))
    except OSError:
        made.close()
        raise
    return made


def _listening(interface: str, port: int) -> socket.socket:
    made = _bound(interface, port)
    try:
        made.listen(16)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _start_connecting(interface: str, port: int, partner: Address) -> socket.socket | None:
    try:
        made = _bound(interface, port)
    except OSError:
        return None
    made.setblocking(False)
    try:
        made.connect(partner)
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        return None
    return made


def _tune(made: socket.socket) -> None:
    """Send small messages at once, and keep the NAT's mapping alive: AWS forgets idle ones after 350 s."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
