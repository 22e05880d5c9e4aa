"""The communicator: FMI's calls for numbers and lists, MPI's for numpy buffers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from inference.errors import FmiError, MessageMismatchError
from inference.fmi import meeting, tree
from inference.fmi.collectives import Collective
from inference.fmi.config import Config, read_config
from inference.fmi.frame import LARGE_PAYLOAD_BYTES, POINT, Array, Message
from inference.fmi.mesh import ANY_TAG, Mesh, Want
from inference.fmi.original import func, hints, types
from inference.fmi.reduction import SUM, Operation


class _InPlace:
    def __repr__(self) -> str:
        return "fmi.IN_PLACE"


IN_PLACE = _InPlace()
"""As a send buffer: what is to be sent is in the receive buffer."""

Buffer = Array | _InPlace


@dataclass(frozen=True, kw_only=True)
class PeerStats:
    """One connection."""

    peer: int
    """The rank at the other end."""

    path: meeting.Path
    """How it came about: direct, relay or store."""

    wait_s: float
    """From asking for the peer until it was there too [s]."""

    meet_s: float
    """From then until the connection was proved [s]."""

    num_bytes_sent: int
    """Headers included [bytes]."""

    num_bytes_received: int
    """Headers included [bytes]."""

    num_messages_sent: int
    num_messages_received: int


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a communicator did so far."""

    rank: int
    size: int

    meeting_s: float
    """Spent in meeting other ranks [s]."""

    peers: tuple[PeerStats, ...]
    """The connections, by rank."""


