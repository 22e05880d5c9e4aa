"""The weights of AstroMAE as the native engine reads them: folded, and cut into panels of 16 outputs.

The names and their order are those of `struct Weights` in `source/network.h`; `inference.engines.folded` says what was
folded into what. Needs torch, which the engine itself does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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
from inference.engines.native.pack import LANES, PackCard, write_pack
from inference.errors import WeightsError
from inference.model.astromae import CONV_GROUPS, IMAGE_FEATURES, MAGNITUDE_FEATURES, AstroMAE, Block, Variant
from inference.model.weights import load_astromae

Array = NDArray[np.float32]


def make_pack(checkpoint: Path, sha256: str, target: Path) -> None:
    """Write the packed weights of a checkpoint.

    Parameters
    ----------
    checkpoint : Path
        Weights as safetensors.
    sha256 : str
        Its checksum.
    target : Path
        File to write; it appears whole.

    Raises
    ------
    WeightsError
        If the weights do not fit the network, or are of a published variant.
    """
    model = load_astromae(checkpoint)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    write_pack(target, PackCard(weights_sha256=sha256, num_parameters=num_parameters), dict(packed_arrays(model)))


def packed_arrays(model: AstroMAE) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a network by name, float32, whole vectors of 16 numbers each.

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
    blocks = [cast("FoldedBlock", block) for block in (*encoder.blocks, encoder.last)]
    attentions = [block.attention for block in blocks]
    merged = [_merged([each.query, each.key, each.value]) for each in attentions]
    yield from _dense("qkv", merged)
    yield from _dense("projection", [each.projection for each in attentions])
    branches = [cast("Block", block).convolution for block in model.encoder.blocks]
    expand = [fold_batch_norm(branch.expand, branch.norm) for branch in branches]
    reduce = [weights_of(branch.reduce) for branch in branches]
    yield "group_expand.weight", _whole(torch.stack([layer.weight for layer in expand]))  # (12, 768, 4)
    yield "group_expand.bias", _whole(torch.stack([layer.bias for layer in expand]))
    # (12, 48 groups, 4 outputs, 16 inputs) to (12, 48, 16, 4): the engine reads them by input.
    turned = torch.stack([layer.weight.view(CONV_GROUPS, 4, 16).transpose(1, 2) for layer in reduce])
    yield "group_reduce.weight", _whole(turned)
    yield "group_reduce.bias", _whole(torch.stack([layer.bias for layer in reduce]))
    yield from _dense("expand", [block.expand for block in blocks])
    yield from _dense("reduce", [block.reduce for block in blocks])


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
