"""What a communicator gives, refuses and says of itself before it needs a connection."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from inference import fmi
from inference.errors import FmiError, MessageMismatchError
from inference.fmi import Communicator, Config
from inference.fmi.mesh import ABORT_GRACE_S

HERE = Config(host="nowhere.invalid", timeout_s=7.0)
WHOLE, REALS = fmi.types(fmi.datatypes.int), fmi.types(fmi.datatypes.double_list, 3)
SUM = fmi.func(fmi.op.sum)


def make_comm(rank: int = 0, size: int = 1) -> Communicator:
    return Communicator(rank, size, HERE, "test")


# ------------------------------------------------------------------------------------------------------- a rank alone


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (3000,)])
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


# ------------------------------------------------------------------------------------------------ what is refused


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
        comm.barrier()
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
