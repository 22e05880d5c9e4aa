"""Small networks: our own for tests of its training; other people's as ONNX, and shards that they read."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from inference.checksum import file_sha256
from inference.contract import DatasetCard, ShardEntry, encode
from inference.model import astromae
from scripts.models.training import network, regress, zero_points

NUM_BINS, Z_MAX = 180, 0.4

PASQUET_CARD = f"""
[inputs]
bands = ["u", "g", "r", "i", "z"]
side_px = 64
pixel_scale_arcsec = 0.396
columns = ["ebv"]

[output]
kind = "binned"
edges = {{start = 0.0, stop = {Z_MAX}, num_bins = {NUM_BINS}}}

[knowledge]
description = "A small convolutional network in the style of Pasquet et al. 2019, weights from chance."
not_for = ["Anything: it has learned nothing."]
"""

GRZ_CARD = """
[inputs]
bands = ["g", "r", "z"]
side_px = 32
pixel_unit = "nJy"
stretch = "asinh"
softening = [100.0]
magnitudes = {which = "model", dereddened = true}
"""


def build_small(patch: pytest.MonkeyPatch) -> None:
    """Let `AstroMAE` have the parts it has, two blocks deep and narrow: far fewer weights to train and keep."""
    patch.setattr(astromae, "DEPTH", 2)
    patch.setattr(astromae, "MAGNITUDE_FEATURES", 64)
    for module in (astromae, network, regress, zero_points):
        patch.setattr(module, "IMAGE_FEATURES", 64)


class Pasquet(nn.Module):
    """Convolutions of 64 by 64 pixels in five bands, and E(B-V), to the probability of 180 bins."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.Sequential(
            nn.Conv2d(5, 8, 5, stride=2, padding=2),
            nn.PReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
        )
        self.dense = nn.Linear(9, NUM_BINS)

    def forward(self, images: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        stretched = torch.log(images + torch.sqrt(images**2 + 1))
        pooled = self.convolutions(stretched).mean(dim=(2, 3))
        return torch.softmax(self.dense(torch.cat([pooled, columns], dim=1)), dim=1)


class Grz(nn.Module):
    """A few pixels and three magnitudes to one redshift."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution = nn.Conv2d(3, 4, 5, stride=4)
        self.dense = nn.Linear(7, 1)

    def forward(self, images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
        pooled = self.convolution(images).mean(dim=(2, 3))
        return torch.sigmoid(self.dense(torch.cat([pooled, magnitudes / 20], dim=1)))


def export(network: nn.Module, inputs: dict[str, tuple[int, ...]], path: Path, *, fixed: bool = False) -> Path:
    """Write a network as ONNX, for any number of galaxies unless that is fixed."""
    example = tuple(torch.zeros(2, *shape) for shape in inputs.values())
    axes = {} if fixed else {name: {0: "galaxies"} for name in (*inputs, "out")}
    with warnings.catch_warnings():
        # The older exporter: ten times as fast, and as deprecated as much of what people have.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=["out"],
            dynamic_axes=axes,
            dynamo=False,
        )
    return path


def write_dataset(folder: Path, bands: str, side: int, *, num_rows: int = 40, num_shards: int = 2) -> Path:
    """Write shards of galaxies in these bands, with E(B-V), and their card."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for number in range(num_shards):
        path = folder / f"{number}.safetensors"
        arrays = {
            "images": rng.normal(1, 1, (num_rows, len(bands), side, side)).astype(np.float32),
            "magnitudes": rng.uniform(15, 19, (num_rows, 1)) - np.linspace(0, 1.5, len(bands)),
            "redshifts": rng.uniform(0.01, 0.4, num_rows),
            "object_id": np.arange(1 + number * num_rows, 1 + (number + 1) * num_rows),
            "ebv": rng.uniform(0, 0.1, num_rows),
        }
        save_file(arrays, path)
        entries.append(
            ShardEntry(name=path.name, num_rows=num_rows, size_bytes=path.stat().st_size, sha256=file_sha256(path))
        )
    card = DatasetCard(
        name=folder.parent.name,
        partition=folder.name,
        num_rows=num_rows * num_shards,
        shards=tuple(entries),
        arrays=dict.fromkeys(arrays, "in words"),
        bands=tuple(bands),
        seed=0,
        provenance="chance",
    )
    (folder / "dataset.json").write_bytes(encode(card))
    return folder
