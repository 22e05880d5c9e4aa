"""Which tensor of the published network is which of ours.

Names and module layout are those of the public code: AstroMAE's ``ViT_Astro`` and ``Input_Mix_Model``, the
``NormalCell`` of ViTAE, the ``PatchEmbed`` of timm 0.4.12.
"""

import re

from inference.model.astromae import DEPTH, INCEPTION_WIDTHS, Variant

INCEPTION_BLOCKS = (2, 3, 5, 6, 8)
"""Places of the inception blocks in ``vis_inception``; poolings come between them."""

NUM_MAGNITUDE_LAYERS = 5
ALIAS = "inception_model.conv2d_init."
"""The first convolution hangs in the network twice; the other name is ``vis_inception.0``."""

_TOP = {
    "cls_token": "encoder.cls_token",
    "pos_embed": "encoder.position",
    "patch_embed.proj": "encoder.patch_embed",
    "fc_norm": "encoder.norm",
    "head": "encoder.head",
    "inception_model.vis_inception.0": "inception.first",
}
_CELL = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "attn.q_bias": "attention.query_bias",
    "attn.v_bias": "attention.value_bias",
    "PCM.0": "convolution.expand",
    "PCM.1": "convolution.norm",
    "PCM.3": "convolution.reduce",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_BRANCHES = {
    "branch1": "branch_1x1",
    "branch2.0": "branch_3x3.0",
    "branch2.1": "branch_3x3.1",
    "branch3.0": "branch_5x5.0",
    "branch3.1": "branch_5x5.1",
}


def modules_here(variant: Variant) -> dict[str, str]:
    """Return the published name of everything that owns tensors, and ours."""
    found = dict(_TOP)
    for block in range(DEPTH):
        found |= {f"blocks.{block}.{theirs}": f"encoder.blocks.{block}.{ours}" for theirs, ours in _CELL.items()}
    pooled = {"branch4.1": f"branch_pool.{1 if variant.pools_first else 0}"}
    for block, place in zip(range(len(INCEPTION_WIDTHS)), INCEPTION_BLOCKS, strict=True):
        for theirs, ours in (_BRANCHES | pooled).items():
            there, here = f"inception_model.vis_inception.{place}.{theirs}", f"inception.blocks.{block}.{ours}"
            found |= {f"{there}.conv": f"{here}.0", f"{there}.bn": f"{here}.1"}
    pairs = {
        "vit_block.{}": ("encoder_projection.{}", {0: 0, 2: 2}),
        "inception_model.vis_inception.{}": ("inception_projection.{}", {10: 0, 12: 2}),
        "inception_model.magnitude_block.{}": (
            "magnitude_branch.{}",
            {2 * i: 2 * i for i in range(NUM_MAGNITUDE_LAYERS)},
        ),
        "concat_block.{}": ("final.{}", {0: 0, 2: 2}),
    }
    for theirs, (ours, places) in pairs.items():
        found |= {theirs.format(there): ours.format(here) for there, here in places.items()}
    return found


def ours_of(name: str, here: dict[str, str]) -> str | None:
    """Return our name of a published tensor, None when we have none."""
    if name in here:
        return here[name]
    owner, _, leaf = name.rpartition(".")
    return f"{here[owner]}.{leaf}" if owner in here else None


def theirs_of(name: str, here: dict[str, str]) -> str | None:
    """Return the published name of one of our tensors, None for a scaling, which the published network lacks."""
    there = {ours: theirs for theirs, ours in here.items()}
    if name in there:
        return there[name]
    owner, _, leaf = name.rpartition(".")
    return f"{there[owner]}.{leaf}" if owner in there else None


def is_counter(name: str) -> bool:
    """Return whether a tensor only counts training steps."""
    return re.search(r"(^|\.)num_batches_tracked$", name) is not None
