"""Supervised training of everything behind the frozen vision transformer."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.block import Block
from inference.model.astromae import IMAGE_FEATURES, WIDTH, AstroMAE
from scripts.models.training.controls import Array, Predict
from scripts.models.training.device import mixed_precision
from scripts.models.training.journal import Journal
from scripts.models.training.pretrain import turn
from scripts.models.training.recipe import Recipe
from scripts.models.training.rows import TrainingRows
from scripts.models.training.schedule import warm_cosine
from scripts.models.training.whitening import whitened_magnitudes

Branches = frozenset[Literal["encoder", "inception"]]
"""Image branches that take part; magnitudes always do."""

STAGES: dict[str, Branches] = {
    "magnitudes": frozenset(),
    "heads": frozenset({"encoder"}),
    "joint": frozenset({"encoder", "inception"}),
}
"""Stages by name. `magnitudes` is the control: the same network without its images."""

CHECK_EVERY = 100
"""Steps between looks at the selection rows."""


@dataclass(frozen=True)
class CachedRows:
    """Rows with the pooled transformer features computed once: the encoder no longer changes."""

    rows: TrainingRows
    pooled: Tensor
    """Shape (N, 192), float32."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Self:
        rows = TrainingRows(
            self.rows.images[index], self.rows.magnitudes[index], self.rows.redshifts[index], num_real=0
        )
        return type(self)(rows, self.pooled[index])

    def turned(self, generator: torch.Generator) -> Self:
        """Turn and mirror the images at random. Their pooled features stay those of the images as they came."""
        return replace(self, rows=replace(self.rows, images=turn(self.rows.images, generator)))


def predict_cached(model: AstroMAE, batch: CachedRows, branches: Branches) -> Tensor:
    """Predict as `AstroMAE.forward` does, from cached transformer features: (N,).

    A branch that is not asked for gives zeros, and gets no gradient.
    """
    from_encoder = from_inception = batch.pooled.new_zeros(len(batch), IMAGE_FEATURES)
    if "encoder" in branches:
        from_encoder = model.encoder_projection(model.encoder.head(model.encoder.norm(batch.pooled)))
    if "inception" in branches:
        images = model.scale_images(batch.rows.images).contiguous(memory_format=torch.channels_last)
        from_inception = model.inception_projection(model.inception(images))
    # bfloat16 would round magnitudes to 0.01 mag, as coarse as the colours that tell redshifts apart.
    with torch.autocast("cpu", enabled=False):
        magnitudes = (batch.rows.magnitudes - model.magnitude_center) / model.magnitude_scale
        first = model.magnitude_branch[0](magnitudes)
    features = torch.cat([from_encoder, from_inception, model.magnitude_branch[1:](first)], dim=1)
    hidden = model.final[:-1](functional.relu(features))
    with torch.autocast("cpu", enabled=False):
        scaled: Tensor = model.final[-1](hidden.float()).squeeze(1)
    return scaled * model.redshift_scale + model.redshift_center


def train_stage(
    stage: str,
    model: AstroMAE,
    train: CachedRows,
    selection: CachedRows,
    recipe: Recipe,
    journal: Journal,
    *,
    name: str = "",
    seed: int = 1,
) -> None:
    """Train one stage in place, keeping the averaged weights that did best on the selection rows.

    Parameters
    ----------
    stage : str
        One of `STAGES`: `heads` trains transformer head, magnitudes and final layers; `joint` the inception branch too.
    model : AstroMAE
        Model with a trained encoder.
    train, selection : CachedRows
        Rows to learn from and rows to choose by.
    recipe : Recipe
        Settings.
    journal : Journal
        Progress, log and checkpoints.
    name : str
        Of its log lines and checkpoint; the stage's own when empty.
    seed : int
        Decides the batches.
    """
    branches, name = STAGES[stage], name or stage
    num_steps, batch_size, learning_rate = recipe.head_steps, recipe.head_batch, recipe.head_learning_rate
    if stage == "joint":
        num_steps, batch_size, learning_rate = recipe.joint_steps, recipe.joint_batch, recipe.joint_learning_rate
    if journal.progress(name) == num_steps:
        journal.resume(name, best=model)
        return
    with whitened_magnitudes(model, train.rows.magnitudes):
        parameters = trainable_parameters(model, branches)
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=recipe.weight_decay, fused=True)
        schedule = warm_cosine(optimizer, 50, num_steps)
        average, best = deepcopy(model), deepcopy(model)
        parts = {"model": model, "average": average, "best": best, "optimizer": optimizer, "schedule": schedule}
        done = journal.resume(name, **parts)
        best_score = score(best, selection, branches, recipe) if done else float("inf")
        progress = journal.stage(name, num_steps, done=done)
        for step in range(done, num_steps):
            loss = _step(model, train, branches, batch_size, optimizer, recipe, seed=seed * 1_000_003 + step)
            schedule.step()
            _follow(average, model, decay=min(recipe.ema_decay, (step + 1) / (step + 10)))
            progress(loss)
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == num_steps:
                reached = score(average, selection, branches, recipe)
                if reached < best_score:
                    best.load_state_dict(average.state_dict())
                    best_score = reached
                journal.log(f"{name} selection", step + 1, reached)
                if step + 1 < num_steps:
                    journal.checkpoint(name, step + 1, **parts)
        model.load_state_dict(best.state_dict())
    model.eval()
    journal.checkpoint(name, num_steps, best=model)


