"""Weights of AstroMAE as safetensors: written once by training, read quickly by every worker."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from inference.errors import WeightsError
from inference.model.astromae import AstroMAE, Variant

VARIANT_KEY = "variant"
"""Metadata of a weights file: the `Variant` as JSON; absent when it is the default one."""

KEPT_WHOLE = "magnitude_branch.0.weight"
"""Separates magnitudes that are nearly equal: its large weights cancel, and float16 would cost 3e-4 in redshift."""


def save_weights(model: AstroMAE, path: Path, *, half: bool = True) -> None:
    """Write a model's parameters, batch-norm statistics and scalings.

    Parameters
    ----------
    model : AstroMAE
        Trained model.
    path : Path
        Target file, replaced if it exists.
    half : bool
        Store parameters in float16 (32 MB instead of 64 MB); scalings and statistics stay float32, and so does the
        first layer of the magnitudes. Changes predictions by 2e-5 at most, far below the model's error.
    """
    parameters = {name for name, _ in model.named_parameters()} - {KEPT_WHOLE}
    tensors = {
        name: tensor.half() if half and name in parameters else tensor.float()
        for name, tensor in _expected(model).items()
    }
    metadata = {} if model.variant == Variant() else {VARIANT_KEY: json.dumps(asdict(model.variant))}
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, metadata or None)
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def load_astromae(source: Path | bytes) -> AstroMAE:
    """Build AstroMAE from a safetensors file, ready to predict.

    Parameters
    ----------
    source : Path or bytes
        File, or the content of one.

    Returns
    -------
    AstroMAE
        In evaluation mode, float32, without gradients.

    Raises
    ------
    WeightsError
        If the file cannot be read, or its tensors are missing, unknown, wrongly shaped or not finite.
    """
    tensors = _read(source)
    with _without_initialisation():
        model = AstroMAE(_read_variant(source))
    expected = _expected(model)
    _check(tensors, expected)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])
    return model.eval().requires_grad_(False)


def _read(source: Path | bytes) -> dict[str, Tensor]:
    try:
        return load(source) if isinstance(source, bytes) else load_file(source)
    except (SafetensorError, OSError) as error:
        name = "the given bytes" if isinstance(source, bytes) else source
        raise WeightsError(
            f"{name}: not a readable safetensors file ({error}). Make weights with `make train`."
        ) from error


def _read_variant(source: Path | bytes) -> Variant:
    if isinstance(source, bytes):
        length = int.from_bytes(source[:8], "little")
        metadata = json.loads(source[8 : 8 + length]).get("__metadata__") or {}
    else:
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
    try:
        return Variant(**json.loads(metadata.get(VARIANT_KEY, "{}")))
    except (TypeError, json.JSONDecodeError) as error:
        raise WeightsError(f"The weights are of a network that this version does not know ({error}).") from error


def _expected(model: AstroMAE) -> dict[str, Tensor]:
    # A batch norm counts its training steps; prediction never reads the count.
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def _check(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    shared = sorted(tensors.keys() & expected.keys())
    faults = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - expected.keys()),
        "wrong shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if tensors[name].shape != expected[name].shape
        ],
        "not finite": [name for name in shared if not torch.isfinite(tensors[name]).all()],
    }
    faulty = [f"{fault}: {', '.join(names[:5])}{_more(names)}" for fault, names in faults.items() if names]
    if faulty:
        raise WeightsError(f"The weights do not fit AstroMAE ({'; '.join(faulty)}). Use weights made by `make train`.")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""


@contextmanager
def _without_initialisation() -> Iterator[None]:
    """Leave new layers uninitialised: every tensor is overwritten, and drawing 16 million numbers takes 0.1 s."""
    originals = nn.Linear.reset_parameters, nn.Conv2d.reset_parameters
    nn.Linear.reset_parameters = nn.Conv2d.reset_parameters = _leave_uninitialised  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Linear.reset_parameters, nn.Conv2d.reset_parameters = originals  # type: ignore[method-assign]


def _leave_uninitialised(_layer: nn.Module) -> None:
    pass
