"""A published checkpoint as a model of ours, and one of ours as published tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.model.astromae import AstroMAE
from scripts.command.errors import CommandError
from scripts.models.conversion.isolation import Checkpoint
from scripts.models.conversion.names import ALIAS, is_counter, modules_here, ours_of, theirs_of
from scripts.models.conversion.structure import read_variant

SCALINGS = {
    "image_softening": (5, 1, 1),
    "image_center": (5, 1, 1),
    "image_scale": (5, 1, 1),
    "magnitude_center": (5,),
    "magnitude_scale": (5,),
    "redshift_center": (),
    "redshift_scale": (),
}
"""Buffers of ours that the published network lacks, with their shapes."""

LINEAR = 2.0**20
"""Softening so large that asinh(x / LINEAR) · LINEAR is x: to 2e-7 of its value below 1,000 nanomaggies per pixel."""


def to_ours(checkpoint: Checkpoint, scalings: Mapping[str, Any]) -> tuple[AstroMAE, tuple[str, ...]]:
    """Build our network from published tensors.

    Parameters
    ----------
    checkpoint : Checkpoint
        What the file holds.
    scalings : mapping
        Values of some of `SCALINGS`; the others leave what they scale as it is.

    Returns
    -------
    model : AstroMAE
        In evaluation mode.
    notes : tuple of str
        What was assumed, in sentences.

    Raises
    ------
    CommandError
        Naming every tensor that is missing, unexpected, not finite or of another shape, or what the network computes
        that ours cannot.
    """
    variant = read_variant(checkpoint.modules)
    # Shapes alone: drawing 16 million numbers to overwrite them takes a second.
    with torch.device("meta"):
        model = AstroMAE(variant)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in SCALINGS}
    given = _renamed(checkpoint.tensors, modules_here(variant))
    _refuse_misfits(given, wanted, modules_here(variant))
    given |= {name: torch.zeros_like(tensor, device="cpu") for name, tensor in wanted.items() if is_counter(name)}
    noted = checkpoint.modules[""].get("image_softening")
    scalings = {"image_softening": noted, **scalings} if noted else scalings
    notes = _scaling_notes(scalings)
    model.load_state_dict(given | _scalings(scalings), assign=True)
    return model.eval().requires_grad_(False), notes


def to_published(model: AstroMAE) -> tuple[dict[str, Tensor], list[float] | None]:
    """Return the tensors of the published network that computes what `model` does.

    Scalings of magnitudes and redshifts, and the linear part of those of images, go into the neighbouring weights.

    Returns
    -------
    tensors : dict
        By their published names.
    softening : list of float, or None
        What images must be stretched by before the network sees them, asinh(image / softening) per band; None when
        they need not be.
    """
    state = {name: tensor.double() for name, tensor in model.state_dict().items() if not is_counter(name)}
    scaled = {name: state.pop(name) for name in SCALINGS}
    stretch = scaled["image_softening"].flatten()
    is_linear = bool((stretch >= LINEAR).all())
    # A linear stretch is undone as well: then the published network reads nanomaggies.
    unit = scaled["image_softening"] if is_linear else torch.ones(())
    for name in ("encoder.patch_embed", "inception.first"):
        _fold_inputs(state, name, scaled["image_center"] * unit, scaled["image_scale"] * unit)
    _fold_inputs(state, "magnitude_branch.0", scaled["magnitude_center"], scaled["magnitude_scale"])
    state["final.2.weight"] *= scaled["redshift_scale"]
    state["final.2.bias"] = state["final.2.bias"] * scaled["redshift_scale"] + scaled["redshift_center"]
    here = modules_here(model.variant)
    published = {theirs_of(name, here) or name: tensor.float() for name, tensor in state.items()}
    for leaf in ("weight", "bias"):
        published[ALIAS + leaf] = published[f"inception_model.vis_inception.0.{leaf}"]
    return published, None if is_linear else [float(value) for value in stretch]


def _renamed(tensors: Mapping[str, Tensor], here: dict[str, str]) -> dict[str, Tensor]:
    """Return tensors by our names; one without keeps the published name, to be refused by it."""
    for leaf in ("weight", "bias"):
        first, alias = tensors.get(f"inception_model.vis_inception.0.{leaf}"), tensors.get(ALIAS + leaf)
        if first is not None and alias is not None and not torch.equal(first, alias):
            raise CommandError(f"{ALIAS}{leaf} and vis_inception.0.{leaf} differ; they are one tensor.")
    named = {name: tensor for name, tensor in tensors.items() if not (name.startswith(ALIAS) or is_counter(name))}
    return {ours_of(name, here) or name: tensor.float() for name, tensor in named.items()}


def _refuse_misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], here: dict[str, str]) -> None:
    def published(names: Sequence[str]) -> str:
        return ", ".join(theirs_of(name, here) or name for name in names)

    needed = {name for name in wanted if not is_counter(name)}
    shared = sorted(needed & given.keys())
    shaped = [name for name in shared if given[name].shape != wanted[name].shape]
    faults = {
        "missing": published(sorted(needed - given.keys())),
        "unexpected": published(sorted(given.keys() - needed)),
        "of another shape": ", ".join(
            f"{published([name])} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}" for name in shaped
        ),
        "not finite": published([name for name in shared if not torch.isfinite(given[name]).all()]),
    }
    found = [f"{fault}: {names}" for fault, names in faults.items() if names]
    if found:
        raise CommandError(f"The tensors are not those of the published network. {'. '.join(found)}.")


def _scalings(given: Mapping[str, Any]) -> dict[str, Tensor]:
    default = {name: torch.ones(shape) if "scale" in name else torch.zeros(shape) for name, shape in SCALINGS.items()}
    default["image_softening"] = torch.full(SCALINGS["image_softening"], LINEAR)
    default["image_scale"] = torch.full(SCALINGS["image_scale"], 1 / LINEAR)
    if "image_softening" in given:
        default["image_scale"] = torch.ones(SCALINGS["image_scale"])
    return default | {name: _as_tensor(name, value) for name, value in given.items()}


def _as_tensor(name: str, value: Any) -> Tensor:
    if name not in SCALINGS:
        raise CommandError(f"There is no scaling {name}; there are {', '.join(SCALINGS)}.")
    try:
        return torch.tensor(value, dtype=torch.float32).reshape(SCALINGS[name])
    except (TypeError, ValueError, RuntimeError) as error:
        raise CommandError(f"The scaling {name} is {value}; it has the shape {SCALINGS[name]}.") from error


def _scaling_notes(given: Mapping[str, Any]) -> tuple[str, ...]:
    read_as_is = {"image": "images", "magnitude": "magnitudes", "redshift": "redshifts"}
    assumed = [words for prefix, words in read_as_is.items() if not any(name.startswith(prefix) for name in given)]
    if not assumed:
        return ()
    return (
        f"No scaling of {', '.join(assumed)} was given: the network reads and answers in the units of its training.",
    )


def _fold_inputs(state: dict[str, Tensor], name: str, center: Tensor, scale: Tensor) -> None:
    """Let a layer scale its inputs itself: w · (x - center) / scale + b."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    shape = (1, -1, *[1] * (weight.dim() - 2))
    folded = weight / scale.reshape(shape)
    state[f"{name}.bias"] = bias - (folded * center.reshape(shape)).flatten(1).sum(dim=1)
    state[f"{name}.weight"] = folded