def _step(
    model: AstroMAE,
    train: CachedRows,
    branches: Branches,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    *,
    seed: int,
) -> float:
    generator = torch.Generator().manual_seed(seed)
    batch = train[_balanced(train.rows, batch_size, generator)]
    if "inception" in branches:
        batch = batch.turned(generator)
    model.train()
    with mixed_precision(batch.pooled.device):
        predicted = predict_cached(model, batch, branches)
    loss = redshift_loss(predicted, batch.rows.redshifts, recipe)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 5.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def add_inception(model: AstroMAE) -> None:
    """Let the inception branch begin silent: a network trained without it predicts the same with it."""
    layer = model.final[0]
    assert isinstance(layer, nn.Linear), "the joint network begins with a dense layer"
    layer.weight[:, IMAGE_FEATURES : 2 * IMAGE_FEATURES] = 0


def redshift_loss(predicted: Tensor, redshifts: Tensor, recipe: Recipe) -> Tensor:
    """Smooth absolute error of dz = (z_phot - z_spec) / (1 + z_spec), in units of the error to be expected."""
    dz = (predicted - redshifts) / (1 + redshifts) / recipe.loss_unit
    return functional.smooth_l1_loss(dz, torch.zeros_like(dz), beta=recipe.loss_beta)


@torch.no_grad()
def predict_rows(model: AstroMAE, cached: CachedRows, branches: Branches) -> Tensor:
    """Predict all rows in float32, as inference does: (N,)."""
    model.eval()
    batches = torch.split(torch.arange(len(cached)), 512)
    return torch.cat([predict_cached(model, cached[batch], branches) for batch in batches])


def blind_predictor(model: AstroMAE) -> Predict:
    """Predict from magnitudes alone, with a model of the stage `magnitudes`."""

    def predict(block: Block) -> Array:
        images, magnitudes, redshifts = map(torch.from_numpy, (block.images, block.magnitudes, block.redshifts))
        rows = TrainingRows(images, magnitudes.float(), redshifts.float(), num_real=0)
        found = predict_rows(model, CachedRows(rows, torch.zeros(len(rows), WIDTH)), STAGES["magnitudes"])
        return found.double().numpy()

    return predict


def trainable_parameters(model: AstroMAE, branches: Branches) -> list[nn.Parameter]:
    """List what a stage changes; the transformer itself stays frozen."""
    parts: list[nn.Module] = [model.magnitude_branch, model.final]
    if "encoder" in branches:
        parts += [model.encoder.norm, model.encoder.head, model.encoder_projection]
    if "inception" in branches:
        parts += [model.inception, model.inception_projection]
    return [parameter for part in parts for parameter in part.parameters()]


def _balanced(rows: TrainingRows, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw a batch, half real and half synthetic."""
    half = batch_size // 2
    real = torch.randint(0, rows.num_real, (half,), generator=generator)
    synthetic = torch.randint(rows.num_real, len(rows), (batch_size - half,), generator=generator)
    return torch.cat([real, synthetic])


def score(model: AstroMAE, selection: CachedRows, branches: Branches, recipe: Recipe) -> float:
    """Return the loss on the selection rows, by which weights are chosen."""
    predicted = predict_rows(model, selection, branches)
    return redshift_loss(predicted, selection.rows.redshifts, recipe).item()


@torch.no_grad()
def _follow(average: AstroMAE, model: AstroMAE, decay: float) -> None:
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.dtype.is_floating_point:
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)
