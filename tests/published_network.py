"""The published network as a user of the original code has it: its class and tensor names, its forward pass.

Written from the description of the architecture, so that conversions can be held against something that is not ours.
"""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS = 192, 3


class PatchEmbed(nn.Module):
    __module__ = "timm.models.layers.patch_embed"

    def __init__(self) -> None:
        super().__init__()
        self.img_size, self.num_patches, self.flatten = (32, 32), 16, True
        self.proj = nn.Conv2d(5, WIDTH, kernel_size=(8, 8), stride=(8, 8))
        self.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


class Mlp(nn.Module):
    __module__ = "NormalCell"

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2, self.drop = nn.Linear(192, 768), nn.GELU(), nn.Linear(768, 192), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Attention(nn.Module):
    __module__ = "NormalCell"

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = HEADS, (WIDTH // HEADS) ** -0.5
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.attn_drop, self.proj, self.proj_drop = nn.Dropout(0.0), nn.Linear(WIDTH, WIDTH), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, _ = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        mixed = functional.linear(x, self.qkv.weight, bias).reshape(rows, tokens, 3, self.num_heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        scores = ((query * self.scale) @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj_drop(self.proj((self.attn_drop(scores) @ value).transpose(1, 2).reshape(rows, tokens, -1)))


class NormalCell(nn.Module):
    __module__ = "NormalCell"

    def __init__(self) -> None:
        super().__init__()
        self.class_token = True
        self.norm1, self.attn, self.drop_path = nn.LayerNorm(WIDTH, eps=1e-6), Attention(), nn.Identity()
        self.norm2, self.mlp = nn.LayerNorm(WIDTH, eps=1e-6), Mlp()
        self.PCM = nn.Sequential(
            nn.Conv2d(192, 768, 1, groups=48), nn.BatchNorm2d(768), nn.SiLU(), nn.Conv2d(768, 192, 1, groups=48)
        )

    def forward(self, x: Tensor) -> Tensor:
        rows, _, width = x.shape
        grid = x[:, 1:].transpose(1, 2).reshape(rows, width, 4, 4)
        local = self.PCM(grid).flatten(2).transpose(1, 2)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = torch.cat((x[:, :1], x[:, 1:] + self.drop_path(local)), dim=1)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ConvBlock(nn.Module):
    __module__ = "blocks.photoz"

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class InceptionBlock(nn.Module):
    __module__ = "blocks.photoz"

    def __init__(self, inputs: int, width: int, *, is_custom: bool) -> None:
        super().__init__()
        self.is_custom = is_custom
        self.branch1 = ConvBlock(inputs, width, 1)
        self.branch2 = nn.Sequential(ConvBlock(inputs, width, 1), ConvBlock(width, width, 3))
        self.branch3 = nn.Sequential(ConvBlock(inputs, width, 1), ConvBlock(width, width, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvBlock(inputs, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch1, self.branch2, *([] if self.is_custom else [self.branch3]), self.branch4]
        return torch.cat([branch(x) for branch in branches], dim=1)


class Input_Mix_Model(nn.Module):  # noqa: N801 (the published name)
    __module__ = "blocks.photoz"

    def __init__(self) -> None:
        super().__init__()
        self.Inception_only, self.magnitude, self.uk_paper, self.embed_dim = False, True, False, WIDTH
        self.conv2d_init = nn.Conv2d(5, 32, kernel_size=(1, 1))
        self.avgpool, self.avgpool2 = nn.AvgPool2d(2, 2), nn.AvgPool2d(2, 2)
        hidden = [layer for _ in range(4) for layer in (nn.ReLU(), nn.Linear(1024, 1024))]
        self.magnitude_block = nn.Sequential(nn.Linear(5, 1024), *hidden)
        shapes = ((32, 16), (64, 16), (64, 8), (32, 8), (32, 4))
        blocks = [InceptionBlock(*shape, is_custom=shape == shapes[-1]) for shape in shapes]
        for place in (2, 5):
            blocks.insert(place, nn.AvgPool2d(2))
        last = (nn.Flatten(), nn.Linear(192, 1096), nn.ReLU(), nn.Linear(1096, 1096))
        self.vis_inception = nn.Sequential(self.conv2d_init, self.avgpool, *blocks, *last)

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat((self.vis_inception(x[0]), self.magnitude_block(x[1].float())), dim=1)


class ViT_Astro(nn.Module):  # noqa: N801 (the published name)
    __module__ = "blocks.model_vit_inception"

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = WIDTH
        self.fc_norm, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, WIDTH)
        self.inception_model = Input_Mix_Model()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH), requires_grad=False)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, WIDTH), requires_grad=False)
        self.blocks = nn.ModuleList(NormalCell() for _ in range(12))
        self.patch_embed = PatchEmbed()
        self.vit_block = nn.Sequential(nn.Linear(WIDTH, 1096), nn.ReLU(), nn.Linear(1096, 1096))
        self.concat_block = nn.Sequential(nn.Linear(3216, 1024), nn.ReLU(), nn.Linear(1024, 1))

    def forward(self, x: list[Tensor]) -> Tensor:
        tokens = self.patch_embed(x[0])
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        from_vit = self.vit_block(self.head(self.fc_norm(tokens[:, 1:].mean(dim=1))))
        return self.concat_block(torch.cat((from_vit, self.inception_model(x)), dim=1))


CLASSES = (PatchEmbed, Mlp, Attention, NormalCell, ConvBlock, InceptionBlock, Input_Mix_Model, ViT_Astro)


def random_network(seed: int = 0) -> ViT_Astro:
    """A network whose every tensor matters: batch norms too have statistics of their own."""
    torch.manual_seed(seed)
    network = ViT_Astro()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, Attention):
            nn.init.normal_(module.q_bias)
            nn.init.normal_(module.v_bias)
    return network.eval()


@contextmanager
def importable() -> Iterator[None]:
    """Let pickles find the classes under their published names."""
    names = {kind.__module__ for kind in CLASSES}
    parents = {name.rsplit(".", i)[0] for name in names for i in range(1, 4)}
    before = {name: sys.modules.get(name) for name in names | parents}
    for name in before:
        sys.modules[name] = types.ModuleType(name)
    for kind in CLASSES:
        setattr(sys.modules[kind.__module__], kind.__name__, kind)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def save(network: nn.Module, path: Path) -> Path:
    """Save as published: whole, inside DataParallel."""
    with importable():
        torch.save(nn.DataParallel(network), path)
    return path


def load(path: Path) -> ViT_Astro:
    """Load as the published inference does."""
    with importable():
        return torch.load(path, map_location="cpu", weights_only=False).module.eval()
