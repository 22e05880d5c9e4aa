"""The connections of one rank: made when first needed, all watched while one is waited for, ended by one failure."""

import json
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

import numpy as np

from inference import errors
from inference.errors import AuthError, FmiError, FmiTimeout, MessageMismatchError, PeerLost, RunError
from inference.fmi.frame import ABORT, BYE, COLLECTIVE, LARGE_PAYLOAD_BYTES, Array, Kind, Message
from inference.fmi.link import Link, SocketLink, StoreLink
from inference.fmi.meeting import Venue, meet_all

ANY_TAG = -1

ABORT_GRACE_S = 2.0
"""How much longer a rank waits for a message than for a meeting: a rank that met no one can still say so."""

GOODBYE_S = 0.5
"""How long a closing rank tries to hand its last words to the kernel."""

MAX_WAITING_BYTES = 2**28
"""What one peer may send ahead of being asked for it; then it is no longer read from [bytes]."""


_READ, _WRITE = select.POLLIN, select.POLLOUT


class Want(NamedTuple):
    """A message to wait for."""

    peer: int
    kind: Kind
    tag: int
    like: Array | None = None
    """An array of the dtype and shape that it must have; None takes any."""
    into: Array | None = None
    """A contiguous array of this dtype and shape for its numbers; None makes a new one."""


PassOn = Callable[[int], tuple[int, Message] | None]
"""What to send, and to whom, now that a want is there."""