class Communicator:
    """One rank among others, for one thread.

    The first message between two ranks is their meeting: both must be there for it. All calls end within `timeout_s`
    and 2 s, each for its meetings and for every message that it waits for. After an error the communicator is of no
    more use, on any rank: the others are informed.

    Parameters
    ----------
    peer_id : int
        This rank, ``0 <= peer_id < num_peers``.
    num_peers : int
        Number of ranks.
    config : Config, mapping, or path
        Where to meet: see `Config` and `read_config`.
    comm_name : str
        Name that all ranks of this communicator share, and no other communicator at the same time.
    faas_memory : int
        Taken for programs written for FMI, which estimated prices with it; without effect.

    Raises
    ------
    FmiError
        If a value is out of range or the configuration cannot be read. By every call:
    FmiTimeout
        If ranks do not come or do not answer in time; `ranks` names them.
    PeerLost
        If a rank has ended.
    AuthError
        If a token or a peer's proof does not fit.
    MessageMismatchError
        If two ranks make different calls, or with different dtypes or lengths.
    """

    def __init__(
        self,
        peer_id: int,
        num_peers: int,
        config: Config | Mapping[str, Any] | str | Path,
        comm_name: str,
        faas_memory: int = 128,  # noqa: ARG002
    ) -> None:
        if not 0 <= peer_id < num_peers:
            raise FmiError(f"There is no rank {peer_id} among {num_peers}: ranks count from 0 to num_peers - 1.")
        if not comm_name or "/" in comm_name:
            raise FmiError(f"{comm_name!r} is no name for a communicator: it needs a character, and no slash.")
        settings = read_config(config)
        self._mesh = Mesh(
            peer_id,
            num_peers,
            settings.venue(comm_name),
            timeout_s=settings.timeout_s,
            max_message_bytes=settings.max_message_bytes,
        )
        self._num_calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, FmiError):
            self._mesh.abort(FmiError(f"Rank {self.rank} stopped: {type(error).__name__}: {error}", ranks=(self.rank,)))
        self.close()

    def close(self) -> None:
        """Say goodbye to the other ranks; safe to repeat."""
        self._mesh.close()

    def connect(self, peers: Iterable[int] | None = None, *, deadline: float | None = None) -> None:
        """Meet ranks before there is something to say: these, or those next to this one in the tree.

        Parameters
        ----------
        peers : iterable of int, optional
            Each of them must ask for this rank too.
        deadline : float, optional
            When to give up, on the clock of `time.monotonic`; after `timeout_s` when absent [s].
        """
        self._mesh.connect(tree.neighbours(self.rank, self.size) if peers is None else peers, deadline=deadline)

    def stats(self) -> Stats:
        """Return what was sent and received, and over which connections."""
        return Stats(
            rank=self.rank,
            size=self.size,
            meeting_s=self._mesh.meeting_s,
            peers=tuple(
                PeerStats(
                    peer=peer,
                    path=link.path,
                    wait_s=link.connection.wait_s,
                    meet_s=link.connection.meet_s,
                    num_bytes_sent=link.num_bytes_sent,
                    num_bytes_received=link.num_bytes_received,
                    num_messages_sent=link.num_sent,
                    num_messages_received=link.num_received,
                )
                for peer, link in sorted(self._mesh.links.items())
            ),
        )

    # ------------------------------------------------------------------------------ FMI: numbers and lists

    def hint(self, hint: hints) -> None:
        """Take what a program for FMI prefers; see `hints`."""
        assert isinstance(hint, hints), "one of fmi.hints"

    def send(self, obj: Any, dst: int, type: types) -> None:  # noqa: A002 -- FMI's spelling
        """Send a number or a list to a rank."""
        self._send(type.to_array(obj), dst, 0)

    def recv(self, src: int, type: types) -> Any:  # noqa: A002
        """Return the next number or list from a rank."""
        return type.to_value(self._recv(type.like(), src, ANY_TAG))

    def bcast(self, obj: Any, root: int, type: types) -> Any:  # noqa: A002
        """Return the root's value on all ranks; what the others pass does not matter."""
        self._check_rank(root)
        array = type.to_array(obj) if self.rank == root else type.like()
        return type.to_value(self._call("bcast").bcast(array, root))

    def barrier(self) -> None:
        """Return when all ranks have called."""
        self._call("barrier").barrier()

    def gather(self, obj: Any, root: int, type: types) -> list[Any]:  # noqa: A002
        """Return the numbers or lists of all ranks as one list at the root, an empty one elsewhere."""
        self._check_rank(root)
        stacked = self._call("gather").gather(type.to_array(obj), root)
        return [] if stacked is None else list(stacked.reshape(-1).tolist())

    def scatter(self, obj: Any, root: int, type: types) -> list[Any]:  # noqa: A002
        """Return this rank's part of the root's list, all of one length; `type` has the length of the whole."""
        self._check_rank(root)
        if not type.is_list or type.num_objects % self.size:
            raise MessageMismatchError(
                f"A {type.kind.value} of {type.num_objects} cannot be dealt to {self.size} ranks: use a list whose "
                "length is a multiple."
            )
        like = type.like().reshape(self.size, -1)
        stacked = type.to_array(obj).reshape(like.shape) if self.rank == root else None
        return list(self._call("scatter").scatter(stacked, like[0], root).tolist())

    def reduce(self, obj: Any, root: int, func: func, type: types) -> Any:  # noqa: A002
        """Return the values of all ranks combined at the root, None elsewhere."""
        self._check_rank(root)
        total = self._call("reduce").reduce(type.to_array(obj), func.operation, root)
        return None if total is None else type.to_value(total)

    def allreduce(self, obj: Any, func: func, type: types) -> Any:  # noqa: A002
        """Return the values of all ranks combined."""
        return type.to_value(self._call("allreduce").allreduce(type.to_array(obj), func.operation))

    def scan(self, obj: Any, func: func, type: types) -> Any:  # noqa: A002
        """Return the values of ranks 0 … this one combined."""
        return type.to_value(self._call("scan").scan(type.to_array(obj), func.operation))

    # ------------------------------------------------------------------------------ MPI: numpy buffers

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return self._mesh.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self._mesh.size

    @property
    def timeout_s(self) -> float:
        """How long a call waits at most, for a meeting and for a message each [s]; may be changed."""
        return self._mesh.timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        self._mesh.timeout_s = seconds

    def Get_rank(self) -> int:  # noqa: N802 -- mpi4py's spelling, here and below
        """Return this rank."""
        return self.rank

    def Get_size(self) -> int:  # noqa: N802
        """Return the number of ranks."""
        return self.size

    def Barrier(self) -> None:  # noqa: N802
        """Return when all ranks have called."""
        self.barrier()

    def Send(self, buf: Array, dest: int, tag: int = 0) -> None:  # noqa: N802
        """Send an array to a rank; it may change as soon as the call returns."""
        self._send(np.asarray(buf), dest, tag)

    def Recv(self, buf: Array, source: int, tag: int = ANY_TAG) -> None:  # noqa: N802
        """Fill an array with the next one from a rank that has the tag."""
        buf[...] = self._recv(buf, source, tag)

    def Sendrecv(  # noqa: N802
        self, sendbuf: Array, dest: int, sendtag: int = 0, *, recvbuf: Array, source: int, recvtag: int = ANY_TAG
    ) -> None:
        """Send and receive at the same time."""
        self._check_peer(dest)
        self._check_peer(source)
        message = Message(POINT, sendtag, np.asarray(sendbuf))
        (came,) = self._mesh.exchange([(dest, message)], [Want(source, POINT, recvtag, recvbuf)])
        recvbuf[...] = came

    def Bcast(self, buf: Array, root: int = 0) -> None:  # noqa: N802
        """Fill the array of every rank with the root's."""
        self._check_rank(root)
        came = self._call("bcast").bcast(buf, root)
        if self.rank != root:
            buf[...] = came

    def Reduce(  # noqa: N802
        self, sendbuf: Buffer, recvbuf: Array | None, op: Operation = SUM, root: int = 0
    ) -> None:
        """Fill the root's array with those of all ranks, combined."""
        self._check_rank(root)
        total = self._call("reduce").reduce(_source(sendbuf, recvbuf), op, root)
        if total is not None:
            _fill(recvbuf, total)

    def Allreduce(self, sendbuf: Buffer, recvbuf: Array, op: Operation = SUM) -> None:  # noqa: N802
        """Fill the array of every rank with those of all ranks, combined."""
        array = _source(sendbuf, recvbuf)
        _fill(recvbuf, self._call("allreduce").allreduce(array, op, _place_for(array, recvbuf)))

    def Gather(self, sendbuf: Array, recvbuf: Array | None, root: int = 0) -> None:  # noqa: N802
        """Fill the root's array, one row per rank, with the arrays of all ranks."""
        self._check_rank(root)
        stacked = self._call("gather").gather(np.asarray(sendbuf), root)
        if stacked is not None:
            _fill(recvbuf, stacked)

    def Scatter(self, sendbuf: Array | None, recvbuf: Array, root: int = 0) -> None:  # noqa: N802
        """Fill every rank's array with its row of the root's."""
        self._check_rank(root)
        stacked = None
        if self.rank == root:
            if sendbuf is None or sendbuf.size != recvbuf.size * self.size:
                raise MessageMismatchError(f"The root of Scatter needs {recvbuf.size} numbers for each of {self.size}.")
            stacked = sendbuf.reshape(self.size, *recvbuf.shape)
        recvbuf[...] = self._call("scatter").scatter(stacked, recvbuf, root)

    def Allgather(self, sendbuf: Array, recvbuf: Array) -> None:  # noqa: N802
        """Fill the array of every rank, one row per rank, with the arrays of all ranks."""
        _fill(recvbuf, self._call("allgather").allgather(np.asarray(sendbuf)))

    def Scan(self, sendbuf: Buffer, recvbuf: Array, op: Operation = SUM) -> None:  # noqa: N802
        """Fill every rank's array with those of ranks 0 … this one, combined."""
        _fill(recvbuf, self._call("scan").scan(_source(sendbuf, recvbuf), op))

    # ------------------------------------------------------------------------------------------------ parts

    def _call(self, name: str) -> Collective:
        self._num_calls += 1
        return Collective(self._mesh, name, self._num_calls)

    def _send(self, array: Array, peer: int, tag: int) -> None:
        self._check_peer(peer)
        self._mesh.exchange([(peer, Message(POINT, tag, array))], [])

    def _recv(self, like: Array, peer: int, tag: int) -> Array:
        self._check_peer(peer)
        (came,) = self._mesh.exchange([], [Want(peer, POINT, tag, like)])
        return came

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.size:
            raise FmiError(f"There is no rank {rank} among {self.size}: ranks count from 0.", ranks=(rank,))

    def _check_peer(self, rank: int) -> None:
        self._check_rank(rank)
        if rank == self.rank:
            raise FmiError(f"Rank {rank} cannot talk to itself.", ranks=(rank,))


