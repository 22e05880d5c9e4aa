"""Every collective on 1 to 17 ranks over loopback, against numpy."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import fmi
from inference.fmi import Communicator, tree
from inference.fmi.collectives import LARGE_BYTES, LARGE_BYTES_PER_RANK
from tests.ranks import run_ranks
from tests.rendezvous import running

Array = NDArray[Any]

SIZES = range(1, 18)
DTYPES = ("?", "<i1", "<i4", "<i8", ">i2", "<u2", "<f2", "<f4", "<f8", "<c16")
OPERATIONS = (fmi.SUM, fmi.PROD, fmi.MAX, fmi.MIN)
FEW = 6
"""Up to so many ranks everything is combined with everything; on more, a third of it, another one each time."""
BY_NAME: dict[str, Callable[[Any, Any], Any]] = {
    "SUM": np.add,
    "PROD": np.multiply,
    "MAX": np.maximum,
    "MIN": np.minimum,
}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with running() as server:
        yield server.address


def part_of(cases: Sequence[Any], size: int) -> Sequence[Any]:
    """Return the cases to try on so many ranks."""
    return cases if size <= FEW else cases[size % 3 :: 3]


def values(rank: int, dtype: str, shape: tuple[int, ...] = (3,)) -> Array:
    """Return small numbers that say which rank and place they are of."""
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 3 + rank % 4 + 1
    return (numbers / 2 if np.dtype(dtype).kind in "fc" else numbers).astype(dtype)


def folded(arrays: list[Array], name: str) -> Array:
    """Combine in the order of the tree, in the arrays' own dtype."""
    dtype = arrays[0].dtype
    with np.errstate(over="ignore"):
        return tree.fold(arrays, lambda one, other: BY_NAME[name](one, other).astype(dtype))


@pytest.mark.parametrize("size", SIZES)
def test_reductions_equal_numpy_for_every_root_dtype_and_operation(size: int, address: tuple[str, int]) -> None:
    cases = []
    for number, (dtype, operation) in enumerate(part_of(list(itertools.product(DTYPES, OPERATIONS)), size)):
        arrays = [values(rank, dtype) for rank in range(size)]
        whole, parts = folded(arrays, operation.name), prefixes(arrays, operation.name)
        cases.append((number % size, operation, arrays, whole, parts))

    @np.errstate(over="ignore")
    def job(comm: Communicator) -> None:
        for root, operation, arrays, whole, parts in cases:
            what = (root, operation.name, whole.dtype)
            mine = arrays[comm.rank]
            out = np.zeros_like(mine)
            comm.Reduce(mine, out, op=operation, root=root)
            assert np.array_equal(out, whole if comm.rank == root else np.zeros_like(mine)), what
            comm.Allreduce(mine, out, op=operation)
            assert np.array_equal(out, whole), what
            comm.Scan(mine, out, op=operation)
            assert np.array_equal(out, parts[comm.rank]), what

    assert run_ranks(size, job, address) == [None] * size


def prefixes(arrays: list[Array], name: str) -> list[Array]:
    """Combine the arrays of ranks 0 … r, for every r."""
    results = [arrays[0]]
    with np.errstate(over="ignore"):
        for array in arrays[1:]:
            results.append(BY_NAME[name](results[-1], array).astype(array.dtype))
    return results


@pytest.mark.parametrize("size", SIZES)
def test_what_is_dealt_and_collected_is_what_was_there(size: int, address: tuple[str, int]) -> None:
    cases = []
    for root in part_of(range(size), size):
        dtype, shape = DTYPES[root % len(DTYPES)], ((), (3,), (2, 2))[root % 3]
        cases.append((root, np.stack([values(rank, dtype, shape) for rank in range(size)])))

    def job(comm: Communicator) -> None:
        for root, every in cases:
            mine = every[comm.rank, ...]
            out, table = np.zeros_like(mine), np.zeros_like(every)
            comm.Gather(mine, table if comm.rank == root else None, root=root)
            assert np.array_equal(table, every if comm.rank == root else np.zeros_like(every)), root
            comm.Scatter(every if comm.rank == root else None, out, root=root)
            assert np.array_equal(out, mine), root
            comm.Allgather(mine, table)
            assert np.array_equal(table, every), root
            out = mine.copy()
            out.setflags(write=comm.rank != root)  # the root's is only read
            comm.Bcast(out, root=root)
            assert np.array_equal(out, every[root]), root
        comm.Barrier()

    assert run_ranks(size, job, address) == [None] * size