class Mesh:
    """The connections of one rank of a communicator.

    Parameters
    ----------
    rank, size : int
        This rank, and how many there are.
    venue : Venue
        Where they meet.
    timeout_s : float
        How long a call waits at most, for a meeting and for a message each [s].
    max_message_bytes : int
        Largest payload of one message [bytes].
    """

    def __init__(self, rank: int, size: int, venue: Venue, *, timeout_s: float, max_message_bytes: int) -> None:
        self.rank, self.size = rank, size
        self.timeout_s = timeout_s
        self.links: dict[int, SocketLink | StoreLink] = {}
        self.meeting_s = 0.0
        """Spent in meeting other ranks so far [s]."""
        self._venue = venue
        self._max_message_bytes = max_message_bytes
        self.small_bytes = min(LARGE_PAYLOAD_BYTES, max_message_bytes + 1)
        """Arrays that take less are for `tell` and `hear`, the others for `exchange`."""
        self._poll = select.poll()
        self._watched: dict[int, SocketLink] = {}
        self._stores: list[StoreLink] = []
        self._failure: FmiError | None = None
        self._is_over = False

    def connect(self, peers: Iterable[int], *, deadline: float | None = None) -> None:
        """Meet the ranks that there is no connection with yet, all at once.

        Raises
        ------
        FmiTimeout, AuthError
            Naming the ranks that could not be met.
        """
        if self._is_over:
            self._refuse()
        missing = [peer for peer in peers if peer not in self.links]
        if missing:
            self._meet(sorted({*missing}), deadline)

    def _meet(self, missing: list[int], deadline: float | None) -> None:
        began = time.monotonic()
        met, failures = meet_all(
            self.rank, missing, self._venue, began + self.timeout_s if deadline is None else deadline
        )
        for peer, connection in met.items():
            if connection.path == "store":
                assert self._venue.store is not None, "only a store leads to this path"
                store = StoreLink(connection, self._max_message_bytes, self._venue.store)
                self.links[peer] = store
                self._stores.append(store)
            else:
                link = SocketLink(connection, self._max_message_bytes)
                self.links[peer] = link
                self._watched[link.fileno()] = link
                self._watch(link, _READ)
        self.meeting_s += time.monotonic() - began
        if failures:
            self._fail(_merge(self.rank, failures))

    def exchange(
        self, sends: Sequence[tuple[int, Message]], wants: Sequence[Want], pass_on: PassOn | None = None
    ) -> list[Array]:
        """Send and receive at the same time, so that no order of calls can lock two ranks.

        Parameters
        ----------
        sends : sequence of (int, Message)
            Peers, and what goes to them. No array may change before the call returns.
        wants : sequence of Want
            Those of one peer in the order in which it sends them.
        pass_on : callable, optional
            Called with the number of a want as soon as it is there, in the order of each peer; what it returns is
            sent too.

        Returns
        -------
        list of array
            What came, in the order of `wants`.

        Raises
        ------
        FmiTimeout
            If a peer did not answer in time.
        PeerLost
            If any rank that this one has a connection with has ended, or a rank further away.
        MessageMismatchError
            If what came is not what was waited for.
        """
        # All at once: round a ring, each would wait for the next one.
        self.connect([peer for peer, _ in sends] + [want.peer for want in wants])
        queues: dict[int, deque[int]] = {}
        for index, want in enumerate(wants):
            queues.setdefault(want.peer, deque()).append(index)
        try:
            for peer, queue in queues.items():
                into = wants[queue[0]].into
                if into is not None and into.nbytes >= LARGE_PAYLOAD_BYTES:
                    self.links[peer].offer([one for index in queue if (one := wants[index].into) is not None])
            for peer, message in sends:
                self._send(peer, message)
            return self._wait([peer for peer, _ in sends], wants, queues, pass_on)
        except (RunError, OSError) as error:
            self._fail(error)

    def tell(self, peers: Sequence[int], head: bytes, array: Array) -> None:
        """Send a small step of a collective to ranks that are connected: `exchange` with less ado."""
        try:
            frame, is_gone = head + array.tobytes(), True
            for peer in peers:
                is_gone &= self.links[peer].post(frame)
            if not is_gone:
                self._wait(list(peers), (), {}, None)
        except (RunError, OSError) as error:
            self._fail(error)

    def hear(self, peers: Sequence[int], head: bytes, tag: int, like: Array) -> list[Array]:
        """Return the small step with this header from each of several ranks: `exchange` with less ado."""
        found: list[Array] = []
        try:
            for peer in peers:
                link = self.links[peer]
                array = link.catch(head, like)
                if array is None:
                    self._heed(link)
                    rest = peers[len(found) :]
                    return found + self.exchange((), [Want(other, COLLECTIVE, tag, like) for other in rest])
                found.append(array)
        except (RunError, OSError) as error:
            self._fail(error)
        return found

    def close(self) -> None:
        """Say goodbye to all ranks and close the connections; safe to repeat."""
        if not self._is_over:
            self._say(Message(BYE, 0, np.empty(0, np.uint8)))
        self._hang_up()

    def abort(self, error: FmiError) -> None:
        """Let all ranks know that this one gives up, and close the connections; safe to repeat."""
        if not self._is_over:
            self._failure = error
            facts = {"error": type(error).__name__, "message": str(error), "ranks": error.ranks}
            self._say(Message(ABORT, 0, np.frombuffer(json.dumps(facts).encode(), np.uint8)))
            self._hang_up()

    # ----------------------------------------------------------------------------------------------- waiting

    def _send(self, peer: int, message: Message) -> None:
        if message.array.nbytes > self._max_message_bytes:
            raise MessageMismatchError(
                f"A message of {message.array.nbytes} bytes is larger than the limit of "
                f"{self._max_message_bytes}: send it in parts, or raise max_message_bytes."
            )
        self.links[peer].send(message)

    def _wait(
        self,
        sent_to: list[int],
        wants: Sequence[Want],
        queues: dict[int, deque[int]],
        pass_on: PassOn | None,
    ) -> list[Array]:
        """Wait until all has come and gone; `queues` has the numbers of the wants of each peer."""
        links = self.links
        found: dict[int, Array] = {}
        deadline, seen = 0.0, (-1, 0)
        while True:
            for queue in queues.values():
                while queue and (array := self._take(wants[queue[0]])) is not None:
                    index = queue.popleft()
                    found[index] = array
                    onward = pass_on(index) if pass_on else None
                    if onward:
                        self._send(*onward)
                        if onward[0] not in sent_to:
                            sent_to.append(onward[0])
            silent = [peer for peer, queue in queues.items() if queue]
            slow = [peer for peer in sent_to if links[peer].num_pending or links[peer].is_broken]
            if not silent and not slow:
                return [found[index] for index in range(len(wants))]
            # Each message has the whole time: a large array comes in many.
            now = (len(found), sum([links[peer].num_pending for peer in slow]))
            if now != seen:
                deadline, seen = time.monotonic() + self.timeout_s + ABORT_GRACE_S, now
            self._turn(silent, slow, deadline)

    def _take(self, want: Want) -> Array | None:
        """Return the message if it is there."""
        link = self.links[want.peer]
        if want.kind is COLLECTIVE:
            if not link.collective:
                self._refuse_silence(link)
                return None
            message = link.collective.popleft()
            if message.tag != want.tag:
                raise MessageMismatchError(
                    f"Rank {want.peer} is at step {describe(message.tag)}, rank {self.rank} at {describe(want.tag)}: "
                    "all ranks must make the same calls in the same order.",
                    ranks=(want.peer,),
                )
        else:
            position = next((at for at, one in enumerate(link.point) if want.tag in (ANY_TAG, one.tag)), None)
            if position is None:
                self._refuse_silence(link)
                return None
            message = link.point[position]
            del link.point[position]
        array, like = message.array, want.like
        link.num_waiting_bytes -= array.nbytes
        if like is not None and (array.dtype != like.dtype or array.shape != like.shape):
            raise MessageMismatchError(
                f"Rank {want.peer} sent {array.dtype} of shape {array.shape}; rank {self.rank} expects {like.dtype} of "
                f"shape {like.shape}.",
                ranks=(want.peer,),
            )
        if want.into is None or want.into is array:
            return array
        want.into[...] = array
        return want.into

    def _refuse_silence(self, link: Link) -> None:
        if link.control is not None or link.is_ended:
            raise PeerLost(
                f"Rank {link.peer} has closed its communicator, and rank {self.rank} still waits for it.",
                ranks=(link.peer,),
            )

    def _turn(self, silent: list[int], slow: list[int], deadline: float) -> None:
        """Wait for the next thing to happen on any connection, and heed it."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            ranks = tuple(sorted({*silent, *slow}))
            raise FmiTimeout(
                f"Rank {self.rank} waited {self.timeout_s + ABORT_GRACE_S:g} s for {name_ranks(ranks)}.", ranks=ranks
            )
        for link in self._watched.values():
            is_flooding = link.num_waiting_bytes > MAX_WAITING_BYTES and link.peer not in silent
            self._watch(link, (0 if is_flooding else _READ) | (_WRITE if link.num_pending else 0))
        if self._stores:
            left_s = min(left_s, max(0.0, min(link.next_look for link in self._stores) - time.monotonic()))
        for descriptor, event in self._poll.poll(left_s * 1000):
            link = self._watched[descriptor]
            if event & _WRITE:
                link.flush()
            if event & ~_WRITE:
                link.pump()
            self._heed(link)
        for one in self._stores:
            one.pump()
            self._heed(one)

    def _heed(self, link: SocketLink | StoreLink) -> None:
        """Act on a connection that has ended, or on which a rank has given up."""
        if link.control is None and not link.is_ended:
            return
        if link.control is not None and link.control.kind is ABORT:
            raise _aborted(link.control, link.peer)
        if link.is_ended and isinstance(link, SocketLink) and link.fileno() in self._watched:
            del self._watched[link.fileno()]
            self._poll.unregister(link.fileno())
            if link.control is None:
                raise PeerLost(f"Rank {link.peer} is lost: its connection ended.", ranks=(link.peer,))

    def _watch(self, link: SocketLink, mask: int) -> None:
        if link.watched_for != mask:
            self._poll.register(link.fileno(), mask)
            link.watched_for = mask

    # ------------------------------------------------------------------------------------------------ ending

    def _refuse(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure), ranks=self._failure.ranks)
        raise FmiError("This communicator is closed.")

    def _fail(self, error: RunError | OSError) -> NoReturn:
        if not isinstance(error, FmiError):
            error = FmiError(f"Rank {self.rank} cannot talk through the object store: {error}")
        self.abort(error)
        raise error

    def _say(self, message: Message) -> None:
        until = time.monotonic() + GOODBYE_S
        for link in self.links.values():
            if not link.is_ended:
                with suppress(RunError, OSError):
                    link.send(message)
        while any(link.num_pending for link in self.links.values()) and time.monotonic() < until:
            for link in self._watched.values():
                self._watch(link, _WRITE if link.num_pending else 0)
            for descriptor, _ in self._poll.poll(GOODBYE_S * 1000):
                self._watched[descriptor].flush()

    def _hang_up(self) -> None:
        self._is_over = True
        self._watched.clear()
        for link in self.links.values():
            link.close()


def name_ranks(ranks: Sequence[int], *, limit: int = 8) -> str:
    """Name ranks, the first few of them."""
    more = f" and {len(ranks) - limit} more" if len(ranks) > limit else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:limit]))}{more}"


CALLS = ("barrier", "bcast", "reduce", "allreduce", "gather", "scatter", "allgather", "scan")


def collective_tag(call: str, number: int) -> int:
    """Return what marks the messages of one call: which, and the how manieth of the communicator."""
    return (number & 0xFF_FFFF) << 8 | CALLS.index(call)


def describe(tag: int) -> str:
    """Name the call that a tag marks."""
    index = tag & 0xFF
    return f"{CALLS[index] if index < len(CALLS) else '?'} (call {tag >> 8})"


def _merge(rank: int, failures: Mapping[int, FmiError]) -> FmiError:
    """Return one error that names all ranks that were not met."""
    first = next((error for error in failures.values() if isinstance(error, AuthError)), None)
    if first is not None or len(failures) == 1:
        return first or next(iter(failures.values()))
    ranks = tuple(sorted(failures))
    return FmiTimeout(f"Rank {rank} did not meet {name_ranks(ranks)}. {failures[ranks[0]]}", ranks=ranks)


def _aborted(message: Message, peer: int) -> FmiError:
    """Return the error for which another rank gave up: everyone raises the same."""
    try:
        facts: dict[str, Any] = json.loads(message.array.tobytes())
        kind = getattr(errors, str(facts["error"]), FmiError)
        if not (isinstance(kind, type) and issubclass(kind, FmiError)):
            kind = FmiError
        return kind(str(facts["message"]), ranks=tuple(int(rank) for rank in facts["ranks"]))
    except (ValueError, KeyError, TypeError):
        return PeerLost(f"Rank {peer} gave up without a reason.", ranks=(peer,))
