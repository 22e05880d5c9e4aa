"""Our weights as the published code pickles them: its classes by name, its tensors, and the function of ours.

The published forward pass is in the classes, which a reader of the file has; what is written here is their state.
Where our network has an activation that theirs lacks, a layer without tensors goes into one of their containers, so
that every tensor keeps its published name. A state dict alone could not do that, and would compute something else.
"""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inference.model.astromae import (
    BANDS,
    CONV_GROUPS,
    DEPTH,
    IMAGE_FEATURES,
    IMAGE_SIZE,
    INCEPTION_FEATURES,
    INCEPTION_WIDTHS,
    MAGNITUDE_FEATURES,
    MLP_WIDTH,
    PATCH_SIZE,
    WIDTH,
    Variant,
    dense,
)
from scripts.models.conversion.names import is_counter

CLASS_MODULES = {
    "ViT_Astro": "blocks.model_vit_inception",
    "Input_Mix_Model": "blocks.photoz",
    "InceptionBlock": "blocks.photoz",
    "ConvBlock": "blocks.photoz",
    "NormalCell": "NormalCell",
    "Attention": "NormalCell",
    "Mlp": "NormalCell",
    "PatchEmbed": "timm.models.layers.patch_embed",
}
"""Class to the module that defines it in the public code."""

Classes = dict[str, type[nn.Module]]


def write(tensors: dict[str, Tensor], variant: Variant, path: Path, *, softening: list[float] | None = None) -> None:
    """Write a whole pickled ``DataParallel(ViT_Astro)``.

    Parameters
    ----------
    tensors : dict
        Every tensor of the network by its published name.
    variant : Variant
        What the network computes.
    path : Path
        Target, replaced if it exists.
    softening : list of float, optional
        By which its images must be stretched; noted in the file.
    """
    with _published_classes() as classes:
        with torch.device("meta"):
            network = _vit_astro(classes, variant)
        counters = {
            name: torch.zeros_like(tensor, device="cpu")
            for name, tensor in network.state_dict().items()
            if is_counter(name)
        }
        network.load_state_dict(tensors | counters, assign=True)
        if softening:
            network.image_softening = softening  # type: ignore[assignment]
        torch.save(nn.DataParallel(network.eval()), path)


@contextmanager
def _published_classes() -> Iterator[Classes]:
    """Define classes of the published names, findable only while the file is written."""
    before = dict(sys.modules)
    classes: Classes = {}
    try:
        for name, module in CLASS_MODULES.items():
            classes[name] = type(name, (nn.Module,), {"__module__": module})
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
            setattr(sys.modules[module], name, classes[name])
        yield classes
    finally:
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in {module.split(".")[0] for module in CLASS_MODULES.values()}:
                del sys.modules[name]


def _module(kind: type[nn.Module], **attributes: Any) -> nn.Module:
    module = kind()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def _vit_astro(classes: Classes, variant: Variant) -> nn.Module:
    side = IMAGE_SIZE // PATCH_SIZE
    patches = _module(
        classes["PatchEmbed"],
        img_size=(IMAGE_SIZE, IMAGE_SIZE),
        patch_size=(PATCH_SIZE, PATCH_SIZE),
        grid_size=(side, side),
        num_patches=side**2,
        flatten=True,
        proj=nn.Conv2d(len(BANDS), WIDTH, PATCH_SIZE, PATCH_SIZE),
        norm=nn.Identity(),
    )
    last = [nn.ReLU()] if variant.has_joint_relus else []
    return _module(
        classes["ViT_Astro"],
        embed_dim=WIDTH,
        fc_norm=nn.LayerNorm(WIDTH, eps=1e-6),
        head=nn.Linear(WIDTH, WIDTH),
        inception_model=_inception_model(classes, variant),
        cls_token=nn.Parameter(torch.zeros(1, 1, WIDTH), requires_grad=False),
        pos_embed=nn.Parameter(torch.zeros(1, 1 + side**2, WIDTH), requires_grad=False),
        blocks=nn.ModuleList(_normal_cell(classes, variant) for _ in range(DEPTH)),
        patch_embed=patches,
        vit_block=nn.Sequential(*dense(WIDTH, IMAGE_FEATURES, IMAGE_FEATURES), *last),
        concat_block=dense(2 * IMAGE_FEATURES + MAGNITUDE_FEATURES, 1024, 1),
    )


