"""Weights of AstroMAE as safetensors: written once by training, read quickly by every worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from inference.checkpoints import CHECKPOINT
from inference.errors import WeightsError
from inference.model.astromae import AstroMAE


def save_weights(model: AstroMAE, path: Path, *, half: bool = True) -> None:
    """Write a model's parameters, batch-norm statistics and scalings.

    Parameters
    ----------
    model : AstroMAE
        Trained model.
    path : Path
        Target file, replaced if it exists.
    half : bool
        Store parameters in float16 (32 MB instead of 64 MB); scalings and statistics stay float32. Changes
        predictions by about 1e-4, far below the model's error.
    """
    parameters = {name for name, _ in model.named_parameters()}
    tensors = {
        name: tensor.half() if half and name in parameters else tensor.float()
        for name, tensor in _expected(model).items()
    }
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def load_astromae(source: Path | bytes = CHECKPOINT) -> AstroMAE:
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
        model = AstroMAE()
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
    told = [f"{fault}: {', '.join(names[:5])}{_more(names)}" for fault, names in faults.items() if names]
    if told:
        raise WeightsError(f"The weights do not fit AstroMAE ({'; '.join(told)}). Use weights made by `make train`.")


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
