"""The collectives over numpy arrays: a binomial tree for small messages, a ring for large ones.

Every reduction combines in a fixed order, so that the same values on the same number of ranks give the same bits: on
the tree in that of `tree.fold`, the same for every root and for `allreduce`; on the ring chunk by chunk round it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference.fmi import tree
from inference.fmi.frame import COLLECTIVE, Array, Message, header
from inference.fmi.mesh import Mesh, Want, collective_tag
from inference.fmi.reduction import Operation

LARGE_BYTES = 2**16
"""From this size on the ring is faster, and the more so …"""

LARGE_BYTES_PER_RANK = 2**13
"""… the fewer ranks there are: it takes a step per rank."""

SEGMENT_BYTES = 2**18
"""What travels at a time: every rank passes on one piece while it receives the next."""

NOTHING = np.empty(0, np.uint8)
_KEEP = Operation("nothing", lambda first, _: first)


class Collective:
    """One call of a collective on one rank.

    Parameters
    ----------
    mesh : Mesh
        The rank's connections.
    call : str
        Name of the collective.
    number : int
        The how manieth of the communicator; the same on all ranks.
    """

    def __init__(self, mesh: Mesh, call: str, number: int) -> None:
        self._mesh = mesh
        self._rank, self._size = mesh.rank, mesh.size
        self._tag = collective_tag(call, number)
        self._head_of: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        self._known_head = b""

    def barrier(self) -> None:
        """Return when all ranks have called."""
        self.allreduce(NOTHING, _KEEP)

    def bcast(self, array: Array, root: int) -> Array:
        """Return the root's array; those of the others say dtype and shape."""
        if self._is_large(array):
            return self._bcast_chain(array, root)
        place = self._place(root)
        if place.parent is not None:
            (array,) = self._receive([place.parent], array)
        self._send(place.children, array)
        return array

    def reduce(self, array: Array, operation: Operation, root: int) -> Array | None:
        """Return the arrays of all ranks combined; None but at the root."""
        if not operation.is_associative:
            stacked = self.gather(array, root)
            return None if stacked is None else _left_to_right(stacked, operation)[-1]
        if self._is_large(array) and operation.is_commutative:
            return self._reduce_chain(array, operation, root)
        place = self._place()
        total = self._combine(place, array, operation)[-1]
        if place.parent is not None:
            self._send([place.parent], total)
        # From 0 down to the root: so that the order, and the bits, are the same for every root.
        way = tree.path(root)
        if self._rank not in way:
            return None
        position = way.index(self._rank)
        if position > 0:
            (total,) = self._receive([way[position - 1]], array)
        if self._rank == root:
            return total
        self._send([way[position + 1]], total)
        return None

    def allreduce(self, array: Array, operation: Operation, out: Array | None = None) -> Array:
        """Return the arrays of all ranks combined; in `out`, a contiguous array of its own, where that saves a copy."""
        if not operation.is_associative:
            total = self.reduce(array, operation, 0)
            return self.bcast(array if total is None else total, 0)
        if self._size == 2:
            return self._allreduce_pair(array, operation, out)
        if self._is_large(array) and operation.is_commutative:
            return self._allreduce_ring(array, operation, out)
        return self._allreduce_tree(array, operation)

    def gather(self, array: Array, root: int) -> Array | None:
        """Return the arrays of all ranks, shape (size, …); None but at the root."""
        place = self._place(root)
        rows: dict[int, Array] = {self._rank: array}
        likes = {child: _stack_like(array, len(tree.under(self._rank, child, self._size))) for child in place.children}
        for child, came in zip(likes, self._exchange({}, likes), strict=True):
            rows.update(zip(tree.under(self._rank, child, self._size), came, strict=True))
        stacked = np.stack([rows[rank] for rank in sorted(rows)])
        if place.parent is None:
            return stacked
        self._send([place.parent], stacked)
        return None

    def scatter(self, stacked: Array | None, like: Array, root: int) -> Array:
        """Return this rank's row of the root's `stacked`, shape (size, …); `like` has a row's dtype and shape."""
        place = self._place(root)
        mine = list(range(self._size))
        if place.parent is not None:
            others = set(tree.under(self._rank, place.parent, self._size))
            mine = [rank for rank in mine if rank not in others]
            (stacked,) = self._receive([place.parent], _stack_like(like, len(mine)))
        assert stacked is not None, "the root has it"
        index = {rank: position for position, rank in enumerate(mine)}
        self._exchange(
            {
                child: stacked[[index[rank] for rank in tree.under(self._rank, child, self._size)]]
                for child in place.children
            },
            {},
        )
        return np.array(stacked[index[self._rank]])

    def allgather(self, array: Array) -> Array:
        """Return the arrays of all ranks, shape (size, …)."""
        if self._is_large(array):
            return self._allgather_ring(array)
        stacked = self.gather(array, 0)
        if stacked is None:
            stacked = _stack_like(array, self._size)
        place = self._place()
        if place.parent is not None:
            (stacked,) = self._receive([place.parent], stacked)
        self._send(place.children, stacked)
        return stacked

    def scan(self, array: Array, operation: Operation) -> Array:
        """Return the arrays of ranks 0 … this one combined."""
        if not operation.is_associative:
            stacked = self.gather(array, 0)
            every = None if stacked is None else np.stack(_left_to_right(stacked, operation))
            return self.scatter(every, array, 0)
        place = self._place()
        totals = self._combine(place, array, operation)
        if place.parent is not None:
            self._send([place.parent], totals[-1])
            (before,) = self._receive([place.parent], array)
            totals = [operation(before, total) for total in totals]
        self._exchange(dict(zip(place.children, totals, strict=False)), {})
        return totals[0]

    # ------------------------------------------------------------------------------------------------- steps

    def _place(self, root: int = 0) -> tree.Place:
        """Return this rank's place, with all its neighbours met: at once, so that no one waits for another's wait."""
        place = tree.place(self._rank, self._size, root)
        self._mesh.connect(place.children if place.parent is None else (*place.children, place.parent))
        return place

    def _combine(self, place: tree.Place, array: Array, operation: Operation) -> list[Array]:
        """Combine this rank's array with its children's totals, one by one; return it, and all totals on the way."""
        totals = [array]
        for total in self._receive(place.children, array):
            totals.append(operation(totals[-1], total))
        return totals

    def _allreduce_tree(self, array: Array, operation: Operation) -> Array:
        place = self._place()
        total = self._combine(place, array, operation)[-1]
        if place.parent is not None:
            self._send([place.parent], total)
            (total,) = self._receive([place.parent], array)
        self._send(place.children[::-1], total)  # first to the one with most ranks below it
        return total

    def _bcast_chain(self, array: Array, root: int) -> Array:
        position = (self._rank - root) % self._size
        if position == 0:
            self._flow(_pieces(_flat(array)), [])
            return array
        result = np.empty_like(array, order="C")
        pieces = _pieces(_flat(result))
        self._flow([], pieces, num_passed_on=len(pieces) if position < self._size - 1 else 0)
        return result

    def _reduce_chain(self, array: Array, operation: Operation, root: int) -> Array | None:
        position = (self._rank - root - 1) % self._size
        mine = _pieces(_flat(array))
        if position == 0:
            self._flow(mine, [])
            return None
        result = np.empty_like(array, order="C")
        is_last = position == self._size - 1
        self._flow(
            [], _pieces(_flat(result)), num_passed_on=0 if is_last else len(mine), mine=mine, operation=operation
        )
        return result if is_last else None

    def _allreduce_pair(self, array: Array, operation: Operation, out: Array | None) -> Array:
        """Exchange once, instead of a way there and a way back; the order is that of the tree."""
        other = 1 - self._rank
        if array.nbytes < self._mesh.small_bytes:
            mesh, head = self._mesh, header(self._message(array))
            mesh.connect([other])
            mesh.tell([other], head, array)
            (theirs,) = mesh.hear([other], head, self._tag, array)
        else:
            (theirs,) = self._mesh.exchange(
                [(other, self._message(array))], [Want(other, COLLECTIVE, self._tag, array, into=out)]
            )
        first, second = (array, theirs) if self._rank == 0 else (theirs, array)
        if out is None:
            return operation(first, second)
        operation.into(first, second, out)
        return out

    def _allreduce_ring(self, array: Array, operation: Operation, out: Array | None) -> Array:
        """Pass chunk after chunk round the ring, each rank adding its own; then pass the totals round once more."""
        result = np.empty_like(array, order="C") if out is None else out
        mine, totals = (self._chunks(flat) for flat in (_flat(array), _flat(result)))
        steps = range(self._size - 1)
        combined = [(self._rank - step - 1) % self._size for step in steps]
        finished = [(self._rank - step) % self._size for step in steps]
        into = [piece for chunk in (*combined, *finished) for piece in totals[chunk]]
        self._flow(
            mine[self._rank],
            into,
            num_passed_on=len(into) - len(totals[finished[-1]]),
            mine=[piece for chunk in combined for piece in mine[chunk]],
            operation=operation,
        )
        return result

    def _allgather_ring(self, array: Array) -> Array:
        result = _stack_like(array, self._size)
        result[self._rank] = array
        rows = [_pieces(_flat(row)) for row in result]
        into = [piece for step in range(self._size - 1) for piece in rows[(self._rank - step - 1) % self._size]]
        self._flow(rows[self._rank], into, num_passed_on=len(into) - len(rows[self._rank]))
        return result

    def _flow(
        self,
        first: Sequence[Array],
        into: Sequence[Array],
        *,
        num_passed_on: int = 0,
        mine: Sequence[Array] = (),
        operation: Operation | None = None,
    ) -> None:
        """Take what comes from the left on the ring, and hand it on to the right piece by piece, at the same time.

        Parameters
        ----------
        first : sequence of array
            This rank's own pieces, sent to the right before anything else.
        into : sequence of array
            Where the pieces from the left go, in their order.
        num_passed_on : int
            How many of them are handed on.
        mine : sequence of array
            What the first so many of them are combined with before they are.
        operation : Operation, optional
            The second argument is this rank's.
        """
        left, right = tree.ring(self._rank, self._size)

        def pass_on(index: int) -> tuple[int, Message] | None:
            if index < len(mine):
                assert operation is not None, "what there is to combine is combined by something"
                operation.into(into[index], mine[index], into[index])
            return (right, self._message(into[index])) if index < num_passed_on else None

        # Both at once, so that no one waits for another's wait.
        self._mesh.connect([*([left] if into else []), *([right] if first or num_passed_on else [])])
        sends = [(right, self._message(piece)) for piece in first]
        wants = [Want(left, COLLECTIVE, self._tag, piece, piece) for piece in into]
        self._mesh.exchange(sends, wants, pass_on)

    def _chunks(self, flat: Array) -> list[list[Array]]:
        """Return one chunk per rank, each in pieces."""
        return [_pieces(chunk) for chunk in np.array_split(flat, self._size)]

    def _is_large(self, array: Array) -> bool:
        return self._size > 1 and array.nbytes >= max(LARGE_BYTES, LARGE_BYTES_PER_RANK * self._size)

    def _send(self, peers: Sequence[int], array: Array) -> None:
        if array.nbytes < self._mesh.small_bytes:
            self._mesh.tell(peers, self._head(array), array)
        else:
            self._mesh.exchange([(peer, self._message(array)) for peer in peers], [])

    def _receive(self, peers: Sequence[int], like: Array) -> list[Array]:
        if like.nbytes < self._mesh.small_bytes:
            return self._mesh.hear(peers, self._head(like), self._tag, like)
        return self._mesh.exchange([], [Want(peer, COLLECTIVE, self._tag, like) for peer in peers])

    def _head(self, array: Array) -> bytes:
        """Return the header of a step; nearly always that of the step before."""
        kind = array.dtype, array.shape
        if kind != self._head_of:
            self._head_of, self._known_head = kind, header(self._message(array))
        return self._known_head

    def _exchange(self, sends: Mapping[int, Array], wants: Mapping[int, Array]) -> list[Array]:
        if not sends and not wants:
            return []
        return self._mesh.exchange(
            [(peer, self._message(array)) for peer, array in sends.items()],
            [Want(peer, COLLECTIVE, self._tag, like) for peer, like in wants.items()],
        )

    def _message(self, array: Array) -> Message:
        return Message(COLLECTIVE, self._tag, array)


def _stack_like(array: Array, count: int) -> Array:
    return np.empty((count, *array.shape), array.dtype)


def _flat(array: Array) -> Array:
    """Return the numbers in one row: the array's own where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1)


def _pieces(flat: Array) -> list[Array]:
    count = max(1, SEGMENT_BYTES // flat.itemsize)
    return [flat[start : start + count] for start in range(0, len(flat), count)]


def _left_to_right(stacked: Array, operation: Operation) -> list[Array]:
    """Return the array of rank 0, then combined with that of rank 1, and so on."""
    results: list[Any] = [stacked[0]]
    for row in stacked[1:]:
        results.append(operation(results[-1], row))
    return results
