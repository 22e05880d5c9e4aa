"""A network of magnitudes alone: for a table without images it is faster and better than one that is given drawings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from inference.errors import WeightsError
from inference.model.astromae import BANDS
from scripts.models.training.schedule import warm_cosine

WIDTH = 256
DEPTH = 3
MAX_AXIS = 6.0
"""Magnitudes further out along a principal axis, in standard deviations, count as this far."""
SMALLEST_VARIANCE = 1e-5
"""Of an axis [mag²]: what is narrower is noise."""
EVALUATION_ROWS = 8_192


@dataclass(frozen=True)
class Pace:
    """How one network is trained."""

    num_steps: int = 4_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    ema_decay: float = 0.998
    loss_unit: float = 0.02
    """dz that counts as one in the loss."""
    loss_beta: float = 1.0
    """Where the loss turns from square to absolute, in those units."""


class MagnitudesNetwork(nn.Module):
    """The mean redshift of several small networks, each of which was trained on other galaxies.

    The networks see magnitudes along their principal axes, where the narrow ones, the colours, count as much as
    brightness (`whitening.py`).

    Parameters
    ----------
    num_networks : int
        Networks to average.
    """

    center: Tensor
    axes: Tensor
    redshift_center: Tensor
    redshift_scale: Tensor

    def __init__(self, num_networks: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(len(BANDS)))  # [mag]
        self.register_buffer("axes", torch.eye(len(BANDS)))
        self.register_buffer("redshift_center", torch.zeros(()))
        self.register_buffer("redshift_scale", torch.ones(()))
        self.networks = nn.ModuleList(_network() for _ in range(num_networks))

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Predict one redshift per galaxy: dereddened magnitudes (N, 5) [mag] to (N,)."""
        inputs = self.whiten(magnitudes)
        outputs = torch.stack([network(inputs).squeeze(1) for network in self.networks])  # (M, N)
        redshift: Tensor = outputs.mean(dim=0) * self.redshift_scale + self.redshift_center
        return redshift

    def whiten(self, magnitudes: Tensor) -> Tensor:
        """Turn magnitudes into numbers without correlation and of unit variance: (N, 5) to the same shape."""
        return ((magnitudes - self.center) @ self.axes).clamp(-MAX_AXIS, MAX_AXIS)

    def predict_one(self, index: int, magnitudes: Tensor) -> Tensor:
        """Predict with one of the networks alone, (N,)."""
        redshift: Tensor = self.networks[index](self.whiten(magnitudes)).squeeze(1)
        return redshift * self.redshift_scale + self.redshift_center


def _network() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(len(BANDS), WIDTH), nn.ReLU()]
    for _ in range(DEPTH - 1):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1))


@torch.no_grad()
def set_axes(network: MagnitudesNetwork, magnitudes: Tensor, redshifts: Tensor) -> None:
    """Measure the principal axes of the magnitudes and the spread of the redshifts on training galaxies."""
    network.center.copy_(magnitudes.mean(dim=0))
    variance, axes = torch.linalg.eigh(torch.cov(magnitudes.T.double()))
    network.axes.copy_(axes / variance.clamp_min(SMALLEST_VARIANCE).sqrt())
    network.redshift_center.copy_(redshifts.mean())
    network.redshift_scale.copy_(redshifts.std())


def train_network(
    network: MagnitudesNetwork,
    index: int,
    magnitudes: Tensor,
    redshifts: Tensor,
    groups: Sequence[Tensor],
    shares: Sequence[float],
    pace: Pace,
    *,
    seed: int,
    tick: Callable[[float], None] = lambda _: None,
) -> None:
    """Train one of the networks in place; it ends with the moving average of its weights.

    Parameters
    ----------
    network : MagnitudesNetwork
    index : int
        Which of its networks.
    magnitudes, redshifts : tensor, shape (N, 5) and (N,), float32
        Labelled galaxies.
    groups : sequence of tensor
        Rows of each group of galaxies that teach.
    shares : sequence of float
        Share of each group in a batch.
    pace : Pace
    seed : int
        Decides start values and batches.
    tick : callable
        Called with the loss after every step.
    """
    generator = torch.Generator().manual_seed(seed)
    one = network.networks[index]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        one.load_state_dict(_network().state_dict())
    parameters = list(one.parameters())
    average: list[Tensor] = [parameter.detach().clone() for parameter in parameters]
    current: list[Tensor] = [*parameters]
    optimizer = torch.optim.AdamW(parameters, lr=pace.learning_rate, weight_decay=pace.weight_decay, fused=True)
    schedule = warm_cosine(optimizer, 100, pace.num_steps)
    counts = [round(pace.batch_size * share / sum(shares)) for share in shares]
    inputs = network.whiten(magnitudes)
    for step in range(pace.num_steps):
        rows = torch.cat(
            [
                group[torch.randint(0, len(group), (count,), generator=generator)]
                for group, count in zip(groups, counts, strict=True)
            ]
        )
        predicted = one(inputs[rows]).squeeze(1) * network.redshift_scale + network.redshift_center
        dz = (predicted - redshifts[rows]) / (1 + redshifts[rows]) / pace.loss_unit
        loss = functional.smooth_l1_loss(dz, torch.zeros_like(dz), beta=pace.loss_beta)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, current, 1 - min(pace.ema_decay, (step + 1) / (step + 10)))
        tick(loss.item())
    with torch.no_grad():
        for parameter, kept in zip(parameters, average, strict=True):
            parameter.copy_(kept)


@torch.inference_mode()
def predict_magnitudes(predict: Callable[[Tensor], Tensor], magnitudes: Tensor) -> Tensor:
    """Predict any number of galaxies with a function of magnitudes: (N, 5) to (N,)."""
    return torch.cat([predict(part) for part in torch.split(magnitudes, EVALUATION_ROWS)])


def read_network(graph: Path) -> MagnitudesNetwork:
    """Read back the network whose graph `magnitudes_graph` wrote.

    Raises
    ------
    WeightsError
        If the file is another network.
    """
    found = {one.name: numpy_helper.to_array(one) for one in onnx.load(graph).graph.initializer}
    num_networks = len({name.split(".")[1] for name in found if name.startswith("networks.")})
    network = MagnitudesNetwork(num_networks)
    wanted = network.state_dict()
    if not num_networks or any(name not in found or found[name].shape != one.shape for name, one in wanted.items()):
        raise WeightsError(f"{graph} is not a network of magnitudes that this version knows.")
    network.load_state_dict({name: torch.from_numpy(found[name].copy()) for name in wanted})
    return network.eval().requires_grad_(False)
