"""p(z): what is known of a galaxy's redshift, as a mixture of four Gaussians in 48 bytes.

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
NUM_HALVINGS = 30
"""Steps to a quantile: a billionth of the interval it is searched in."""


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
            Weights, centres and widths of four Gaussians in redshift, to be cut at 0. Each row depends on its own
            galaxy alone, bit by bit.
        """
        return mixture(self.outputs(magnitudes, z_phot), z_phot.astype(np.float64)).T.astype(np.float32)

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
        raise WeightsError(f"{path.name} does not exist; training writes it.") from None
    except tensor_file.UNREADABLE as error:
        raise WeightsError(f"{path.name} holds no distributions ({error}); train again.") from error
    if card.weights_sha256 != weights_sha256:
        raise WeightsError(
            f"{path.name} was made for the weights {card.weights_sha256[:12]} and these are {weights_sha256[:12]}."
        )
    return model


# ------------------------------------------------------------------------------------- what one reads from them


def parts(posteriors: NDArray[np.floating]) -> tuple[Array, Array, Array]:
    """Split distributions, (N, 12), into weights, centres and widths, (N, 4) each, float64."""
    weight, centre, width = np.split(posteriors.astype(np.float64), 3, axis=1)
    return weight, centre, width


def cumulative(posteriors: NDArray[np.floating], z: Array) -> Array:
    """Probability that the redshift is below z, for each galaxy: (N, 12) and (N,) or (N, K) to the shape of z.

    At the true redshifts of many galaxies these are the probability integral transform, PIT: evenly spread from 0 to 1.
    """
    weight, centre, width = parts(posteriors)
    asked = z[:, None] if z.ndim == 1 else z
    below = (weight[:, None] * _normal_share((asked[:, :, None] - centre[:, None]) / width[:, None])).sum(axis=2)
    lost = (weight * _normal_share(-centre / width)).sum(axis=1, keepdims=True)
    share: Array = np.clip((below - lost) / (1 - lost), 0, 1)
    return np.asarray(share[:, 0]) if z.ndim == 1 else share


def density(posteriors: NDArray[np.floating], z: Array) -> Array:
    """Probability per unit of redshift at z, for each galaxy: (N, 12) and (N, K) to (N, K)."""
    weight, centre, width = (part[:, None] for part in parts(posteriors))
    offset = (z[:, :, None] - centre) / width
    value: Array = (weight * np.exp(-0.5 * offset**2) / (width * np.sqrt(2 * np.pi))).sum(axis=2)
    lost = (weight * _normal_share(-centre / width)).sum(axis=2)
    return np.asarray(np.where(z >= 0, value / (1 - lost), 0.0))


def _normal_share(offset: Array) -> Array:
    """Share of a normal distribution below an offset in its widths, to 1e-7.

    References
    ----------
    Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 7.1.26.
    """
    x = np.abs(offset) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * x)
    terms = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * terms * np.exp(-(x**2))
    return np.asarray(np.where(offset < 0, tail, 1 - tail))


def quantile(posteriors: NDArray[np.floating], share: float) -> Array:
    """Redshift below which that share of the probability is, (N,): .5 is the median."""
    _, centre, width = parts(posteriors)
    low = np.maximum((centre - 8 * width).min(axis=1), 0)
    high = (centre + 8 * width).max(axis=1)
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        is_below = cumulative(posteriors, middle) < share
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    found: Array = (low + high) / 2
    return found


def radius(posteriors: NDArray[np.floating], z: Array, share: float) -> Array:
    """Half-width of the interval around z that holds that share of the probability, (N,): .68 gives sigma."""
    _, centre, width = parts(posteriors)
    low, high = np.zeros(len(z)), (np.abs(centre - z[:, None]) + 8 * width).max(axis=1)
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        inside = cumulative(posteriors, z + middle) - cumulative(posteriors, np.maximum(z - middle, 0))
        low, high = np.where(inside < share, middle, low), np.where(inside < share, high, middle)
    found: Array = (low + high) / 2
    return found


def crps(posteriors: NDArray[np.floating], z_spec: Array, *, num_nodes: int = 400) -> Array:
    """Continuous ranked probability score of each galaxy, (N,): the mean error of a forecast in z; small is good.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359.
    """
    _, centre, width = parts(posteriors)
    low = np.minimum(np.maximum((centre - 6 * width).min(axis=1), 0), z_spec)
    high = np.maximum((centre + 6 * width).max(axis=1), z_spec)
    nodes = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, num_nodes)
    difference = cumulative(posteriors, nodes) - (nodes >= z_spec[:, None])
    score: Array = np.trapezoid(difference**2, nodes, axis=1)
    return score
