"""Which galaxies must stay together when some teach and others judge: one object, one patch of sky."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

CELL_DEG = 0.5
"""Side of a patch of sky: neighbours in a cluster share its redshift, and images that overlap share their pixels."""
DUPLICATE_ARCSEC = 2.0
"""Closer positions are one galaxy observed twice."""
SAME_MAGNITUDE = 1e-4
"""Galaxies without a position whose five magnitudes, rounded to this, are the same are one [mag]."""


def groups(
    object_id: NDArray[np.int64],
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    magnitudes: NDArray[np.float64],
) -> NDArray[np.str_]:
    """Name the group of each galaxy: what is one galaxy, or in one patch of sky, has one name.

    Parameters
    ----------
    object_id : array, shape (N,), int64
    ra_deg, dec_deg : array, shape (N,), float64
        Position, J2000 [degree]; NaN where unknown.
    magnitudes : array, shape (N, 5), float64
        Tell galaxies apart that have no position [mag].

    Returns
    -------
    array, shape (N,), str
        Names that do not depend on the order of the rows. Galaxies added later leave those of the others as they are,
        except where they join two patches.
    """
    has_position = np.isfinite(ra_deg) & np.isfinite(dec_deg)
    labels = np.where(has_position, _cells(ra_deg, dec_deg), _photometric(magnitudes))
    joined = _joined(labels, object_id, ra_deg, dec_deg, has_position)
    # The smallest label of a group names it.
    order = np.lexsort((labels, joined))
    is_first = np.r_[True, joined[order][1:] != joined[order][:-1]]
    names: NDArray[np.str_] = labels[order][is_first][joined]
    return names


def folds(group: NDArray[np.str_], num_folds: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Deal groups to folds by a hash of their names: one number for each row, about equal shares of the groups."""
    names, rows = np.unique(group, return_inverse=True)
    dealt = np.array([_hash(name, seed) % num_folds for name in names])
    return dealt[rows].astype(np.int64)


def _cells(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.str_]:
    """Name the patch of each position: a band of declination, cut into patches of about the same area."""
    band = np.floor(np.nan_to_num(dec_deg) / CELL_DEG)
    width = CELL_DEG / np.maximum(np.cos(np.radians((band + 0.5) * CELL_DEG)), 1e-3)
    along = np.floor(np.nan_to_num(ra_deg) / width)
    return np.char.add(np.char.add(band.astype(np.int64).astype(str), " "), along.astype(np.int64).astype(str))


def _photometric(magnitudes: NDArray[np.float64]) -> NDArray[np.str_]:
    rounded = np.round(np.nan_to_num(magnitudes, nan=99.0, posinf=99.0, neginf=99.0) / SAME_MAGNITUDE).astype(np.int64)
    return np.array([" ".join(map(str, row)) for row in rounded.tolist()])


def _joined(
    labels: NDArray[np.str_],
    object_id: NDArray[np.int64],
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    has_position: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Give one number to rows that share a label, an identifier or a place, directly or through others."""
    num = len(labels)
    pairs = [_chain(np.unique(keys, return_inverse=True)[1]) for keys in (labels, object_id)]
    rows = np.flatnonzero(has_position)
    if len(rows):
        ra, dec = np.radians(ra_deg[rows]), np.radians(dec_deg[rows])
        places = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
        near = cKDTree(places).query_pairs(np.radians(DUPLICATE_ARCSEC / 3600), output_type="ndarray")
        pairs.append(rows[near])
    first, second = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(num, num))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _chain(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pair each row with the next one of its group: (M, 2)."""
    order = np.argsort(groups, kind="stable")
    is_same = groups[order][1:] == groups[order][:-1]
    return np.stack([order[:-1][is_same], order[1:][is_same]], axis=1)


def _hash(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
