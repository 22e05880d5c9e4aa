"""What a communicator gives, refuses and says of itself before it needs a connection."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from inference import fmi
from inference.errors import FmiError, MessageMismatchError
from inference.fmi import Communicator, Config, mesh
from inference.fmi.meeting import Connection
from inference.fmi.mesh import ABORT_GRACE_S
from tests.ranks import run_ranks

HERE = Config(host="nowhere.invalid", timeout_s=7.0)
WHOLE, REALS = fmi.types(fmi.datatypes.int), fmi.types(fmi.datatypes.double_list, 3)
SUM = fmi.func(fmi.op.sum)


def make_comm(rank: int = 0, size: int = 1) -> Communicator:
    return Communicator(rank, size, HERE, "test")


# ------------------------------------------------------------------------------------------------------- a rank alone


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (10_000,)])
def test_a_rank_alone_has_what_it_gave(shape: tuple[int, ...]) -> None:
    mine = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape) + 1
    calls: list[Callable[[Communicator, np.ndarray], None]] = [
        lambda comm, out: comm.Reduce(mine, out),
        lambda comm, out: comm.Allreduce(mine, out),
        lambda comm, out: comm.Scan(mine, out),
        lambda comm, out: comm.Gather(mine, out[None, ...]),
        lambda comm, out: comm.Scatter(mine[None, ...], out),
        lambda comm, out: comm.Allgather(mine, out[None, ...]),
    ]

    for call in calls:
        with make_comm() as comm:
            out = np.zeros(shape)
            call(comm, out)
            np.testing.assert_array_equal(out, mine)
            comm.Bcast(out)
            comm.Reduce(fmi.IN_PLACE, out)
            comm.Allreduce(fmi.IN_PLACE, out)
            comm.Scan(fmi.IN_PLACE, out)
            comm.Barrier()
            np.testing.assert_array_equal(out, mine)


def test_numbers_and_lists_of_a_rank_alone_come_back() -> None:
    with make_comm() as comm:
        assert comm.bcast(3, 0, WHOLE) == comm.reduce(3, 0, SUM, WHOLE) == comm.allreduce(3, SUM, WHOLE) == 3
        assert comm.scan(3, SUM, WHOLE) == 3
        assert comm.gather(3, 0, WHOLE) == [3]
        assert comm.scatter([1.0, 2.0, 3.0], 0, REALS) == [1.0, 2.0, 3.0]
        comm.barrier()


def test_a_result_takes_the_shape_of_the_buffer() -> None:
    out = np.zeros((2, 3))

    make_comm().Allreduce(np.arange(6.0), out)

    assert out.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("out", "has"),
    [(None, "none"), (np.zeros(2), r"float64 of shape \(2,\)"), (np.zeros(3, np.float32), r"float32 of shape \(3,\)")],
)
def test_a_buffer_that_does_not_fit_is_named(out: np.ndarray | None, has: str) -> None:
    with pytest.raises(MessageMismatchError, match=rf"buffer is {has}; the result is float64 of shape \(3,\)"):
        make_comm().Reduce(np.zeros(3), out)


def test_what_is_in_no_place_cannot_be_combined_in_place() -> None:
    assert repr(fmi.IN_PLACE) == "fmi.IN_PLACE"
    with pytest.raises(MessageMismatchError, match="IN_PLACE needs a receive buffer"):
        make_comm().Reduce(fmi.IN_PLACE, None)


def test_a_rank_alone_has_met_no_one() -> None:
    with make_comm() as comm:
        comm.connect()

        assert comm.stats() == fmi.Stats(rank=0, size=1, meeting_s=0.0, peers=())
        assert (comm.Get_rank(), comm.Get_size()) == (0, 1)
        assert comm.timeout_s == 7.0
        comm.timeout_s = 3.0
        assert comm.timeout_s == 3.0


def test_a_call_ends_as_soon_as_it_says() -> None:
    said = " ".join((Communicator.__doc__ or "").split())

    assert f"All calls end within `timeout_s` and {ABORT_GRACE_S:g} s" in said


# ------------------------------------------------------------------------------------------------ a rank and others


@pytest.fixture
def meetings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, list[int], float]]]:
    """Have ranks of this process meet at once; return who met whom, and until when they would have waited."""
    ends: dict[tuple[int, int], socket.socket] = {}
    made: list[tuple[int, list[int], float]] = []
    lock = threading.Lock()

    def meet_all(
        rank: int, others: list[int], _venue: object, deadline: float
    ) -> tuple[dict[int, Connection], dict[int, FmiError]]:
        with lock:
            made.append((rank, others, deadline))
            for other in others:
                if (rank, other) not in ends:
                    ends[rank, other], ends[other, rank] = socket.socketpair()
            return {
                other: Connection(peer=other, path="relay", sock=ends[rank, other], wait_s=rank + 0.5, meet_s=0.25)
                for other in others
            }, {}

    monkeypatch.setattr(mesh, "meet_all", meet_all)
    yield made
    for end in ends.values():
        end.close()


@pytest.mark.usefixtures("meetings")
def test_what_one_rank_sends_another_has() -> None:
    with make_comm(0, 2) as here, make_comm(1, 2) as there:
        here.send(3, 1, WHOLE)
        here.send([1.0, 2.0, 3.0], 1, REALS)
        assert (there.recv(0, WHOLE), there.recv(0, REALS)) == (3, [1.0, 2.0, 3.0])

        here.send(4, 1, WHOLE)
        whole = np.zeros((), np.int32)
        there.Recv(whole, 0, 0)
        assert whole == 4

        out = np.zeros(1)
        for tag in (0, 1, 2, 3):
            here.Send(np.array([tag + 0.5]), 1, tag)
        here.Send(np.array([9.0]), 1)
        for tag, value in ((2, 2.5), (fmi.ANY_TAG, 0.5), (0, 9.0)):
            there.Recv(out, 0, tag)
            assert out == [value]
        there.Recv(out, 0)
        assert out == [1.5]

        there.Send(np.array([4.0]), 0, 5)
        here.Sendrecv(np.array([6.0]), 1, 7, recvbuf=out, source=1, recvtag=5)
        assert out == [4.0]
        there.Recv(out, 0, 7)
        assert out == [6.0]
        there.Send(np.array([4.0]), 0)
        here.Sendrecv(np.array([8.0]), 1, recvbuf=out, source=1)
        there.Recv(out, 0, 0)
        assert out == [8.0]


def test_ranks_are_met_before_there_is_something_to_say(meetings: list[tuple[int, list[int], float]]) -> None:
    began_s = time.monotonic()
    with make_comm(0, 8) as comm:
        comm.connect([5, 3], deadline=began_s + 1000)
        comm.connect()
        comm.connect(deadline=began_s + 2000)

    assert [(rank, others) for rank, others, _ in meetings] == [(0, [3, 5]), (0, [1, 2, 4])]
    assert meetings[0][2] == began_s + 1000
    assert began_s + 7 <= meetings[1][2] < began_s + 1000


@pytest.mark.usefixtures("meetings")
def test_statistics_are_of_every_connection_by_rank() -> None:
    with make_comm(1, 3) as comm, make_comm(0, 3) as zero, make_comm(2, 3) as two:
        for peer in (2, 0):
            comm.Send(np.zeros(2), peer)
        zero.Recv(np.zeros(2), 1)
        two.Send(np.zeros(1), 1)
        comm.Recv(np.zeros(1), 2)

        common = {"path": "relay", "wait_s": 1.5, "meet_s": 0.25, "num_bytes_sent": 48, "num_messages_sent": 1}
        stats = comm.stats()
        assert (stats.rank, stats.size) == (1, 3)
        assert stats.meeting_s > 0
        assert stats.peers == (
            fmi.PeerStats(peer=0, num_bytes_received=0, num_messages_received=0, **common),
            fmi.PeerStats(peer=2, num_bytes_received=40, num_messages_received=1, **common),
        )


@pytest.mark.usefixtures("meetings")
def test_who_makes_another_call_is_told_which_of_them_it_is() -> None:
    with make_comm(0, 2) as here, make_comm(1, 2) as there:
        here.bcast(1, 0, WHOLE)
        there.reduce(1, 0, SUM, WHOLE)
        with pytest.raises(
            MessageMismatchError, match=r"Rank 1 is at step reduce \(call 1\), rank 0 at gather \(call 2\)"
        ):
            here.gather(1, 0, WHOLE)


@pytest.mark.usefixtures("meetings")
@pytest.mark.parametrize("count", [4, 4000])
def test_a_sum_of_two_fills_any_buffer_of_its_dtype_and_size(count: int) -> None:
    def job(comm: Communicator) -> None:
        mine, table = np.arange(count) + 1.0, np.zeros((count // 4, 4))
        comm.Allreduce(mine, table)
        np.testing.assert_array_equal(table.ravel(), 2 * mine)
        np.testing.assert_array_equal(mine, np.arange(count) + 1.0)
        with pytest.raises(MessageMismatchError, match="buffer is float32"):
            comm.Allreduce(mine, np.zeros(count, np.float32))

    assert run_ranks(2, job, ("nowhere.invalid", 1)) == [None, None]


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("rank", "size"), [(-1, 3), (3, 3), (0, 0), (0, -1)])
def test_a_rank_that_is_none_of_so_many_is_refused(rank: int, size: int) -> None:
    with pytest.raises(FmiError, match=f"There is no rank {rank} among {size}: ranks count from 0 to num_peers - 1"):
        make_comm(rank, size)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(FmiError, match="no name for a communicator"):
        Communicator(0, 1, HERE, name)


CALLS: list[Callable[[Communicator, int], Any]] = [
    lambda comm, rank: comm.bcast(1, rank, WHOLE),
    lambda comm, rank: comm.gather(1, rank, WHOLE),
    lambda comm, rank: comm.scatter([1.0] * 3, rank, REALS),
    lambda comm, rank: comm.reduce(1, rank, SUM, WHOLE),
    lambda comm, rank: comm.send(1, rank, WHOLE),
    lambda comm, rank: comm.recv(rank, WHOLE),
    lambda comm, rank: comm.Bcast(np.zeros(1), rank),
    lambda comm, rank: comm.Gather(np.zeros(1), np.zeros((3, 1)), rank),
    lambda comm, rank: comm.Scatter(np.zeros((3, 1)), np.zeros(1), rank),
    lambda comm, rank: comm.Reduce(np.zeros(1), np.zeros(1), root=rank),
    lambda comm, rank: comm.Send(np.zeros(1), rank),
    lambda comm, rank: comm.Recv(np.zeros(1), rank),
    lambda comm, rank: comm.Sendrecv(np.zeros(1), rank, recvbuf=np.zeros(1), source=1),
    lambda comm, rank: comm.Sendrecv(np.zeros(1), 1, recvbuf=np.zeros(1), source=rank),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rank", [-1, 3])
def test_a_rank_out_of_range_is_named(call: Callable[[Communicator, int], Any], rank: int) -> None:
    with pytest.raises(FmiError, match=f"There is no rank {rank} among 3") as refused:
        call(make_comm(0, 3), rank)

    assert refused.value.ranks == (rank,)


@pytest.mark.parametrize("call", [call for number, call in enumerate(CALLS) if number in (4, 5, 10, 11, 12, 13)])
def test_no_rank_talks_to_itself(call: Callable[[Communicator, int], Any]) -> None:
    with pytest.raises(FmiError, match="Rank 2 cannot talk to itself") as refused:
        call(make_comm(2, 3), 2)

    assert refused.value.ranks == (2,)


@pytest.mark.parametrize("kind", [REALS, fmi.types(fmi.datatypes.double)])
def test_a_list_that_cannot_be_dealt_evenly_is_refused(kind: fmi.types) -> None:
    with pytest.raises(MessageMismatchError, match="cannot be dealt to 2 ranks"):
        make_comm(0, 2).scatter([1.0] * 3, 0, kind)


@pytest.mark.parametrize("stacked", [None, np.zeros(1), np.zeros(3)])
def test_the_root_of_scatter_needs_numbers_for_every_rank(stacked: np.ndarray | None) -> None:
    with pytest.raises(MessageMismatchError, match="needs 1 numbers for each of 2"):
        make_comm(0, 2).Scatter(stacked, np.zeros(1))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("oh"), "Rank 0 stopped: ValueError: oh"),
        (FmiError("no"), "This communicator is closed."),
        (None, "This communicator is closed."),
    ],
)
def test_after_the_block_it_is_of_no_more_use_and_says_why(error: Exception | None, said: str) -> None:
    comm = make_comm()
    with suppress(ValueError, FmiError), comm:
        if error:
            raise error

    with pytest.raises(FmiError, match=f"^{re.escape(said)}$") as refused:
        comm.Barrier()
    assert refused.value.ranks == ((0,) if isinstance(error, ValueError) else ())


# ---------------------------------------------------------------------------------------------------- operations


def test_an_operation_gives_the_dtype_of_the_first_however_it_computes() -> None:
    one, two = np.array([1, 5]), np.array([2, 5])
    for operation in (
        fmi.Operation("ratio", np.true_divide),
        fmi.Operation("ratio", lambda first, second: first / second),
        fmi.Operation("ratio", lambda first, second: (first / second).tolist()),
    ):
        out = np.zeros(2, int)
        operation.into(one, two, out)

        found = operation(one, two)
        assert (found.tolist(), found.dtype, type(found)) == ([0, 1], one.dtype, np.ndarray)
        assert out.tolist() == [0, 1]
    assert type(fmi.SUM(np.array(1.0), np.array(2.0))) is np.ndarray


def test_an_operation_may_be_reordered_unless_it_says_otherwise() -> None:
    for operation in (fmi.SUM, fmi.func(fmi.op.custom, max).operation, fmi.Operation("mine", np.add)):
        assert (operation.is_commutative, operation.is_associative) == (True, True)
    kept = fmi.func(fmi.op.custom, max, commutative=False, associative=True).operation
    assert (kept.is_commutative, kept.is_associative) == (False, True)


def test_a_list_is_as_long_as_it_is_said_to_be() -> None:
    assert fmi.types(fmi.datatypes.int_list).like().shape == (0,)
    assert fmi.types(fmi.datatypes.int_list, 4).like().dtype == np.int32


def test_every_name_is_there_and_no_other() -> None:
    assert {type(getattr(fmi, name)) for name in fmi.__all__}
    with pytest.raises(AttributeError, match=r"'inference\.fmi' has no attribute 'Comm'"):
        _ = fmi.Comm
