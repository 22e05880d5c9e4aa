"""Whether two methods predict the same redshifts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.command.errors import CommandError


@dataclass(frozen=True)
class Redshifts:
    """The redshifts of a dataset, in its order."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,)."""

    z_phot: NDArray[np.float32]
    """Redshifts, shape (N,); NaN where rejected."""


@dataclass(frozen=True)
class Agreement:
    """How far two sets of redshifts are apart."""

    max_abs_difference: float | None
    """Largest difference; None where no galaxy was predicted by both."""

    num_compared: int
    """Galaxies predicted by both."""

    num_one_sided: int
    """Galaxies that only one of them rejected."""


def agreement(one: Redshifts, other: Redshifts) -> Agreement:
    """Compare two sets of redshifts galaxy by galaxy.

    Raises
    ------
    CommandError
        If they are not of the same galaxies.
    """
    if not np.array_equal(one.object_id, other.object_id):
        raise CommandError(
            f"The galaxies differ: {len(one.object_id):,} and {len(other.object_id):,} rows, or another order. The "
            "dataset was replaced since; make it again, or compare with a new run."
        )
    known = np.isfinite(one.z_phot) & np.isfinite(other.z_phot)
    apart = np.abs(one.z_phot[known].astype(float) - other.z_phot[known].astype(float))
    one_sided = np.isfinite(one.z_phot) != np.isfinite(other.z_phot)
    return Agreement(float(apart.max()) if len(apart) else None, int(known.sum()), int(one_sided.sum()))
