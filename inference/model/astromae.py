"""AstroMAE: one redshift from a five-band cutout and five magnitudes.

Three branches read one galaxy; a small network joins them::

    images (N, 5, 32, 32) ──▶ vision transformer ──▶ 1096 ─┐
                          └─▶ inception network ───▶ 1096 ─┼─▶ 3216 ─▶ 1024 ─▶ redshift
    magnitudes (N, 5) ───────▶ five dense layers ──▶ 1024 ─┘

15,902,889 parameters. The vision transformer is pretrained as a masked autoencoder and then frozen
(`scripts/train.py`).

References
----------
Fathkouhi & Fox 2024, arXiv:2409.01825 (AstroMAE); He et al. 2022, arXiv:2111.06377 (masked autoencoders);
Pasquet et al. 2019, A&A 621, A26 (inception network for SDSS cutouts); Staylor et al. 2025, arXiv:2501.06249.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

BANDS = ("u", "g", "r", "i", "z")
"""Order of the bands in every array of this project."""

IMAGE_SIZE = 32
"""Side of a cutout [pixel]."""

PATCH_SIZE = 8
WIDTH = 192
DEPTH = 12
NUM_HEADS = 6
MLP_WIDTH = 768
CONV_GROUPS = 48
INCEPTION_WIDTHS = (16, 16, 8, 8, 4)
INCEPTION_FEATURES = 192
IMAGE_FEATURES = 1096
MAGNITUDE_FEATURES = 1024

NUM_PARAMETERS = 15_902_889
"""Size of the published network; a unit test counts every part."""


@dataclass(frozen=True)
class Variant:
    """What the names and shapes of the tensors leave open. Published weights need other values than ours."""

    num_heads: int = NUM_HEADS
    """Heads of the attention."""

    norm_epsilon: float = 1e-6
    """Added to the variance in the layer norms of the blocks."""

    has_joint_relus: bool = True
    """A ReLU follows the first convolution of the inception network, and each of the three branches."""

    pools_first: bool = False
    """The pooled branch of an inception block takes the largest of 3x3 pixels before its convolution, not their mean
    after it."""


class AstroMAE(nn.Module):
    """Photometric redshift network of Fathkouhi & Fox, with physical units at both ends.

    The scalings of pixels, magnitudes and redshift are buffers (not parameters): whatever is saved or exported
    holds them, so callers pass physical units. Magnitudes are centred before the first layer and not inside its
    weights, because weights that hold the centring lose 2e-3 in redshift when stored in half precision.
    """

    image_softening: Tensor
    image_center: Tensor
    image_scale: Tensor
    magnitude_center: Tensor
    magnitude_scale: Tensor
    redshift_center: Tensor
    redshift_scale: Tensor

    def __init__(self, variant: Variant | None = None) -> None:
        super().__init__()
        self.variant = variant or Variant()
        bands = len(BANDS)
        self.register_buffer("image_softening", torch.ones(bands, 1, 1))  # [nanomaggy / pixel]
        self.register_buffer("image_center", torch.zeros(bands, 1, 1))
        self.register_buffer("image_scale", torch.ones(bands, 1, 1))
        self.register_buffer("magnitude_center", torch.zeros(bands))  # [mag]
        self.register_buffer("magnitude_scale", torch.ones(bands))  # [mag]
        self.register_buffer("redshift_center", torch.zeros(()))
        self.register_buffer("redshift_scale", torch.ones(()))

        self.encoder = Encoder(self.variant)
        self.encoder_projection = dense(WIDTH, IMAGE_FEATURES, IMAGE_FEATURES)
        self.inception = Inception(self.variant)
        self.inception_projection = dense(INCEPTION_FEATURES, IMAGE_FEATURES, IMAGE_FEATURES)
        self.magnitude_branch = dense(bands, *[MAGNITUDE_FEATURES] * 5)
        self.final = dense(2 * IMAGE_FEATURES + MAGNITUDE_FEATURES, 1024, 1)

    def forward(self, images: Tensor, magnitudes: Tensor) -> Tensor:
        """Predict one redshift per galaxy.

        Parameters
        ----------
        images : tensor, shape (N, 5, 32, 32), float32
            Cutouts in the bands u, g, r, i, z, sky-subtracted [nanomaggy / pixel].
        magnitudes : tensor, shape (N, 5), float32
            Apparent magnitudes in the same bands, corrected for Galactic extinction [mag].

        Returns
        -------
        tensor, shape (N,), float32
            Redshift of each galaxy [dimensionless], in input order.
        """
        images = self.scale_images(images)  # (N, 5, 32, 32)
        magnitudes = (magnitudes - self.magnitude_center) / self.magnitude_scale  # (N, 5)

        from_encoder = self.encoder_projection(self.encoder(images))  # (N, 1096)
        from_inception = self.inception_projection(self.inception(images))  # (N, 1096)
        from_magnitudes = self.magnitude_branch(magnitudes)  # (N, 1024)

        features = torch.cat([from_encoder, from_inception, from_magnitudes], dim=1)  # (N, 3216)
        features = functional.relu(features) if self.variant.has_joint_relus else features
        scaled_redshift = self.final(features).squeeze(1)  # (N,)
        redshift: Tensor = scaled_redshift * self.redshift_scale + self.redshift_center
        return redshift

    def scale_images(self, images: Tensor) -> Tensor:
        """Compress the pixels' dynamic range: linear around the sky, logarithmic in bright centres.

        Parameters
        ----------
        images : tensor, shape (N, 5, 32, 32), float32
            Cutouts [nanomaggy / pixel].

        Returns
        -------
        tensor, shape (N, 5, 32, 32), float32
            Stretched cutouts of about unit variance per band.
        """
        return (torch.asinh(images / self.image_softening) - self.image_center) / self.image_scale


class Encoder(nn.Module):
    """Vision transformer over 16 patches, with a convolution branch in each block."""

    def __init__(self, variant: Variant | None = None) -> None:
        super().__init__()
        num_patches = (IMAGE_SIZE // PATCH_SIZE) ** 2
        self.patch_embed = nn.Conv2d(len(BANDS), WIDTH, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.zeros(1, 1 + num_patches, WIDTH))
        self.blocks = nn.ModuleList(Block(variant) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Summarise each cutout in 192 numbers.

        Parameters
        ----------
        images : tensor, shape (N, 5, 32, 32), float32
            Stretched cutouts.

        Returns
        -------
        tensor, shape (N, 192), float32
            Features of each cutout.
        """
        features: Tensor = self.head(self.norm(self.pool(images)))  # (N, 192)
        return features

    def pool(self, images: Tensor) -> Tensor:
        """Average the patch tokens of each stretched cutout, without the class token: (N, 192)."""
        tokens = self.encode(self.embed(images))  # (N, 1 + 16, 192)
        return tokens[:, 1:].mean(dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Cut stretched images into patches and add the embedding of their positions: (N, 16, 192)."""
        patches = self.patch_embed(images)  # (N, 192, 4, 4)
        placed: Tensor = patches.flatten(2).transpose(1, 2) + self.position[:, 1:]  # (N, 16, 192)
        return placed

    def encode(self, patches: Tensor) -> Tensor:
        """Run the blocks over any number L of embedded patches: (N, L, 192) to (N, 1 + L, 192).

        Pretraining passes only the patches it left visible; prediction passes all 16.
        """
        cls_token = (self.cls_token + self.position[:, :1]).expand(patches.shape[0], -1, -1)  # (N, 1, 192)
        tokens = torch.cat([cls_token, patches], dim=1)  # (N, 1 + L, 192)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class Block(nn.Module):
    """Attention and a convolution branch side by side, then a two-layer perceptron."""

    def __init__(self, variant: Variant | None = None) -> None:
        super().__init__()
        variant = variant or Variant()
        self.norm1 = nn.LayerNorm(WIDTH, eps=variant.norm_epsilon)
        self.attention = Attention(variant.num_heads)
        self.convolution = ConvBranch()
        self.norm2 = nn.LayerNorm(WIDTH, eps=variant.norm_epsilon)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens: (N, 1 + L, 192) to the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens)) + self.convolution(tokens)  # (N, 1 + L, 192)
        updated: Tensor = tokens + self.mlp(self.norm2(tokens))  # (N, 1 + L, 192)
        return updated


class Attention(nn.Module):
    """Six-head self-attention with a bias on queries and values only.

    A bias on the keys would add the same number to every score of a query, and the softmax would cancel it.
    """

    def __init__(self, num_heads: int = NUM_HEADS) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(WIDTH))
        self.value_bias = nn.Parameter(torch.zeros(WIDTH))
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix the tokens of each galaxy: (N, T, 192) to the same shape."""
        n, t, _ = tokens.shape
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])  # (576,)
        qkv = functional.linear(tokens, self.qkv.weight, bias)  # (N, T, 576)
        heads = self.num_heads
        q, k, v = qkv.view(n, t, 3, heads, WIDTH // heads).permute(2, 0, 3, 1, 4)  # each (N, 6, T, 32)
        mixed = functional.scaled_dot_product_attention(q, k, v)  # (N, 6, T, 32)
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(n, t, WIDTH))  # (N, T, 192)
        return projected


