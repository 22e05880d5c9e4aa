"""Who talks to whom: one binomial tree for every collective of small messages, one ring for large ones.

The parent of a rank is the rank without its lowest set bit, so that the ranks under a child are consecutive and a
reduction that takes the children in order combines the ranks in order. Another root uses the same N - 1 connections,
only in other directions.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Place(NamedTuple):
    """A rank's place in the tree as seen from a root."""

    parent: int | None
    """Towards the root; None at the root."""

    children: tuple[int, ...]
    """Away from the root."""


@lru_cache(1024)
def place(rank: int, size: int, root: int = 0) -> Place:
    """Return the place of `rank` in the tree of `size` ranks; seen from 0 the children are in the order of ranks."""
    parent, children = _parent(rank), _children(rank, size)
    towards = next((child for child in children if root in span(child, size)), parent)
    if root == rank:
        towards = None
    neighbours = [*children, *([] if parent is None else [parent])]
    return Place(towards, tuple(one for one in neighbours if one != towards))


def neighbours(rank: int, size: int) -> tuple[int, ...]:
    """Return the ranks that `rank` has a connection with."""
    parent = _parent(rank)
    return (*(() if parent is None else (parent,)), *_children(rank, size))


def under(rank: int, neighbour: int, size: int) -> list[int]:
    """Return the ranks, in order, that are reached from `rank` through a neighbour in the tree."""
    if neighbour == _parent(rank):
        mine = span(rank, size)
        return [one for one in range(size) if one not in mine]
    return list(span(neighbour, size))


def path(root: int) -> list[int]:
    """Return the ranks on the way from 0 to `root`, both included."""
    way = [root]
    while (parent := _parent(way[-1])) is not None:
        way.append(parent)
    return way[::-1]


def span(rank: int, size: int) -> range:
    """Return the rank and all those below it in the tree rooted at 0: consecutive ones."""
    return range(rank, min(rank + (rank & -rank or size), size))


def ring(rank: int, size: int) -> tuple[int, int]:
    """Return the neighbours on the ring: the one to receive from, and the one to send to."""
    return (rank - 1) % size, (rank + 1) % size


def fold(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Combine one value per rank in the very order of a reduction over the tree.

    Floating-point sums depend on their order: this gives the same bits as the ranks get.
    """

    def total(rank: int) -> T:
        result = values[rank]
        for child in _children(rank, len(values)):
            result = combine(result, total(child))
        return result

    return total(0)


def _parent(rank: int) -> int | None:
    return rank & (rank - 1) if rank else None


def _children(rank: int, size: int) -> list[int]:
    lowest = rank & -rank or size
    return [rank | 1 << bit for bit in range(size.bit_length()) if 1 << bit < lowest and rank | 1 << bit < size]
