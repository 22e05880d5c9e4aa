"""Masked-autoencoder pretraining: the encoder sees a quarter of the patches, a small decoder draws the rest."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.model.astromae import BANDS, IMAGE_SIZE, PATCH_SIZE, WIDTH, AstroMAE, Encoder
from scripts.models.training.device import mixed_precision
from scripts.models.training.journal import Journal
from scripts.models.training.recipe import Recipe
from scripts.models.training.schedule import warm_cosine

DECODER_WIDTH = 96
DECODER_DEPTH = 2
DECODER_HEADS = 3
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
PATCH_VALUES = len(BANDS) * PATCH_SIZE**2


class MaskedAutoencoder(nn.Module):
    """An encoder in training and the decoder that is thrown away afterwards.

    References
    ----------
    He et al. 2022, arXiv:2111.06377.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.narrow = nn.Linear(WIDTH, DECODER_WIDTH)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DECODER_WIDTH))
        self.position = nn.Parameter(grid_waves(DECODER_WIDTH), requires_grad=False)
        self.decoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                DECODER_WIDTH,
                DECODER_HEADS,
                4 * DECODER_WIDTH,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(DECODER_DEPTH)
        )
        self.norm = nn.LayerNorm(DECODER_WIDTH)
        self.draw = nn.Linear(DECODER_WIDTH, PATCH_VALUES)

    def forward(self, images: Tensor, order: Tensor, num_visible: int) -> Tensor:
        """Mean squared error of the hidden patches.

        Parameters
        ----------
        images : tensor, shape (N, 5, 32, 32), float32
            Stretched cutouts.
        order : tensor, shape (N, 16), int64
            A random order of the patches of each image; the first `num_visible` are shown.
        num_visible : int
            Patches shown.
        """
        n = len(images)
        visible = _take(self.encoder.embed(images), order[:, :num_visible])  # (N, V, 192)
        tokens = self.narrow(self.encoder.norm(self.encoder.encode(visible)))[:, 1:]  # (N, V, 96)
        hidden = self.mask_token.to(tokens.dtype).expand(n, NUM_PATCHES - num_visible, -1)  # (N, 16 - V, 96)
        tokens = torch.cat([tokens, hidden], dim=1) + _take(self.position.expand(n, -1, -1), order)  # (N, 16, 96)
        for layer in self.decoder:
            tokens = layer(tokens)
        drawn = self.draw(self.norm(tokens[:, num_visible:])).float()  # (N, 16 - V, 320)
        return functional.mse_loss(drawn, _take(patchify(images), order[:, num_visible:]))


class Images(Protocol):
    """N cutouts, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return some of them, shape (n, 5, 32, 32), float32 [nanomaggy / pixel]."""
        ...


def pretrain(model: AstroMAE, images: Images, recipe: Recipe, journal: Journal) -> None:
    """Train the encoder of a model on stretched images without labels.

    Parameters
    ----------
    model : AstroMAE
        Its encoder is trained in place, on the device it is on.
    images : Images
        Cutouts; a tensor, or anything that gives tensors.
    recipe : Recipe
        Settings.
    journal : Journal
        Keeps a checkpoint per epoch; a run that was killed goes on from the last one.
    """
    torch.manual_seed(recipe.seed)
    device = model.image_center.device
    initialise_encoder(model.encoder)
    autoencoder = MaskedAutoencoder(model.encoder).to(device).train()
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(),
        lr=recipe.pretrain_learning_rate,
        betas=(0.9, 0.95),
        weight_decay=recipe.pretrain_weight_decay,
        fused=True,
    )
    steps_per_epoch = len(images) // recipe.pretrain_batch
    schedule = warm_cosine(optimizer, recipe.pretrain_warmup_steps, steps_per_epoch * recipe.pretrain_epochs)
    num_visible = round(NUM_PATCHES * (1 - recipe.mask_ratio))
    done = journal.resume("pretrain", autoencoder=autoencoder, optimizer=optimizer, schedule=schedule)
    progress = journal.stage("pretrain", steps_per_epoch * recipe.pretrain_epochs, done=done * steps_per_epoch)
    for epoch in range(done, recipe.pretrain_epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000 + epoch)
        shuffled = torch.randperm(len(images), generator=generator)
        for batch in shuffled[: steps_per_epoch * recipe.pretrain_batch].view(steps_per_epoch, -1):
            turned = turn(images[batch].to(device), generator)
            order = torch.rand(len(batch), NUM_PATCHES, generator=generator).argsort(dim=1).to(device)
            with mixed_precision(device):
                loss = autoencoder(model.scale_images(turned), order, num_visible)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress(loss.item())
        journal.checkpoint("pretrain", epoch + 1, autoencoder=autoencoder, optimizer=optimizer, schedule=schedule)


@torch.no_grad()
def settle_batch_norms(model: AstroMAE, images: Images, batches: int = 40) -> None:
    """Measure the encoder's batch-norm statistics anew with all 16 patches visible, as in prediction."""
    norms = [module for module in model.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    model.encoder.train()
    device = model.image_center.device
    for rows in torch.split(torch.arange(min(len(images), batches * 256)), 256):
        with mixed_precision(device):
            model.encoder.pool(model.scale_images(images[rows].to(device)))
    model.encoder.eval()


@torch.no_grad()
def pooled_features(model: AstroMAE, images: Tensor, tick: Callable[[float], None] = lambda _: None) -> Tensor:
    """Run the frozen encoder once: (N, 5, 32, 32) to (N, 192), before its norm and head."""
    features = []
    for batch in torch.split(images, 256):
        with mixed_precision(batch.device):
            features.append(model.encoder.pool(model.scale_images(batch)).float())
        tick(math.nan)
    return torch.cat(features)


def initialise_encoder(encoder: Encoder) -> None:
    """Start values of He et al. 2022: Xavier-uniform matrices, sine waves for the positions."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(encoder.patch_embed.weight.flatten(1))
    nn.init.normal_(encoder.cls_token, std=0.02)
    with torch.no_grad():
        encoder.position[:, 1:] = grid_waves(WIDTH)


def grid_waves(width: int) -> Tensor:
    """Sine and cosine waves that tell the patches of the 4 by 4 grid apart: (1, 16, width)."""
    side = IMAGE_SIZE // PATCH_SIZE
    frequency = 10_000.0 ** -(torch.arange(width // 4) / (width // 4))
    phase = torch.arange(side)[:, None] * frequency  # (4, width / 4)
    waves = torch.cat([phase.sin(), phase.cos()], dim=1)  # (4, width / 2)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, side * side, width)


def patchify(images: Tensor) -> Tensor:
    """Cut (N, 5, 32, 32) into patches: (N, 16, 320)."""
    return functional.unfold(images, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2)


def _take(tokens: Tensor, order: Tensor) -> Tensor:
    return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))


def turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn a batch by a random quarter and mirror it half of the time: the sky has no up."""
    quarter, mirror = torch.randint(0, 4, (2,), generator=generator).tolist()
    turned = torch.rot90(images, quarter, dims=(2, 3))
    return turned.flip(3) if mirror % 2 else turned