class ConvBranch(nn.Module):
    """Grouped 1x1 convolutions on the patch grid; the class token passes nothing through it."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(WIDTH, MLP_WIDTH, kernel_size=1, groups=CONV_GROUPS)
        self.norm = nn.BatchNorm2d(MLP_WIDTH)
        self.reduce = nn.Conv2d(MLP_WIDTH, WIDTH, kernel_size=1, groups=CONV_GROUPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform every patch by itself: (N, 1 + L, 192) to the same shape, zero for the class token."""
        # A 1x1 convolution sees no neighbour, so L visible patches of pretraining fit as a grid of L by 1.
        grid = tokens[:, 1:].transpose(1, 2).unsqueeze(3)  # (N, 192, L, 1)
        grid = functional.silu(self.norm(self.expand(grid)))  # (N, 768, L, 1)
        patches = self.reduce(grid).squeeze(3).transpose(1, 2)  # (N, L, 192)
        return functional.pad(patches, (0, 0, 1, 0))  # (N, 1 + L, 192)


class Inception(nn.Module):
    """Small inception network on the cutout, after Pasquet et al. 2019."""

    def __init__(self, variant: Variant | None = None) -> None:
        super().__init__()
        variant = variant or Variant()
        self.has_relu = variant.has_joint_relus
        self.first = nn.Conv2d(len(BANDS), 32, kernel_size=1)
        inputs = (32, *(4 * width for width in INCEPTION_WIDTHS[:-1]))
        last = len(INCEPTION_WIDTHS) - 1
        self.blocks = nn.ModuleList(
            InceptionBlock(channels, width, uses_5x5=(i != last), pools_first=variant.pools_first)
            for i, (channels, width) in enumerate(zip(inputs, INCEPTION_WIDTHS, strict=True))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Summarise each stretched cutout: (N, 5, 32, 32) to (N, 192)."""
        x: Tensor = self.first(images)  # (N, 32, 32, 32)
        x = functional.avg_pool2d(functional.relu(x) if self.has_relu else x, 2)  # (N, 32, 16, 16)
        x = self.blocks[1](self.blocks[0](x))  # (N, 64, 16, 16)
        x = functional.avg_pool2d(x, 2)  # (N, 64, 8, 8)
        x = self.blocks[3](self.blocks[2](x))  # (N, 32, 8, 8)
        x = functional.avg_pool2d(x, 2)  # (N, 32, 4, 4)
        x = self.blocks[4](x)  # (N, 12, 4, 4)
        return x.flatten(1)  # (N, 192)


class InceptionBlock(nn.Module):
    """Parallel 1x1, 3x3, 5x5 and pooled convolutions of one width, concatenated."""

    def __init__(self, channels: int, width: int, *, uses_5x5: bool, pools_first: bool = False) -> None:
        super().__init__()
        self.uses_5x5 = uses_5x5
        self.branch_1x1 = convolution(channels, width, 1)
        self.branch_3x3 = nn.Sequential(convolution(channels, width, 1), convolution(width, width, 3))
        # The published last block owns this branch without using it; its 552 parameters count.
        self.branch_5x5 = nn.Sequential(convolution(channels, width, 1), convolution(width, width, 5))
        pooled = convolution(channels, width, 1)
        largest, mean = nn.MaxPool2d(3, stride=1, padding=1), nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = nn.Sequential(largest, pooled) if pools_first else nn.Sequential(pooled, mean)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, channels, S, S) to (N, 4 * width, S, S), or 3 * width without the 5x5 branch."""
        branches = [self.branch_1x1(x), self.branch_3x3(x)]  # each (N, width, S, S)
        if self.uses_5x5:
            branches.append(self.branch_5x5(x))
        branches.append(self.branch_pool(x))
        return torch.cat(branches, dim=1)


def convolution(channels: int, width: int, kernel_size: int) -> nn.Sequential:
    """Build a convolution that keeps the image size, followed by batch norm and ReLU."""
    layer = nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())


def dense(*widths: int) -> nn.Sequential:
    """Build fully connected layers of these widths with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
