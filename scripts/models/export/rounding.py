"""How the native engine rounds to 8 bits, and the galaxies that decide it and judge it.

Ranges, and the shift of the mean, come from real galaxies of the training side: those that judge take no part in it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.engines.exported import Accuracy, Rounding
from inference.engines.folded import FoldedAstroMAE, FoldedBlock
from inference.engines.native.engine import NativeEngine
from inference.engines.native.pack import pack_path
from inference.engines.native.packing import make_pack
from inference.model.astromae import AstroMAE
from inference.predict import MICRO_BATCH, Engine, predict_values
from scripts.models.export.judge import Arrays
from scripts.simulation.cutouts import real_images, synthetic_rows
from scripts.simulation.population import Population
from scripts.simulation.sdss import load_sources

NUM_SIMULATED = 20_000
BLOCK = 1_000
SEED = 2_999
"""No training row and no test row of a model card has these chances."""

Ranges = dict[str, tuple[tuple[float, float], ...]]


def measure_rounding(model: AstroMAE, checkpoint: Path, sha256: str, full: Engine) -> Rounding:
    """Measure ranges and shift of some weights, and pack them in 8 bits.

    Parameters
    ----------
    model : AstroMAE
        With the weights of `checkpoint`.
    checkpoint : Path
        The pack appears in its folder.
    sha256 : str
        Its checksum.
    full : Engine
        The native engine in fp32.
    """
    sources = load_sources().of("selection")
    images, magnitudes = real_images(sources.photometry, SEED), sources.photometry.magnitudes
    rounding = Rounding(
        num_rows=len(images),
        ranges=measure_ranges(model, images, magnitudes.astype(np.float32)),
        shift=0.0,
        accuracy=Accuracy(engine="native", nmad=np.nan, bias=np.nan, outlier_005=np.nan, rejected="it was not judged"),
    )
    target = pack_path(checkpoint, sha256, "int8")
    make_pack(checkpoint, sha256, target, rounding)
    rounded = NativeEngine(checkpoint, sha256, num_threads=1, precision="int8")
    shifts = predict_values(rounded, images, magnitudes) - predict_values(full, images, magnitudes)
    rounding = msgspec.structs.replace(rounding, shift=float(shifts.mean(dtype=np.float64)))
    make_pack(checkpoint, sha256, target, rounding)
    return rounding


def simulated_blocks() -> Iterator[Arrays]:
    """Yield `NUM_SIMULATED` galaxies made from sources that training never saw, in blocks."""
    population = Population(load_sources().of("held_out"))
    for start in range(0, NUM_SIMULATED, BLOCK):
        block = synthetic_rows(population, np.arange(start + 1, start + BLOCK + 1), SEED)
        yield {"images": block.images, "magnitudes": block.magnitudes, "redshifts": block.redshifts}


@torch.inference_mode()
def measure_ranges(model: AstroMAE, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Ranges:
    """Return the smallest and largest number that enters each dense layer of each block.

    Parameters
    ----------
    model : AstroMAE
    images : array, shape (N, 5, 32, 32), float32
        Cutouts [nanomaggy / pixel].
    magnitudes : array, shape (N, 5), float32
        Of the same galaxies [mag].
    """
    folded = FoldedAstroMAE(model)
    *others, _ = blocks = [cast("FoldedBlock", one) for one in (*folded.encoder.blocks, folded.encoder.last)]
    watched: dict[str, list[nn.Module]] = {
        "qkv": [block.attention.key for block in blocks],
        "projection": [block.attention.projection for block in blocks],
        "expand": [block.expand for block in blocks],
        "reduce": [block.reduce for block in others],  # the last one's input is an average, and stays in fp32
    }
    found = {(name, place): [np.inf, -np.inf] for name, layers in watched.items() for place in range(len(layers))}
    for name, layers in watched.items():
        for place, layer in enumerate(layers):
            layer.register_forward_pre_hook(_widen(found[name, place]))
    for start in range(0, len(images), MICRO_BATCH):
        part = slice(start, start + MICRO_BATCH)
        folded(torch.from_numpy(images[part]), torch.from_numpy(magnitudes[part]))
    return {
        name: tuple((found[name, place][0], found[name, place][1]) for place in range(len(layers)))
        for name, layers in watched.items()
    }


def _widen(limits: list[float]) -> Callable[[nn.Module, Any], None]:
    def look(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        limits[0] = min(limits[0], float(inputs[0].min()))
        limits[1] = max(limits[1], float(inputs[0].max()))

    return look
