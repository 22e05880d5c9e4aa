"""AstroMAE rearranged for prediction: the same function of the same inputs with fewer and better shaped products.

Every step is exact algebra (a unit test each); sums are only added in another order, which moves redshifts by about
1e-6. Weights are combined in float64 and stored in float32.

1. Pixel and redshift scalings and batch norms go into the neighbouring weights (magnitudes stay centred before their
   first layer: folding that would subtract large numbers).
2. A layer norm's scale and shift go into the layer behind it; 1/sqrt(32) of the attention goes into the queries.
3. The parallel 1x1 convolutions of an inception block are one convolution.
4. The grouped 1x1 convolutions of a transformer block are batched matrix products over wider groups: a group is only
   4 by 16 numbers, and 16 lanes of a CPU multiply four groups with the zeros between them faster than one. The bias
   is one more row of weights for an input that is always 1: added behind, it would be read and written once more.
5. The last transformer block computes only what is averaged: no class token, and its last layer after the average.
6. Two linear layers with nothing between them (head and projection) are one.
7. Tokens are rows of one matrix, so that a product adds its bias itself. Queries, keys and values are three products:
   taken out of one they would have to be copied.
8. asinh is written with a logarithm, which CPUs compute 16 at a time.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.errors import WeightsError
from inference.model.astromae import (
    CONV_GROUPS,
    NUM_HEADS,
    PATCH_SIZE,
    WIDTH,
    AstroMAE,
    Attention,
    Block,
    ConvBranch,
    Encoder,
    Inception,
    InceptionBlock,
    Variant,
)

WIDE_GROUPS = 12
"""Groups of the batched product: 16 inputs and 64 outputs each, whole vector registers."""

HEAD_WIDTH = WIDTH // NUM_HEADS


class FoldedAstroMAE(nn.Module):
    """The network of a trained `AstroMAE`, for prediction only; inputs and output are those of `AstroMAE.forward`."""

    inverse_softening: Tensor
    magnitude_center: Tensor

    def __init__(self, model: AstroMAE) -> None:
        super().__init__()
        if model.variant != Variant():
            raise WeightsError("Published weights are computed layer by layer: only torch can, as engine=torch does.")
        self.register_buffer("inverse_softening", 1 / model.image_softening)
        self.register_buffer("magnitude_center", model.magnitude_center.clone())
        scaling = model.image_center, model.image_scale
        self.encoder = FoldedEncoder(model.encoder, *scaling)
        self.inception = FoldedInception(model.inception, *scaling)
        first, *rest = linear_layers(model.encoder_projection)
        first = after_norm(model.encoder.norm, compose(weights_of(model.encoder.head), first))
        # Every branch ends in a ReLU: the join applies one to all of them.
        self.encoder_projection = chain(first, *rest)
        self.inception_projection = chain(*linear_layers(model.inception_projection))
        first, *rest = linear_layers(model.magnitude_branch)
        self.magnitude_branch = chain(divide_inputs(first, model.magnitude_scale), *rest)
        first, last = linear_layers(model.final)
        last = scale_outputs(last, model.redshift_scale, model.redshift_center)
        self.final = nn.Sequential(Dense(first, "relu"), Dense(last))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, magnitudes: Tensor) -> Tensor:
        """Predict one redshift per galaxy: (N, 5, 32, 32) and (N, 5) to (N,)."""
        images = arcsinh(images * self.inverse_softening)  # (N, 5, 32, 32)
        features = [
            self.encoder_projection(self.encoder(images)),  # (N, 1096)
            self.inception_projection(self.inception(images)),  # (N, 1096)
            self.magnitude_branch(magnitudes - self.magnitude_center),  # (N, 1024)
        ]
        redshift: Tensor = self.final(torch.cat(features, dim=1)).flatten()  # (N,)
        return redshift


class Dense(nn.Module):
    """A linear layer over rows, with what follows it: an activation, or the sum with a residual."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: "Affine", activation: str = "none") -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.float())
        self.register_buffer("bias", layer.bias.float())
        self.activation = activation

    def forward(self, rows: Tensor, residual: Tensor | None = None) -> Tensor:
        """Transform (M, inputs) to (M, outputs)."""
        out = functional.linear(rows, self.weight, self.bias)
        if self.activation == "relu":
            out = functional.relu(out)
        elif self.activation == "gelu":
            out = functional.gelu(out)
        return out if residual is None else out + residual


