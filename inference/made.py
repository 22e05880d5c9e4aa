"""Sequences that take no memory: their elements are made when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Made(Sequence[T]):
    """A sequence whose elements are made when they are asked for: a million ranks take the memory of one."""

    def __init__(self, num: int, make: Callable[[int], T]) -> None:
        self._num = num
        self._make = make

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(self._num))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Made[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Made[T]":
        if isinstance(index, int):
            return self._make(range(self._num)[index])
        chosen = range(self._num)[index]
        return Made(len(chosen), lambda i: self._make(chosen[i]))