def num_bytes_sent(comm: Communicator) -> int:
    return sum(peer.num_bytes_sent for peer in comm.stats().peers)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_large_arrays_go_round_the_ring_and_are_right(size: int, address: tuple[str, int]) -> None:
    # Longer than two segments of a chain, and not divisible by the number of ranks.
    count = max(LARGE_BYTES, LARGE_BYTES_PER_RANK * size) // 4 + 150_001
    arrays = [np.arange(count, dtype="<i4") % 1000 + rank for rank in range(size)]
    every = np.stack(arrays)
    total = every.sum(axis=0, dtype="<i4")

    def job(comm: Communicator) -> set[int]:
        mine, out = arrays[comm.rank], np.zeros(count, "<i4")
        for root in (0, size - 1):
            comm.Reduce(mine, out, op=fmi.SUM, root=root)
            np.testing.assert_array_equal(out, total if comm.rank == root else np.zeros_like(out))
            out[...] = mine
            comm.Bcast(out, root=root)
            np.testing.assert_array_equal(out, arrays[root])
            out[...] = 0
        sent = [num_bytes_sent(comm)]
        comm.Allreduce(mine, out, op=fmi.MAX)
        np.testing.assert_array_equal(out, arrays[-1])
        sent.append(num_bytes_sent(comm))
        table = np.zeros_like(every)
        comm.Allgather(mine, table)
        np.testing.assert_array_equal(table, every)
        sent.append(num_bytes_sent(comm))
        # Nothing twice: every chunk to all but one, once to be combined and once combined; every row to all others.
        shares = np.diff(sent) / mine.nbytes
        assert shares == pytest.approx([1 if size == 2 else 2 * (size - 1) / size, size - 1], rel=0.01)
        return {peer.peer for peer in comm.stats().peers}

    for rank, peers in enumerate(run_ranks(size, job, address)):
        assert peers == set(tree.ring(rank, size))