class Conv(nn.Module):
    """A convolution of images, with a ReLU behind it unless it is linear."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: "Affine", *, stride: int = 1, has_relu: bool = True) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.float())
        self.register_buffer("bias", layer.bias.float())
        self.stride = stride
        self.padding = 0 if stride > 1 else layer.weight.shape[2] // 2
        self.has_relu = has_relu

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, inputs, S, S) to (N, outputs, S / stride, S / stride)."""
        out = functional.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)
        return functional.relu(out) if self.has_relu else out


class FoldedEncoder(nn.Module):
    """Vision transformer up to the normalised average of its patch tokens; scale and shift of that norm are folded."""

    cls_token: Tensor
    position: Tensor

    def __init__(self, encoder: Encoder, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        patch_embed = unscale_inputs(weights_of(encoder.patch_embed), center, scale)
        self.patch_embed = Conv(patch_embed, stride=PATCH_SIZE, has_relu=False)
        self.register_buffer("cls_token", encoder.cls_token + encoder.position[:, :1])
        self.register_buffer("position", encoder.position[:, 1:].clone())
        *blocks, last = cast("Iterable[Block]", encoder.blocks)
        self.blocks = nn.ModuleList(FoldedBlock(block) for block in blocks)
        self.last = LastBlock(last)
        self.eps = encoder.norm.eps

    def forward(self, images: Tensor) -> Tensor:
        """Summarise each stretched cutout: (N, 5, 32, 32) to (N, 192)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2) + self.position  # (N, 16, 192)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)  # (N, 17, 192)
        for block in self.blocks:
            tokens = block(tokens)
        return plain_norm(self.last(tokens), self.eps)


class FoldedBlock(nn.Module):
    """A transformer block, norms and batch norm folded."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attention = FoldedAttention(block.norm1, block.attention)
        self.convolution = WideGroups(block.convolution)
        expand, _, reduce = block.mlp
        self.expand = Dense(after_norm(block.norm2, weights_of(expand)), "gelu")
        self.reduce = Dense(weights_of(reduce))
        self.eps = block.norm2.eps

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens: (N, 17, 192) to the same shape."""
        n, t, _ = tokens.shape
        residual = tokens + functional.pad(self.convolution(tokens[:, 1:]), (0, 0, 1, 0))  # (N, 17, 192)
        rows = self.attention(t, tokens, residual)  # (N 17, 192)
        updated: Tensor = self.reduce(self.expand(plain_norm(rows, self.eps)), rows)  # (N 17, 192)
        return updated.view(n, t, WIDTH)


class LastBlock(FoldedBlock):
    """The last block and the average over patches that follows it."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform and average: (N, 17, 192) to (N, 192)."""
        n, t, _ = tokens.shape
        patches = tokens[:, 1:]  # (N, 16, 192)
        rows = self.attention(t - 1, tokens, patches + self.convolution(patches))  # (N 16, 192)
        hidden = self.expand(plain_norm(rows, self.eps))  # (N 16, 768)
        pooled: Tensor = self.reduce(hidden.view(n, t - 1, -1).mean(dim=1), rows.view(n, t - 1, WIDTH).mean(dim=1))
        return pooled


class FoldedAttention(nn.Module):
    """Self-attention behind a layer norm, with the scale of the scores in the queries."""

    def __init__(self, norm: nn.LayerNorm, attention: Attention) -> None:
        super().__init__()
        scale = torch.cat([torch.full((WIDTH,), HEAD_WIDTH**-0.5), torch.ones(2 * WIDTH)])
        bias = torch.cat([attention.query_bias, torch.zeros(WIDTH), attention.value_bias])
        qkv = after_norm(norm, Affine(attention.qkv.weight.double(), bias.double()))
        qkv = scale_outputs(qkv, scale, torch.zeros(()))
        parts = zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True)
        self.query, self.key, self.value = (Dense(Affine(weight, bias)) for weight, bias in parts)
        self.projection = Dense(weights_of(attention.projection))
        self.eps = norm.eps

    def forward(self, length: int, tokens: Tensor, residual: Tensor) -> Tensor:
        """Mix (N, 17, 192) `tokens` for the last `length` of each galaxy and add `residual`: rows (N length, 192)."""
        n, t, _ = tokens.shape
        normed = plain_norm(tokens, self.eps)
        asking = normed if length == t else normed[:, t - length :]
        q = self.query(asking.reshape(n * length, WIDTH)).view(n, length, NUM_HEADS, HEAD_WIDTH).transpose(1, 2)
        k, v = (layer(normed.view(n * t, WIDTH)).view(n, t, NUM_HEADS, HEAD_WIDTH) for layer in (self.key, self.value))
        scores = torch.matmul(q, k.permute(0, 2, 3, 1)).softmax(dim=3)  # (N, 6, length, 17)
        mixed = torch.matmul(scores, v.transpose(1, 2)).transpose(1, 2).reshape(n * length, WIDTH)
        projected: Tensor = self.projection(mixed, residual.reshape(n * length, WIDTH))
        return projected


