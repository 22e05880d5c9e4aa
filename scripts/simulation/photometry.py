"""What a survey measures of a galaxy, without its redshift, and the magnitudes made from it."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

ASINH_SOFTENING = np.array([1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10])
"""SDSS asinh softening b of u, g, r, i, z [maggy] (Lupton, Gunn & Szalay 1999; SDSS photometric pipeline)."""

NANOMAGGY = 1e-9

MAX_PETROSIAN_MINUS_MODEL = 0.7
"""A larger difference is a failed measurement, not a galaxy profile [mag]."""


@dataclass(frozen=True)
class Photometry:
    """Measured light of N galaxies in u, g, r, i, z. It holds no redshift, so nothing made from it can leak one."""

    object_id: NDArray[np.int64]
    """Shape (N,): positive and unique."""

    model_flux: NDArray[np.float64]
    """Shape (N, 5): flux of the best-fitting profile, extinction included [nanomaggy]."""

    model_flux_error: NDArray[np.float64]
    """Shape (N, 5): its standard error [nanomaggy]."""

    petrosian_flux: NDArray[np.float64]
    """Shape (N, 5): flux inside the Petrosian aperture, extinction included [nanomaggy]."""

    extinction: NDArray[np.float64]
    """Shape (N, 5): Galactic extinction [mag]."""

    def __len__(self) -> int:
        return len(self.object_id)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def magnitudes(self) -> NDArray[np.float64]:
        """Model magnitudes corrected for Galactic extinction, shape (N, 5) [mag]."""
        return asinh_magnitudes(self.model_flux) - self.extinction

    @property
    def petrosian_minus_model(self) -> NDArray[np.float64]:
        """Petrosian minus model magnitude, shape (N, 5) [mag]: a measured trace of the radial profile.

        Bands in which either flux is below 5 of its errors take the value of r, and values are limited to
        `MAX_PETROSIAN_MINUS_MODEL`.
        """
        model = np.maximum(self.model_flux, 1e-3)
        petrosian = np.maximum(self.petrosian_flux, 1e-3)
        difference = -2.5 * np.log10(petrosian / model)
        limited = np.clip(difference, -MAX_PETROSIAN_MINUS_MODEL, MAX_PETROSIAN_MINUS_MODEL)
        is_faint = self.model_flux < 20 * self.model_flux_error
        return np.where(is_faint, limited[:, 2:3], limited)


def asinh_magnitudes(
    flux: NDArray[np.float64], softening: NDArray[np.float64] = ASINH_SOFTENING
) -> NDArray[np.float64]:
    """SDSS asinh magnitudes [mag] of fluxes [nanomaggy], shape (..., B); finite for any flux, negative ones too."""
    magnitudes: NDArray[np.float64] = np.arcsinh(flux * NANOMAGGY / (2 * softening)) + np.log(softening)
    magnitudes *= -2.5 / np.log(10)
    return magnitudes