@pytest.mark.parametrize("count", [5, 60_000])
def test_sums_of_floats_repeat_bit_for_bit_and_are_the_same_on_all_ranks(count: int, address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> tuple[bytes, ...]:
        mine = np.random.default_rng(comm.rank).normal(size=count)
        results = []
        for _ in range(2):
            out = np.empty_like(mine)
            comm.Allreduce(mine, out)
            results.append(out.tobytes())
        return tuple(results)

    assert len({bits for outcome in run_ranks(6, job, address) for bits in outcome}) == 1


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("count", [5, 60_000])
def test_sums_come_into_any_buffer(size: int, count: int, address: tuple[str, int]) -> None:
    expected = np.arange(count) * float(size)

    def job(comm: Communicator) -> None:
        mine = np.arange(count, dtype=float)
        strided, both = np.zeros((count, 2)), np.arange(count + 1, dtype=float)
        comm.Allreduce(mine, strided[:, 1])
        comm.Allreduce(both[:-1], both[1:])
        np.testing.assert_array_equal(strided, np.stack([np.zeros(count), expected], axis=1))
        np.testing.assert_array_equal(both[1:], expected)
        np.testing.assert_array_equal(mine, np.arange(count))
        comm.Allreduce(fmi.IN_PLACE, mine)
        np.testing.assert_array_equal(mine, expected)

    assert run_ranks(size, job, address) == [None] * size


def test_a_large_sum_adds_round_the_ring_from_the_rank_after_each_chunk(address: tuple[str, int]) -> None:
    mine = [np.random.default_rng(rank).normal(size=30_001) for rank in range(3)]
    # The first chunk begins at rank 0 and ends at rank 2, and so on.
    chunks = [np.array_split(array, 3) for array in mine]
    expected = np.concatenate(
        [(chunks[one][one] + chunks[(one + 1) % 3][one]) + chunks[(one + 2) % 3][one] for one in range(3)]
    )

    def job(comm: Communicator) -> bytes:
        out = np.empty_like(mine[0])
        comm.Allreduce(mine[comm.rank], out)
        return out.tobytes()

    assert set(run_ranks(3, job, address)) == {expected.tobytes()}


def test_a_sum_has_the_bits_of_the_fold_for_every_root(address: tuple[str, int]) -> None:
    numbers = np.random.default_rng(1).normal(size=11) * 10.0 ** np.arange(-5, 6)
    expected = tree.fold(numbers.tolist(), float.__add__)
    kind, operation = fmi.types(fmi.datatypes.double), fmi.func(fmi.op.sum)

    def job(comm: Communicator) -> list[float]:
        return [comm.reduce(numbers[comm.rank], root, operation, kind) for root in range(11)]

    for rank, found in enumerate(run_ranks(11, job, address)):
        assert found == [expected if root == rank else None for root in range(11)]


def test_small_messages_need_no_more_connections_than_a_tree_has(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> set[frozenset[int]]:
        value, out = np.ones(4), np.ones(4)
        comm.Barrier()
        for root in range(comm.size):
            comm.Bcast(out, root=root)
            comm.Reduce(value, out, root=root)
        comm.Allreduce(value, out)
        comm.Scan(value, out)
        return {frozenset((comm.rank, peer.peer)) for peer in comm.stats().peers}

    assert len(set().union(*run_ranks(13, job, address))) == 12


# ----------------------------------------------------------------------------------------------- point to point


def test_both_may_send_first_and_much(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> float:
        mine, theirs = np.full(2_000_000, float(comm.rank)), np.zeros(2_000_000)
        comm.Send(mine, 1 - comm.rank)
        comm.Recv(theirs, 1 - comm.rank)
        return float(theirs.sum())

    assert run_ranks(2, job, address) == [2e6, 0.0]


def test_tags_choose_among_the_messages_of_a_rank(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> list[float]:
        got = np.zeros(1)
        if comm.rank == 0:
            for tag in (1, 2, 3):
                comm.Send(np.array([float(tag)]), 1, tag=tag)
            return []
        order = []
        for tag in (3, fmi.ANY_TAG, 2):
            comm.Recv(got, 0, tag=tag)
            order.append(float(got[0]))
        return order

    assert run_ranks(2, job, address)[1] == [3.0, 1.0, 2.0]


def test_sendrecv_passes_round_the_ring(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> int:
        left, right = tree.ring(comm.rank, comm.size)
        got = np.zeros(1, int)
        comm.Sendrecv(np.array([comm.rank]), right, recvbuf=got, source=left)
        return int(got[0])

    assert run_ranks(5, job, address) == [4, 0, 1, 2, 3]


# ----------------------------------------------------------------------------------------------- as FMI had it


def test_a_program_for_fmi_runs_unchanged(address: tuple[str, int]) -> None:
    double_it = fmi.func(fmi.op.custom, lambda a, b: 2 * a + 2 * b, True, True)
    config = {"backends": {"Direct": {"enabled": True, "host": address[0], "port": address[1], "max_timeout": 9000}}}

    def job(_: Communicator, rank: int) -> list[Any]:
        comm = fmi.Communicator(rank, 2, config, "unchanged", 512)
        comm.hint(fmi.hints.fast)
        comm.barrier()
        got: list[Any] = []
        whole, real = fmi.types(fmi.datatypes.int), fmi.types(fmi.datatypes.double)
        wholes, reals = fmi.types(fmi.datatypes.int_list, 2), fmi.types(fmi.datatypes.double_list, 2)
        for value, kind in ((42, whole), (14.2, real), ([1, 2], wholes), ([1.32, 2.34], reals)):
            if rank == 0:
                comm.send(value, 1, kind)
            else:
                assert comm.recv(0, kind) == value
            assert comm.bcast(value if rank == 0 else None, 0, kind) == value
        got.append(comm.gather(rank + 1, 0, whole))
        got.append(comm.gather([2.0 * rank, 2.0 * rank + 1], 0, reals))
        got.append(comm.scatter([14, 42] if rank == 0 else None, 0, wholes))
        got.append(comm.scatter([1.3, 2.3, 3.3, 4.3], 0, fmi.types(fmi.datatypes.double_list, 4)))
        got.append(comm.reduce(42, 0, fmi.func(fmi.op.sum), whole))
        got.append(comm.reduce([43.5, 13.5], 0, fmi.func(fmi.op.max), reals))
        got.append(comm.reduce([42, 14], 0, double_it, wholes))
        got.append(comm.allreduce(14.0, fmi.func(fmi.op.prod), real))
        got.append(comm.scan(rank + 1, fmi.func(fmi.op.sum), whole))
        comm.close()
        return got

    first, second = run_ranks(2, lambda comm: job(comm, comm.rank), address, name="outer")

    assert first == [[1, 2], [0.0, 1.0, 2.0, 3.0], [14], [1.3, 2.3], 84, [43.5, 13.5], [168, 56], 196.0, 1]
    assert second == [[], [], [42], [3.3, 4.3], None, None, None, 196.0, 3]


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_what_is_not_associative_is_applied_from_the_left(size: int, address: tuple[str, int]) -> None:
    minus = fmi.func(fmi.op.custom, lambda a, b: a - 2 * b, False, False)
    whole = fmi.types(fmi.datatypes.int)

    def expected(last: int) -> int:
        result = 1
        for rank in range(1, last + 1):
            result = result - 2 * (rank + 1)
        return result

    def job(comm: Communicator) -> tuple[int, ...]:
        return (
            comm.reduce(comm.rank + 1, size - 1, minus, whole),
            comm.allreduce(comm.rank + 1, minus, whole),
            comm.scan(comm.rank + 1, minus, whole),
        )

    for rank, (reduced, everywhere, scanned) in enumerate(run_ranks(size, job, address)):
        assert reduced == (expected(size - 1) if rank == size - 1 else None)
        assert everywhere == expected(size - 1)
        assert scanned == expected(rank)


def test_the_order_of_ranks_is_kept_where_it_matters(address: tuple[str, int]) -> None:
    # Associative, not commutative: 2x2 matrices, on the tree whatever their size.
    matmul = fmi.Operation("matmul", lambda one, other: one @ other, is_commutative=False)
    matrices = [np.array([[1, rank], [rank + 1, 1]], float) for rank in range(7)]

    def job(comm: Communicator) -> Array:
        out = np.zeros((2, 2))
        comm.Allreduce(matrices[comm.rank], out, op=matmul)
        return out

    for found in run_ranks(7, job, address):
        np.testing.assert_allclose(found, np.linalg.multi_dot(matrices), rtol=1e-12)


def test_statistics_count_what_went_over_every_connection(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> fmi.Stats:
        comm.barrier()
        if comm.rank == 0:
            comm.Send(np.zeros(10), 1)
        else:
            comm.Recv(np.zeros(10), 0)
        comm.barrier()
        return comm.stats()

    first, second = run_ranks(2, job, address)

    (there,), (back,) = first.peers, second.peers
    assert (there.path, back.path) == ("direct", "direct")
    assert (there.num_messages_sent, there.num_bytes_sent) == (3, 2 * 32 + 32 + 80)
    assert (back.num_messages_received, back.num_bytes_received) == (3, there.num_bytes_sent)
    assert 0 < first.meeting_s < 10
