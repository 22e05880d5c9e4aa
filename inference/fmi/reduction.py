"""How two arrays become one: the operations of a reduction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """Combines two arrays of the same dtype and shape; the first is of the lower ranks."""

    name: str
    """For messages."""

    function: Callable[[Array, Array], Array]
    """The ufunc, or a function of one's own."""

    is_commutative: bool = True
    """False keeps the order of the ranks: such a reduction never takes the ring."""

    is_associative: bool = True
    """False combines one rank after the other at the root, as FMI does."""

    def __call__(self, first: Array, second: Array) -> Array:
        """Return the combined array in the dtype of the first: no reduction widens it."""
        result = self.function(first, second)
        return result if type(result) is np.ndarray and result.dtype is first.dtype else np.asarray(result, first.dtype)

    def into(self, first: Array, second: Array, out: Array) -> None:
        """Write the combined array to `out`, which may be one of the two."""
        if isinstance(self.function, np.ufunc):
            self.function(first, second, out=out, casting="unsafe")
        else:
            out[...] = self.function(first, second)


SUM = Operation("SUM", np.add)
PROD = Operation("PROD", np.multiply)
MAX = Operation("MAX", np.maximum)
MIN = Operation("MIN", np.minimum)


def elementwise(function: Callable[[Any, Any], Any], *, is_commutative: bool, is_associative: bool) -> Operation:
    """Make an operation of a function of two Python numbers."""

    def combine(first: Array, second: Array) -> Array:
        pairs = zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True)
        return np.array([function(one, other) for one, other in pairs], dtype=first.dtype).reshape(first.shape)

    return Operation("a function of one's own", combine, is_commutative, is_associative)