class WideGroups(nn.Module):
    """The convolution branch of patch tokens as batched products: (N, 16, 192) to the same shape."""

    expand: Tensor
    reduce: Tensor
    reduce_bias: Tensor

    def __init__(self, branch: ConvBranch) -> None:
        super().__init__()
        expand, reduce = fold_batch_norm(branch.expand, branch.norm), weights_of(branch.reduce)
        bias = expand.bias.view(WIDE_GROUPS, 1, -1)
        self.register_buffer("expand", torch.cat([widen(expand.weight), bias], dim=1).float())  # (12, 17, 64)
        self.register_buffer("reduce", widen(reduce.weight).float())  # (12, 64, 16)
        self.register_buffer("reduce_bias", reduce.bias.float())

    def forward(self, patches: Tensor) -> Tensor:
        """Transform every patch by itself."""
        n, length, _ = patches.shape
        grouped = functional.pad(patches.reshape(n * length, WIDE_GROUPS, -1), (0, 1), value=1)  # (N L, 12, 17)
        hidden = functional.silu(torch.matmul(grouped.transpose(0, 1), self.expand))  # (12, N L, 64)
        reduced = torch.matmul(hidden, self.reduce)  # (12, N L, 16)
        return reduced.transpose(0, 1).reshape(n, length, WIDTH) + self.reduce_bias


