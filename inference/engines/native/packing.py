"""The weights of AstroMAE as the native engine reads them: folded, and cut into panels of 16 outputs.

The names and their order are those of `struct Weights` in `source/network.h`; `inference.engines.folded` says what was
folded into what. Needs torch, which the engine itself does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from inference.engines.exported import Rounding
from inference.engines.folded import (
    Affine,
    Conv,
    Dense,
    FoldedAstroMAE,
    FoldedBlock,
    FoldedInceptionBlock,
    fold_batch_norm,
    weights_of,
)
from inference.engines.native.pack import LANES, Array, PackCard, write_pack
from inference.errors import WeightsError
from inference.model.astromae import CONV_GROUPS, DEPTH, IMAGE_FEATURES, MAGNITUDE_FEATURES, AstroMAE, Block, Variant
from inference.model.weights import load_astromae

LARGEST_WEIGHT = 63
"""7 bits; see `source/product.h`."""

LAST_INPUT = 255


def make_pack(checkpoint: Path, sha256: str, target: Path, rounding: Rounding | None = None) -> None:
    """Write the packed weights of a checkpoint.

    Parameters
    ----------
    checkpoint : Path
        Weights as safetensors.
    sha256 : str
        Its checksum.
    target : Path
        File to write; it appears whole.
    rounding : Rounding, optional
        Pack the transformer's dense layers in 8 bits, and nothing else: the others are read in the pack of fp32.

    Raises
    ------
    WeightsError
        If the weights do not fit the network, or are of a published variant.
    """
    model = load_astromae(checkpoint)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = PackCard(weights_sha256=sha256, num_parameters=num_parameters, precision="int8" if rounding else "fp32")
    write_pack(target, card, dict(rounded_arrays(model, rounding) if rounding else packed_arrays(model)))


def packed_arrays(model: AstroMAE) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a network by name, whole vectors of 16 numbers each.

    Raises
    ------
    WeightsError
        If it is a published variant.
    """
    if model.variant != Variant():
        raise WeightsError("Published weights are computed layer by layer: only torch can, as engine=torch does.")
    folded = FoldedAstroMAE(model)
    yield "inverse_softening", _whole(folded.inverse_softening)
    yield "magnitude_center", _whole(folded.magnitude_center)
    yield from _encoder(folded, model)
    yield from _inception(folded)
    yield from _branch("encoder_projection", _layers(folded.encoder_projection))
    first, second = _layers(folded.inception_projection)
    # The engine's images have their channels last: (outputs, 12, 16 pixels) to (outputs, 16, 12).
    turned = first.weight.view(-1, 12, 16).transpose(1, 2).flatten(1)
    yield from _branch("inception_projection", [Affine(turned, first.bias), second])
    yield from _branch("magnitude_branch", _layers(folded.magnitude_branch))
    joined, last = _layers(folded.final)
    # Every branch gives whole panels: 1,096 features and 8 zeros, twice.
    widths = [IMAGE_FEATURES, IMAGE_FEATURES, MAGNITUDE_FEATURES]
    yield (
        "final.0.weight",
        _panels(torch.cat([_padded(part, 1) for part in torch.split(joined.weight, widths, dim=1)], dim=1)),
    )
    yield "final.0.bias", _whole(joined.bias)
    yield "final.1.weight", _whole(last.weight)
    yield "final.1.bias", _whole(last.bias)


def _encoder(folded: FoldedAstroMAE, model: AstroMAE) -> Iterator[tuple[str, Array]]:
    encoder = folded.encoder
    yield from _dense("patch_embed", [encoder.patch_embed])
    yield "position", _whole(encoder.position)
    yield "class_token", _whole(encoder.cls_token)
    layers = transformer_layers(folded)
    yield from _dense("qkv", layers["qkv"])
    yield from _dense("projection", layers["projection"])
    branches = [cast("Block", block).convolution for block in model.encoder.blocks]
    expand = [fold_batch_norm(branch.expand, branch.norm) for branch in branches]
    reduce = [weights_of(branch.reduce) for branch in branches]
    yield "group_expand.weight", _whole(torch.stack([layer.weight for layer in expand]))  # (12, 768, 4)
    yield "group_expand.bias", _whole(torch.stack([layer.bias for layer in expand]))
    # (12, 48 groups, 4 outputs, 16 inputs) to (12, 48, 16, 4): the engine reads them by input.
    turned = torch.stack([layer.weight.view(CONV_GROUPS, 4, 16).transpose(1, 2) for layer in reduce])
    yield "group_reduce.weight", _whole(turned)
    yield "group_reduce.bias", _whole(torch.stack([layer.bias for layer in reduce]))
    yield from _dense("expand", layers["expand"])
    yield from _dense("reduce", layers["reduce"])
    yield from _dense("pooled_reduce", [encoder.last.reduce])


