"""Whether intervals hold what they say among the bright and the faint, the red and the blue, the near and the far."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.contract import Payload
from inference.distributions import Array
from inference.pipeline import Predictions
from inference.pz_metrics import LIMITS_68, LIMITS_95, labelled, pit
from scripts.reports.evaluated import Evaluated

REDSHIFT_PARTS = (0.0, 0.1, 0.2, 0.3, 0.5)
NUM_STACK_BINS = 50
MIN_IN_PART = 20
"""Galaxies of which a share says something."""


class Covered(Payload, frozen=True, kw_only=True):
    """Some galaxies, and the shares of them whose spectroscopic redshift is inside their intervals."""

    label: str
    """Which galaxies, in words."""

    num_galaxies: int
    """How many."""

    coverage_68: float | None
    """Share inside the interval that is to hold 68 %; null where none is known."""

    coverage_95: float | None
    """Share inside the interval that is to hold 95 %; null likewise."""

    @property
    def shares(self) -> tuple[tuple[float | None, float], ...]:
        """Both shares with their standard errors."""
        return tuple(
            (share, math.sqrt((share or 0) * (1 - (share or 0)) / self.num_galaxies))
            for share in (self.coverage_68, self.coverage_95)
        )


class Stack(Payload, frozen=True, kw_only=True):
    """n(z) of the galaxies with a spectroscopic redshift and a p(z), in galaxies per bin."""

    edges: tuple[float, ...]
    """Edges of the bins in redshift."""

    z_spec: tuple[int, ...]
    """Counts of spectroscopic redshifts."""

    z_phot: tuple[int, ...]
    """Counts of photometric redshifts."""

    p_z: tuple[float, ...]
    """All p(z) added up."""


def covered(galaxies: Evaluated) -> list[Covered]:
    """Return the shares inside the intervals, of all galaxies and of parts that hold at least `MIN_IN_PART`.

    The intervals are the central ones of p(z), or z_phot ± sigma where there is none. Thirds hold equally many
    galaxies; redshifts are binned by z_phot, which a catalog can be cut by, and by z_spec, where regression to the mean
    lowers the share at the ends whatever the method.
    """
    inside = _inside(galaxies)
    if inside is None:
        return []
    known = np.isfinite(galaxies.predictions.z_spec) & np.isfinite(galaxies.predictions.z_phot)
    parts = [("all", known)]
    for name, values in (("r", galaxies.r), ("g-r", galaxies.g_r)):
        if (known & np.isfinite(values)).any():
            edges = np.quantile(values[known & np.isfinite(values)], [0, 1 / 3, 2 / 3, 1])
            parts += _parts(name, values, edges.tolist(), digits=2)
    for name in ("z_phot", "z_spec"):
        parts += _parts(name, getattr(galaxies.predictions, name), REDSHIFT_PARTS, digits=1)
    chosen = [(label, rows & known) for label, rows in parts]
    return [
        Covered(
            label=label, num_galaxies=int(rows.sum()), **{name: _share(mark, rows) for name, mark in inside.items()}
        )
        for label, rows in chosen
        if rows.sum() >= MIN_IN_PART or label == "all"
    ]


def stack(found: Predictions) -> Stack | None:
    """Return n(z) of the labelled galaxies with p(z); None where there are none."""
    pair = labelled(found.pz, found.z_spec)
    if pair is None:
        return None
    each, z_spec = pair
    z_phot = found.z_phot[np.isfinite(found.z_phot) & np.isfinite(found.z_spec)]
    edges = np.linspace(0, 1.05 * max(z_spec.max(), z_phot.max()), NUM_STACK_BINS + 1)
    return Stack(
        edges=tuple(edges.tolist()),
        z_spec=tuple(np.histogram(z_spec, edges)[0].tolist()),
        z_phot=tuple(np.histogram(z_phot, edges)[0].tolist()),
        p_z=tuple(each.stacked(edges).tolist()),
    )


def _inside(galaxies: Evaluated) -> dict[str, Array | None] | None:
    """Return which redshifts are inside, 1 or 0, NaN where unknown: (N,) for each interval."""
    found = galaxies.predictions
    if found.pz is not None and (pair := labelled(found.pz, found.z_spec)):
        transform = np.full(len(found.z_spec), np.nan)
        transform[np.isfinite(found.z_spec) & np.isfinite(found.pz).all(axis=1)] = pit(*pair)
        return {"coverage_68": _between(transform, LIMITS_68), "coverage_95": _between(transform, LIMITS_95)}
    if not np.isfinite(found.sigma).any():
        return None
    score = np.abs(found.z_phot - found.z_spec) / found.sigma
    outer = None if math.isnan(galaxies.ratio_95) else _between(score, (0.0, galaxies.ratio_95))
    return {"coverage_68": _between(score, (0.0, 1.0)), "coverage_95": outer}


def _between(values: Array, limits: tuple[float, float]) -> Array:
    is_inside = (values >= limits[0]) & (values <= limits[1])
    return np.where(np.isfinite(values), is_inside, np.nan)


def _share(mark: Array | None, rows: NDArray[np.bool_]) -> float | None:
    if mark is None or not np.isfinite(mark[rows]).any():
        return None
    return float(np.nanmean(mark[rows]))


def _parts(
    name: str, values: NDArray[np.floating], edges: Sequence[float], *, digits: int
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for low, high in pairwise(edges):
        is_inside = (values >= low) & ((values < high) | (high == edges[-1]) & (values == high))
        yield f"{name} {low:.{digits}f}-{high:.{digits}f}", is_inside