def _normal_cell(classes: Classes, variant: Variant) -> nn.Module:
    attention = _module(
        classes["Attention"],
        num_heads=variant.num_heads,
        scale=(WIDTH // variant.num_heads) ** -0.5,
        qkv=nn.Linear(WIDTH, 3 * WIDTH, bias=False),
        q_bias=nn.Parameter(torch.zeros(WIDTH)),
        v_bias=nn.Parameter(torch.zeros(WIDTH)),
        attn_drop=nn.Dropout(0.0),
        proj=nn.Linear(WIDTH, WIDTH),
        proj_drop=nn.Dropout(0.0),
    )
    mlp = _module(
        classes["Mlp"],
        hidden_features=MLP_WIDTH,
        fc1=nn.Linear(WIDTH, MLP_WIDTH),
        act=nn.GELU(),
        fc2=nn.Linear(MLP_WIDTH, WIDTH),
        drop=nn.Dropout(0.0),
    )
    return _module(
        classes["NormalCell"],
        norm1=nn.LayerNorm(WIDTH, eps=variant.norm_epsilon),
        class_token=True,
        attn=attention,
        drop_path=nn.Identity(),
        norm2=nn.LayerNorm(WIDTH, eps=variant.norm_epsilon),
        mlp=mlp,
        PCM=nn.Sequential(
            nn.Conv2d(WIDTH, MLP_WIDTH, 1, groups=CONV_GROUPS),
            nn.BatchNorm2d(MLP_WIDTH),
            nn.SiLU(inplace=True),
            nn.Conv2d(MLP_WIDTH, WIDTH, 1, groups=CONV_GROUPS),
        ),
    )


def _inception_model(classes: Classes, variant: Variant) -> nn.Module:
    first = nn.Conv2d(len(BANDS), 32, kernel_size=(1, 1))
    halve = nn.AvgPool2d(2, 2)
    last = [nn.ReLU()] if variant.has_joint_relus else []
    widths = (32, *(4 * width for width in INCEPTION_WIDTHS))
    blocks = [
        _inception_block(classes, channels, width, variant, is_custom=width == INCEPTION_WIDTHS[-1])
        for channels, width in zip(widths, INCEPTION_WIDTHS, strict=False)
    ]
    return _module(
        classes["Input_Mix_Model"],
        Inception_only=False,
        magnitude=True,
        uk_paper=False,
        embed_dim=WIDTH,
        device="cpu",
        conv2d_init=first,
        avgpool=halve,
        avgpool2=nn.AvgPool2d(2, 2),
        magnitude_block=nn.Sequential(*dense(len(BANDS), *[MAGNITUDE_FEATURES] * 5), *last),
        vis_inception=nn.Sequential(
            first,
            nn.Sequential(nn.ReLU(), halve) if variant.has_joint_relus else halve,
            *blocks[:2],
            nn.AvgPool2d(2),
            *blocks[2:4],
            nn.AvgPool2d(2),
            blocks[4],
            nn.Flatten(),
            *dense(INCEPTION_FEATURES, IMAGE_FEATURES, IMAGE_FEATURES),
            *last,
        ),
    )


def _inception_block(classes: Classes, channels: int, width: int, variant: Variant, *, is_custom: bool) -> nn.Module:
    def convolution(inputs: int, size: int) -> nn.Module:
        conv = nn.Conv2d(inputs, width, size, padding=size // 2)
        return _module(classes["ConvBlock"], conv=conv, bn=nn.BatchNorm2d(width))

    pooled = convolution(channels, 1)
    return _module(
        classes["InceptionBlock"],
        is_custom=is_custom,
        branch1=convolution(channels, 1),
        branch2=nn.Sequential(convolution(channels, 1), convolution(width, 3)),
        branch3=nn.Sequential(convolution(channels, 1), convolution(width, 5)),
        branch4=nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), pooled)
        if variant.pools_first
        else nn.Sequential(nn.Identity(), pooled, nn.AvgPool2d(3, stride=1, padding=1)),
    )
