"""The network while it learns: which of its parts do, and what a batch of galaxies must hold for that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.model.astromae import IMAGE_FEATURES, INCEPTION_FEATURES, WIDTH, AstroMAE
from scripts.models.training.device import mixed_precision

Learning = Literal["final", "last", "heads", "behind", "all", "magnitudes"]
"""What learns: the final layers; these and the magnitude branch; these and the dense layers behind both image branches;
all behind the frozen transformer; everything; or the second in a network that is given no image."""

EVALUATION_ROWS = 1_024


@dataclass(frozen=True)
class Batch:
    """N galaxies; what a frozen part makes of their images may be given instead of those."""

    magnitudes: Tensor
    """Shape (N, 5), float32 [mag]."""

    images: Tensor | None = None
    """Shape (N, 5, 32, 32), float32 [nanomaggy / pixel]."""

    pooled: Tensor | None = None
    """What the transformer makes of them, before its norm and head, shape (N, 192), float32."""

    inception: Tensor | None = None
    """What the inception branch makes of them, shape (N, 192), float32."""

    joined: Tensor | None = None
    """What the final layers are given, shape (N, 3216), float32; where the magnitude branch learns, of another time in
    its last 1024."""


@dataclass(frozen=True)
class Sample:
    """Labelled galaxies to learn from, on the device that computes."""

    magnitudes: Tensor
    """Shape (N, 5), float32 [mag]."""

    redshifts: Tensor
    """What the network is to predict, shape (N,), float32."""

    images: Callable[[Tensor], Tensor] | None = None
    """Rows, shape (n,), to their cutouts (n, 5, 32, 32); read when they are needed."""

    pooled: Tensor | None = None
    inception: Tensor | None = None
    """See `Batch`; shape (N, 192)."""

    joined: Tensor | None = None
    """See `Batch`; shape (N, 3216)."""

    def __len__(self) -> int:
        return len(self.redshifts)

    def batch(self, rows: Tensor, learning: Learning) -> Batch:
        """Gather what those parts need of some rows."""
        rows = rows.to(self.magnitudes.device)
        batch = Batch(self.magnitudes[rows])
        if learning == "magnitudes":
            return batch
        if learning in ("final", "last") and self.joined is not None:
            return replace(batch, joined=self.joined[rows])
        needs_images = learning in ("behind", "all")
        pooled = None if learning == "all" or self.pooled is None else self.pooled[rows]
        inception = None if needs_images or self.inception is None else self.inception[rows]
        if pooled is None or inception is None:
            assert self.images is not None, "cached features or images are given"
            batch = replace(batch, images=self.images(rows).to(rows.device, non_blocking=True))
        return replace(batch, pooled=pooled, inception=inception)


def predict(model: AstroMAE, batch: Batch, learning: Learning) -> Tensor:
    """Predict as `AstroMAE.forward` does, (N,); without images where the magnitudes alone learn."""
    device = batch.magnitudes.device
    if learning == "magnitudes":
        joint, relu, _ = model.final
        assert isinstance(joint, nn.Linear), "the branches are joined by a dense layer"
        # What reads the images is nothing to it: two thirds of the products would be with zeros.
        hidden = relu(
            functional.linear(from_magnitudes(model, batch), joint.weight[:, 2 * IMAGE_FEATURES :], joint.bias)
        )
    else:
        features = batch.joined if learning == "final" and batch.joined is not None else join(model, batch)
        hidden = model.final[:-1](features)
    with torch.autocast(device.type, enabled=False):
        scaled: Tensor = model.final[-1](hidden.float()).squeeze(1)
    return scaled * model.redshift_scale + model.redshift_center


def join(model: AstroMAE, batch: Batch) -> Tensor:
    """Return what the final layers are given, (N, 3216)."""
    return torch.cat([from_images(model, batch), from_magnitudes(model, batch)], dim=1)


def from_images(model: AstroMAE, batch: Batch) -> Tensor:
    """Return the part of them that the images make, (N, 2192)."""
    if batch.joined is not None:
        return batch.joined[:, : 2 * IMAGE_FEATURES]
    stretched = None if batch.images is None else model.scale_images(batch.images)
    from_encoder = model.encoder_projection(model.encoder.head(model.encoder.norm(_pooled(model, batch, stretched))))
    from_inception = model.inception_projection(_inception(model, batch, stretched))
    features = torch.cat([from_encoder, from_inception], dim=1)
    return functional.relu(features) if model.variant.has_joint_relus else features


def from_magnitudes(model: AstroMAE, batch: Batch) -> Tensor:
    """Return the part of them that the magnitudes make, (N, 1024)."""
    # bfloat16 would round magnitudes to 0.01 mag, as coarse as the colours that tell redshifts apart.
    with torch.autocast(batch.magnitudes.device.type, enabled=False):
        first = model.magnitude_branch[0]((batch.magnitudes - model.magnitude_center) / model.magnitude_scale)
    features: Tensor = model.magnitude_branch[1:](first)
    return functional.relu(features) if model.variant.has_joint_relus else features


def _pooled(model: AstroMAE, batch: Batch, stretched: Tensor | None) -> Tensor:
    if batch.pooled is not None:
        return batch.pooled
    assert stretched is not None, "a batch holds images or what the transformer makes of them"
    return model.encoder.pool(stretched)


def _inception(model: AstroMAE, batch: Batch, stretched: Tensor | None) -> Tensor:
    if batch.inception is not None:
        return batch.inception
    assert stretched is not None, "a batch holds images or what the inception branch makes of them"
    features: Tensor = model.inception(stretched.contiguous(memory_format=torch.channels_last))
    return features


@torch.no_grad()
def predict_rows(model: AstroMAE, sample: Sample, rows: Tensor, learning: Learning) -> Tensor:
    """Predict some rows in float32, as inference does: (n,), on the CPU."""
    model.eval()
    return torch.cat(
        [
            predict(model, sample.batch(part, learning), learning).float().cpu()
            for part in torch.split(rows, EVALUATION_ROWS)
        ]
    )


@torch.no_grad()
def image_features(model: AstroMAE, sample: Sample, tick: Callable[[float], None]) -> Sample:
    """Compute once what the transformer and the inception branch make of every image, as long as both are frozen."""
    assert sample.images is not None, "features are made from images"
    model.eval()
    device = sample.magnitudes.device
    pooled = torch.empty(len(sample), WIDTH, device=device)
    inception = torch.empty(len(sample), INCEPTION_FEATURES, device=device)
    for rows in torch.split(torch.arange(len(sample)), EVALUATION_ROWS // 4):
        stretched = model.scale_images(sample.images(rows.to(device)).to(device))
        with mixed_precision(device):
            pooled[rows] = model.encoder.pool(stretched).float()
        inception[rows] = model.inception(stretched.contiguous(memory_format=torch.channels_last))
        tick(float("nan"))
    return replace(sample, pooled=pooled, inception=inception)


@torch.no_grad()
def with_joined(model: AstroMAE, sample: Sample) -> Sample:
    """Compute once what the final layers are given, as long as all branches are frozen; from cached features."""
    parts = torch.split(torch.arange(len(sample)), 2 * EVALUATION_ROWS)
    return replace(sample, joined=torch.cat([join(model, sample.batch(rows, "last")) for rows in parts]))


def learning_parameters(model: AstroMAE, learning: Learning) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield what learns, by name."""
    last = ("magnitude_branch.", "final.")
    heads = (*last, "encoder.norm.", "encoder.head.", "encoder_projection.", "inception_projection.")
    prefixes = {
        "final": ("final.",),
        "last": last,
        "magnitudes": last,
        "heads": heads,
        "behind": (*heads, "inception."),
        "all": ("",),
    }[learning]
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            yield name, parameter


@torch.no_grad()
def silence_images(model: AstroMAE) -> None:
    """Make a network that was trained on magnitudes alone predict the same whatever its images are."""
    layer = model.final[0]
    assert isinstance(layer, nn.Linear), "the branches are joined by a dense layer"
    layer.weight[:, : 2 * IMAGE_FEATURES] = 0