class FoldedInception(nn.Module):
    """The inception network with scalings and batch norms folded."""

    def __init__(self, inception: Inception, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.first = Conv(unscale_inputs(weights_of(inception.first), center, scale))
        self.blocks = nn.ModuleList(FoldedInceptionBlock(cast("InceptionBlock", block)) for block in inception.blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Summarise each stretched cutout: (N, 5, 32, 32) to (N, 192)."""
        x: Tensor = functional.avg_pool2d(self.first(images), 2)  # (N, 32, 16, 16)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (1, 3):
                x = functional.avg_pool2d(x, 2)
        return x.flatten(1)


class FoldedInceptionBlock(nn.Module):
    """An inception block whose branches share their first convolution."""

    def __init__(self, block: InceptionBlock) -> None:
        super().__init__()
        wide = [block.branch_3x3, block.branch_5x5] if block.uses_5x5 else [block.branch_3x3]
        starts = [block.branch_1x1, *(branch[0] for branch in (*wide, block.branch_pool))]
        shared = merge([fold_sequence(start) for start in starts])
        self.shared = Conv(shared)
        self.wide = nn.ModuleList(Conv(fold_sequence(branch[1])) for branch in wide)
        self.width = len(shared.bias) // len(starts)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, channels, S, S) to (N, 4 * width, S, S), or 3 * width without the 5x5 branch."""
        plain, *inner, pooled = self.shared(x).split(self.width, dim=1)
        wide = [conv(part) for conv, part in zip(self.wide, inner, strict=True)]
        return torch.cat([plain, *wide, functional.avg_pool2d(pooled, 3, stride=1, padding=1)], dim=1)


# ------------------------------------------------------------------------------------------- the single steps


class Affine(NamedTuple):
    """Weights of a linear layer or a convolution while they are combined."""

    weight: Tensor
    """Shape (outputs, inputs) or (outputs, inputs, height, width), float64."""

    bias: Tensor
    """Shape (outputs,), float64."""


def weights_of(layer: nn.Module) -> Affine:
    """Return the weights of a linear layer or a convolution in float64."""
    assert isinstance(layer, nn.Linear | nn.Conv2d), "only these have weights and a bias"
    assert layer.bias is not None, "every layer folded here has a bias"
    return Affine(layer.weight.detach().double(), layer.bias.detach().double())


def arcsinh(x: Tensor) -> Tensor:
    """Return asinh(x) with an absolute error below 1e-6; the odd form keeps that for negative pixels."""
    size = x.abs()
    return torch.sign(x) * torch.log(size + torch.sqrt(size * size + 1))


def plain_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm over the last axis, without scale and shift."""
    return functional.layer_norm(x, x.shape[-1:], eps=eps)


def after_norm(norm: nn.LayerNorm, layer: Affine) -> Affine:
    """Return the layer that gives behind a plain norm what `layer` gives behind `norm`."""
    return Affine(layer.weight * norm.weight.double(), layer.weight @ norm.bias.double() + layer.bias)


def compose(first: Affine, second: Affine) -> Affine:
    """Return one layer for `first` followed by `second`."""
    return Affine(second.weight @ first.weight, second.weight @ first.bias + second.bias)


def divide_inputs(layer: Affine, scale: Tensor) -> Affine:
    """Return the layer that does to x what `layer` does to x / scale."""
    return Affine(layer.weight / scale.double(), layer.bias)


def scale_outputs(layer: Affine, scale: Tensor, shift: Tensor) -> Affine:
    """Return the layer whose output is ``layer(x) * scale + shift``; `scale` and `shift` per output or one for all."""
    scale = scale.double().expand(layer.bias.shape)
    return Affine(layer.weight * scale[:, None], layer.bias * scale + shift.double())


def unscale_inputs(conv: Affine, center: Tensor, scale: Tensor) -> Affine:
    """Return the convolution that does to x what `conv` does to ``(x - center) / scale``, both per input channel.

    Only for convolutions that pad nothing: their zeros would be shifted too.
    """
    weight = conv.weight / scale.double().view(-1, 1, 1)
    return Affine(weight, conv.bias - (weight * center.double().view(-1, 1, 1)).sum(dim=(1, 2, 3)))


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Affine:
    """Return one convolution for `conv` followed by `norm` in evaluation mode."""
    assert norm.running_mean is not None, "a trained norm has statistics"
    assert norm.running_var is not None, "a trained norm has statistics"
    weight, bias = weights_of(conv)
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return Affine(weight * scale[:, None, None, None], (bias - norm.running_mean.double()) * scale + norm.bias.double())


def fold_sequence(layers: nn.Module) -> Affine:
    """Return one convolution for what `inference.model.astromae.convolution` builds, without its ReLU."""
    conv, norm, _ = cast("nn.Sequential", layers)
    return fold_batch_norm(cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm))


def merge(convs: list[Affine]) -> Affine:
    """Return one convolution that gives the outputs of several on the same input, one after the other."""
    return Affine(torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs]))


def widen(weight: Tensor) -> Tensor:
    """Write the weights of a grouped 1x1 convolution as one matrix (inputs, outputs) per wide group."""
    narrow = weight.view(WIDE_GROUPS, CONV_GROUPS // WIDE_GROUPS, -1, weight.shape[1]).transpose(2, 3)
    _, num_narrow, inputs, outputs = narrow.shape
    wide = narrow.new_zeros(WIDE_GROUPS, num_narrow, inputs, num_narrow, outputs)
    diagonal = torch.arange(num_narrow)
    wide[:, diagonal, :, diagonal] = narrow.transpose(0, 1)
    return wide.view(WIDE_GROUPS, num_narrow * inputs, num_narrow * outputs)


def linear_layers(branch: nn.Sequential) -> list[Affine]:
    """Return the linear layers of a branch built by `inference.model.astromae.dense`."""
    return [weights_of(layer) for layer in branch if isinstance(layer, nn.Linear)]


def chain(*layers: Affine) -> nn.Sequential:
    """Join linear layers, each followed by a ReLU."""
    return nn.Sequential(*(Dense(layer, "relu") for layer in layers))
