"""p(z) of networks that give a redshift alone: a mixture of four Gaussians in 48 bytes per galaxy.

A small network (6-32-32-12) gives weights, centres and widths from r, the four colours and z_phot. It is trained on
redshifts that the redshift network predicted for galaxies it had not learned from, so its distributions hold what they
say: of many galaxies, the true redshifts are spread evenly over the percentiles of their p(z).

References
----------
Bishop 1994, Mixture Density Networks, NCRG/94/004; Dey et al. 2022, arXiv:2205.14568, and Schmidt et al. 2020,
MNRAS 499, 1587, for what makes a p(z) calibrated.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import tensor_file
from inference.contract import Payload
from inference.errors import WeightsError
from inference.uncertainty import Array, FeatureNetwork

FILE_NAME = "posterior.safetensors"

NUM_COMPONENTS = 4
NUM_NUMBERS = 3 * NUM_COMPONENTS
"""Per galaxy: weights, then centres, then widths, as float32."""

MIN_WIDTH, MAX_WIDTH = 1e-3, 0.5
"""Of a component, in dz."""
SHIFT_UNIT = 0.02
"""dz that counts as one in what the network says about centres: about the error to be expected."""


class PosteriorCard(Payload, frozen=True, kw_only=True):
    """What accompanies the tensors."""

    weights_sha256: str
    """Checksum of the checkpoint whose redshifts it describes."""


@dataclass(frozen=True)
class PosteriorModel(FeatureNetwork):
    """Gives every redshift of one checkpoint its distribution."""

    weights_sha256: str
    """Checksum of the checkpoint whose redshifts it describes."""

    def posteriors(self, magnitudes: Array, z_phot: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the distribution of each galaxy.

        Parameters
        ----------
        magnitudes : array, shape (N, 5), float64
            Dereddened magnitudes in u, g, r, i, z [mag].
        z_phot : array, shape (N,)
            Redshifts that the network predicted.

        Returns
        -------
        array, shape (N, 12), float32
            Weights, centres and widths of four Gaussians in redshift, to be cut at 0 (`inference.distributions`). Each
            row depends on its own galaxy alone, bit by bit.
        """
        found = mixture(self.outputs(magnitudes, z_phot), z_phot.astype(np.float64))
        return np.ascontiguousarray(found.T, dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Return the content of the file; arrays are rounded to float32."""
        tensors = {"center": self.center, "scale": self.scale, **tensor_file.layer_arrays(self.layers)}
        return tensor_file.content(PosteriorCard(weights_sha256=self.weights_sha256), tensors)


def mixture(outputs: Array, z_phot: Array) -> Array:
    """Turn what the last layer says, (12, N), into weights, centres and widths in redshift, (12, N)."""
    logit, shift, log_width = np.split(outputs, 3)
    weight = np.exp(logit - logit.max(axis=0))
    weight /= weight.sum(axis=0)
    width = np.clip(SHIFT_UNIT * np.exp(log_width), MIN_WIDTH, MAX_WIDTH)
    return np.concatenate([weight, z_phot + SHIFT_UNIT * shift * (1 + z_phot), width * (1 + z_phot)])


def load_posterior_model(path: Path, weights_sha256: str) -> PosteriorModel:
    """Read the distributions of some weights.

    Raises
    ------
    WeightsError
        If there is no such file, it cannot be read, or it was made for other weights.
    """
    try:
        card, tensors = tensor_file.read(path, PosteriorCard)
        layers = tensor_file.layers_of(tensors)
        model = PosteriorModel(tensors["center"], tensors["scale"], layers, card.weights_sha256)
    except FileNotFoundError:
        raise WeightsError(f"{path.name} does not exist; training and `make calibrate` write it.") from None
    except tensor_file.UNREADABLE as error:
        raise WeightsError(f"{path.name} holds no distributions ({error}); train again.") from error
    if card.weights_sha256 != weights_sha256:
        raise WeightsError(
            f"{path.name} was made for the weights {card.weights_sha256[:12]} and these are {weights_sha256[:12]}."
        )
    return model
