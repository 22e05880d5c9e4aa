"""The names that programs written for FMI use: types, operations and hints, and what its numbers are in numpy.

References
----------
Copik et al. 2023, FMI: Fast and cheap message passing for serverless functions, ICS'23, arXiv:2305.08763.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from inference.errors import MessageMismatchError
from inference.fmi.frame import Array
from inference.fmi.reduction import MAX, MIN, PROD, SUM, Operation, elementwise


class datatypes(Enum):  # noqa: N801 -- FMI's spelling
    """Kinds of values."""

    int = "int"
    """A whole number of 32 bits, as in C."""
    double = "double"
    """A floating-point number of 64 bits."""
    int_list = "int_list"
    """A list of `int`."""
    double_list = "double_list"
    """A list of `double`."""


class op(Enum):  # noqa: N801
    """Operations of reductions."""

    sum = "sum"
    prod = "prod"
    max = "max"
    min = "min"
    custom = "custom"
    """A function of one's own: `func` takes it."""


class hints(Enum):  # noqa: N801
    """What to prefer. Both take the direct connection, which is the fastest and costs nothing."""

    fast = "fast"
    cheap = "cheap"


@dataclass(frozen=True)
class types:  # noqa: N801
    """The type of a value.

    Parameters
    ----------
    kind : datatypes
    num_objects : int
        Length of a list; of the whole list for `scatter`.
    """

    kind: datatypes
    num_objects: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a number of it is in numpy."""
        return np.dtype("<i4" if self.kind in (datatypes.int, datatypes.int_list) else "<f8")

    @property
    def is_list(self) -> bool:
        """True for `int_list` and `double_list`."""
        return self.kind in (datatypes.int_list, datatypes.double_list)

    def like(self) -> Array:
        """Return an array of the dtype and shape of a value."""
        return np.empty((self.num_objects,) if self.is_list else (), self.dtype)

    def to_array(self, value: Any) -> Array:
        """Return a value as an array.

        Raises
        ------
        MessageMismatchError
            If it is not of this type: no number, a list of another length, or a whole number beyond 32 bits.
        """
        try:
            given = np.asarray(value)
            array = given.astype(self.dtype, casting="same_kind")
        except (TypeError, ValueError, OverflowError) as error:
            raise MessageMismatchError(f"{value!r} is no {self.kind.value}: {error}.") from error
        if array.shape != self.like().shape:
            raise MessageMismatchError(
                f"The value has shape {array.shape}; {self.kind.value} of {self.num_objects} has {self.like().shape}."
            )
        if self.dtype.kind == "i" and not np.array_equal(array, given):
            raise MessageMismatchError(f"{value!r} does not fit into the 32 bits of {self.kind.value}; use doubles.")
        return array

    def to_value(self, array: Array) -> Any:
        """Return an array as a number or a list of them."""
        return array.tolist()


@dataclass(frozen=True)
class func:  # noqa: N801
    """An operation, and for `op.custom` the function that combines two numbers.

    Parameters
    ----------
    kind : op
    function : callable
        Takes two numbers, gives one; applied element by element to lists.
    commutative, associative : bool
        What may be done with its order. Without the second it is applied from the left, rank by rank.
    """

    kind: op
    function: Callable[[Any, Any], Any] | None = None
    commutative: bool = True
    associative: bool = True

    @property
    def operation(self) -> Operation:
        """The operation on arrays."""
        if self.kind is not op.custom:
            return {op.sum: SUM, op.prod: PROD, op.max: MAX, op.min: MIN}[self.kind]
        if self.function is None:
            raise TypeError("fmi.op.custom needs a function: fmi.func(fmi.op.custom, lambda a, b: …, True, True).")
        return elementwise(self.function, is_commutative=self.commutative, is_associative=self.associative)
