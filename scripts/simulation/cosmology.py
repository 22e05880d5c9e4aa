"""Distances and volumes of a flat universe, from one cumulative integral."""

import numpy as np
from numpy.typing import NDArray

HUBBLE_KM_S_MPC = 70.0
OMEGA_MATTER = 0.3
"""Flat ΛCDM; the generator needs distances to a few percent only."""

SPEED_OF_LIGHT_KM_S = 299_792.458

_GRID = np.linspace(0.0, 1.0, 4001)
_INVERSE_E = 1 / np.sqrt(OMEGA_MATTER * (1 + _GRID) ** 3 + 1 - OMEGA_MATTER)
_COMOVING_MPC = (
    SPEED_OF_LIGHT_KM_S
    / HUBBLE_KM_S_MPC
    * np.concatenate([[0.0], np.cumsum((_INVERSE_E[1:] + _INVERSE_E[:-1]) / 2 * np.diff(_GRID))])
)


def comoving_distance_mpc(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Line-of-sight comoving distance [Mpc] of redshifts below 1."""
    return np.interp(z, _GRID, _COMOVING_MPC)


def redshift_at_comoving_distance(distance_mpc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Redshift at which the comoving distance [Mpc] has this value."""
    return np.interp(distance_mpc, _COMOVING_MPC, _GRID)


def angular_diameter_distance_mpc(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angular-diameter distance [Mpc]: size over angle."""
    return comoving_distance_mpc(z) / (1 + z)


def distance_modulus(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apparent minus absolute magnitude [mag], without K correction."""
    return 5 * np.log10(comoving_distance_mpc(z) * (1 + z) * 1e5)