def _source(sendbuf: Buffer, recvbuf: Array | None) -> Array:
    if isinstance(sendbuf, _InPlace):
        if recvbuf is None:
            raise MessageMismatchError("IN_PLACE needs a receive buffer.")
        return recvbuf
    return np.asarray(sendbuf)


def _place_for(array: Array, recvbuf: Array) -> Array | None:
    """Return the receive buffer where a result like `array` can come straight into it."""
    if array.nbytes < LARGE_PAYLOAD_BYTES:  # a copy costs less than the question
        return None
    fits = recvbuf.shape == array.shape and recvbuf.dtype == array.dtype and recvbuf.flags.c_contiguous
    return recvbuf if fits and recvbuf.flags.writeable and not np.may_share_memory(array, recvbuf) else None


def _fill(recvbuf: Array | None, result: Array) -> None:
    if result is recvbuf:
        return
    if recvbuf is None or recvbuf.size != result.size or recvbuf.dtype != result.dtype:
        has = "none" if recvbuf is None else f"{recvbuf.dtype} of shape {recvbuf.shape}"
        raise MessageMismatchError(
            f"The receive buffer is {has}; the result is {result.dtype} of shape {result.shape}."
        )
    recvbuf[...] = result if result.shape == recvbuf.shape else result.reshape(recvbuf.shape)