def transformer_layers(folded: FoldedAstroMAE) -> dict[str, list[Affine]]:
    """Return the dense layers of the blocks by name, in the order of the ranges; the last block's reduce is pooled."""
    *others, _ = blocks = [cast("FoldedBlock", one) for one in (*folded.encoder.blocks, folded.encoder.last)]
    parts = [(block.attention.query, block.attention.key, block.attention.value) for block in blocks]
    layers: dict[str, Sequence[Dense | Affine]] = {
        "qkv": [_merged(part) for part in parts],
        "projection": [block.attention.projection for block in blocks],
        "expand": [block.expand for block in blocks],
        "reduce": [block.reduce for block in others],
    }
    return {name: [Affine(layer.weight, layer.bias) for layer in found] for name, found in layers.items()}


def rounded_arrays(model: AstroMAE, rounding: Rounding) -> dict[str, Array]:
    """Return the transformer's dense layers in 8 bits: codes and biases, then scales and ranges; and the last bias."""
    folded = FoldedAstroMAE(model)
    arrays: dict[str, Array] = {}
    found = np.zeros((DEPTH, LANES), dtype=np.float32)
    scales = {}
    for place, (name, layers) in enumerate(transformer_layers(folded).items()):
        parts = []
        for block, (layer, (low, high)) in enumerate(zip(layers, rounding.ranges[name], strict=True)):
            step = (high - low) / LAST_INPUT
            zero = round(-low / step)
            found[block, place], found[block, 4 + place] = 1 / step, zero
            parts.append(_codes(layer, step, zero))
        weights, biases, scales[f"{name}.scale"] = (np.stack(part) for part in zip(*parts, strict=True))
        arrays |= {f"{name}.weight": weights, f"{name}.bias": biases}
    last = _layers(folded.final)[-1]
    return {**arrays, "final.1.bias": _whole(last.bias - rounding.shift), **scales, "ranges": found}


def _codes(layer: Affine, step: float, zero: int) -> tuple[Array, Array, Array]:
    """Return codes (outputs / 16, inputs / 4, 16, 4), and bias and scale of the outputs."""
    weight = layer.weight.double().numpy()
    size = np.abs(weight).max(axis=1) / LARGEST_WEIGHT
    codes = np.rint(weight / size[:, None])
    scale = size * step
    # An input of zero has the code `zero`: what it adds is known before.
    bias = layer.bias.double().numpy() - zero * codes.sum(axis=1) * scale
    outputs, inputs = codes.shape
    packed = codes.reshape(outputs // LANES, LANES, inputs // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(packed, dtype=np.int8), bias.astype(np.float32), scale.astype(np.float32)


def _inception(folded: FoldedAstroMAE) -> Iterator[tuple[str, Array]]:
    first = folded.inception.first
    yield "first.weight", _whole(first.weight.flatten(1).T)  # (5, 32)
    yield "first.bias", _whole(first.bias)
    blocks = [cast("FoldedInceptionBlock", block) for block in folded.inception.blocks]
    for index, block in enumerate(blocks):
        yield from _dense(f"shared.{index}", [block.shared])
    for size, branch in ((3, 0), (5, 1)):
        convolutions = [cast("Conv", block.wide[branch]) for block in blocks if branch < len(block.wide)]
        for index, layer in enumerate(convolutions):
            # (outputs, inputs, height, width) to (height, width, inputs, outputs)
            yield f"wide_{size}x{size}.{index}.weight", _whole(layer.weight.permute(2, 3, 1, 0))
        for index, layer in enumerate(convolutions):
            yield f"wide_{size}x{size}.{index}.bias", _whole(layer.bias)


def _layers(branch: nn.Sequential) -> list[Affine]:
    return [Affine(layer.weight, layer.bias) for layer in cast("Iterable[Dense]", branch)]


def _branch(name: str, layers: Iterable[Affine]) -> Iterator[tuple[str, Array]]:
    for index, layer in enumerate(layers):
        yield from _dense(f"{name}.{index}", [layer])


def _merged(layers: Sequence[Dense]) -> Affine:
    return Affine(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def _dense(name: str, layers: Sequence[Dense | Affine | Conv]) -> Iterator[tuple[str, Array]]:
    """Yield weights and biases of equal layers, one behind the other."""
    yield f"{name}.weight", np.stack([_panels(layer.weight.flatten(1)) for layer in layers])
    yield f"{name}.bias", np.stack([_whole(layer.bias) for layer in layers])


def _panels(weight: Tensor) -> Array:
    """Cut (outputs, inputs) into panels of 16 outputs, (outputs / 16, inputs, 16), zeros to whole vectors."""
    whole = _padded(_padded(weight, 0), 1)
    return _array(whole.view(-1, LANES, whole.shape[1]).transpose(1, 2))


def _padded(tensor: Tensor, axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = -shape[axis] % LANES
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)


def _whole(tensor: Tensor) -> Array:
    return _array(_padded(tensor.flatten(), 0))


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
