"""The connections of one rank: made when first needed, all watched while one is waited for, ended by one failure."""

import json
import select
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from inference import errors
from inference.errors import AuthError, FmiError, FmiTimeout, MessageMismatchError, PeerLost, RunError
from inference.fmi.frame import Array, Kind, Message
from inference.fmi.link import Link, SocketLink, StoreLink
from inference.fmi.meeting import Venue, meet_all

ANY_TAG = -1

ABORT_GRACE_S = 2.0
"""How much longer a rank waits for a message than for a meeting: a rank that met no one can still say so."""

GOODBYE_S = 0.5
"""How long a closing rank tries to hand its last words to the kernel."""

MAX_WAITING_BYTES = 2**28
"""What one peer may send ahead of being asked for it; then it is no longer read from [bytes]."""


class Want(NamedTuple):
    """A message to wait for."""

    peer: int
    kind: Kind
    tag: int
    like: Array | None = None
    """An array of the dtype and shape that it must have; None takes any."""
    into: Array | None = None
    """A contiguous array for its numbers, where that saves a copy: it may come in another one all the same."""


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
        self._poll = select.poll()
        self._watched: dict[int, SocketLink] = {}
        self._masks: dict[int, int] = {}
        self._failure: FmiError | None = None
        self._is_closed = False

    def connect(self, peers: Iterable[int], *, deadline: float | None = None) -> None:
        """Meet the ranks that there is no connection with yet, all at once.

        Raises
        ------
        FmiTimeout, AuthError
            Naming the ranks that could not be met.
        """
        self._check()
        missing = sorted({peer for peer in peers if peer not in self.links})
        if not missing:
            return
        began = time.monotonic()
        met, failures = meet_all(
            self.rank, missing, self._venue, began + self.timeout_s if deadline is None else deadline
        )
        for peer, connection in met.items():
            if connection.path == "store":
                assert self._venue.store is not None, "only a store leads to this path"
                self.links[peer] = StoreLink(connection, self._max_message_bytes, self._venue.store)
            else:
                link = SocketLink(connection, self._max_message_bytes)
                self.links[peer] = link
                self._watched[link.fileno()] = link
                self._watch(link, select.POLLIN)
        self.meeting_s += time.monotonic() - began
        if failures:
            self._fail(_merge(self.rank, failures))

    def exchange(self, sends: Mapping[int, Message], wants: Sequence[Want]) -> list[Array]:
        """Send and receive at the same time, so that no order of calls can lock two ranks.

        Parameters
        ----------
        sends : mapping
            One message per peer at most.
        wants : sequence of Want

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
        self.connect([*sends, *(want.peer for want in wants)])
        deadline = time.monotonic() + self.timeout_s + ABORT_GRACE_S
        try:
            for want in wants:
                if want.into is not None:
                    self.links[want.peer].offer(want.into)
            for peer, message in sends.items():
                if message.array.nbytes > self._max_message_bytes:
                    raise MessageMismatchError(
                        f"A message of {message.array.nbytes} bytes is larger than the limit of "
                        f"{self._max_message_bytes}: send it in parts, or raise max_message_bytes."
                    )
                self.links[peer].send(message)
            return self._wait(list(sends), wants, deadline)
        except FmiError as error:
            self._fail(error)
        except (RunError, OSError) as error:  # of the object store
            self._fail(FmiError(f"Rank {self.rank} cannot talk through the object store: {error}"))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Say goodbye to all ranks and close the connections; safe to repeat."""
        if not self._is_closed and self._failure is None:
            self._say(Message(Kind.BYE, 0, np.empty(0, np.uint8)))
        self._is_closed = True
        self._hang_up()

    def abort(self, error: FmiError) -> None:
        """Let all ranks know that this one gives up, and close the connections; safe to repeat."""
        if self._failure is None and not self._is_closed:
            self._failure = error
            facts = {"error": type(error).__name__, "message": str(error), "ranks": error.ranks}
            self._say(Message(Kind.ABORT, 0, np.frombuffer(json.dumps(facts).encode(), np.uint8)))
            self._hang_up()

    # ----------------------------------------------------------------------------------------------- waiting

    def _wait(self, sent_to: list[int], wants: Sequence[Want], deadline: float) -> list[Array]:
        found: dict[int, Array] = {}
        while True:
            missing = [index for index in range(len(wants)) if index not in found]
            for index in missing:
                message = self._take(wants[index])
                if message is not None:
                    found[index] = message
            silent = {wants[index].peer for index in missing if index not in found}
            slow = {peer for peer in sent_to if self.links[peer].is_pending or self.links[peer].is_broken}
            if not silent and not slow:
                return [found[index] for index in range(len(wants))]
            self._turn(silent, slow, deadline)

    def _take(self, want: Want) -> Array | None:
        """Return the message if it is there."""
        link = self.links[want.peer]
        if want.kind is Kind.COLLECTIVE:
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
        return array

    def _refuse_silence(self, link: Link) -> None:
        if link.control is not None or link.is_ended:
            raise PeerLost(
                f"Rank {link.peer} has closed its communicator, and rank {self.rank} still waits for it.",
                ranks=(link.peer,),
            )

    def _turn(self, silent: set[int], slow: set[int], deadline: float) -> None:
        """Wait for the next thing to happen on any connection, and heed it."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            ranks = tuple(sorted(silent | slow))
            raise FmiTimeout(
                f"Rank {self.rank} waited {self.timeout_s + ABORT_GRACE_S:g} s for {name_ranks(ranks)}.", ranks=ranks
            )
        for link in self._watched.values():
            is_flooding = link.peer not in silent and link.num_waiting_bytes > MAX_WAITING_BYTES
            self._watch(link, (0 if is_flooding else select.POLLIN) | (select.POLLOUT if link.is_pending else 0))
        stores = [link for link in self.links.values() if isinstance(link, StoreLink)]
        if stores:
            left_s = min(left_s, max(0.0, min(link.next_look for link in stores) - time.monotonic()))
        for descriptor, event in self._poll.poll(left_s * 1000):
            link = self._watched[descriptor]
            if event & select.POLLOUT:
                link.flush()
            if event & ~select.POLLOUT:
                link.pump()
            self._heed(link)
        for one in stores:
            one.pump()
            self._heed(one)

    def _heed(self, link: SocketLink | StoreLink) -> None:
        """Act on a connection that has ended, or on which a rank has given up."""
        if link.control is not None and link.control.kind is Kind.ABORT:
            raise _aborted(link.control, link.peer)
        if link.is_ended and isinstance(link, SocketLink) and link.fileno() in self._watched:
            del self._watched[link.fileno()], self._masks[link.fileno()]
            self._poll.unregister(link.fileno())
            if link.control is None:
                raise PeerLost(f"Rank {link.peer} is lost: its connection ended.", ranks=(link.peer,))

    def _watch(self, link: SocketLink, mask: int) -> None:
        descriptor = link.fileno()
        if self._masks.get(descriptor) != mask:
            self._poll.register(descriptor, mask)
            self._masks[descriptor] = mask

    # ------------------------------------------------------------------------------------------------ ending

    def _check(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure), ranks=self._failure.ranks)
        if self._is_closed:
            raise FmiError("This communicator is closed.")

    def _fail(self, error: FmiError) -> None:
        self.abort(error)
        raise error

    def _say(self, message: Message) -> None:
        until = time.monotonic() + GOODBYE_S
        for link in self.links.values():
            if not link.is_ended:
                with suppress(RunError, OSError):
                    link.send(message)
        while any(link.is_pending for link in self.links.values()) and time.monotonic() < until:
            for link in self._watched.values():
                self._watch(link, select.POLLOUT if link.is_pending else 0)
            for descriptor, _ in self._poll.poll(GOODBYE_S * 1000):
                self._watched[descriptor].flush()

    def _hang_up(self) -> None:
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
