"""Converts a file: never part of a run, since workers read safetensors only.

A published checkpoint is a pickle, and a pickle is a program; it is opened only on request, and even then in a process
of its own that rejects everything but tensors.
"""

import json
import os
from pathlib import Path
from typing import Any

from scripts.command.errors import UsageError

OURS, PUBLISHED = ".safetensors", ".pt"


def convert(file: str, to: str, scalings: str, *, trusted: bool, variable: str = "FILE") -> tuple[Path, list[str]]:
    """Convert one file into the other format.

    Parameters
    ----------
    file, to, scalings : str
        The variables FILE, TO and SCALINGS.
    trusted : bool
        Whether a pickle may be opened.
    variable : str
        The variable that names the file, for messages.

    Returns
    -------
    target : Path
        What was written.
    notes : list of str
        What fits, and what was assumed.

    Raises
    ------
    UsageError
        If the variables cannot be followed.
    CommandError, WeightsError
        If the file is not what it should be.
    """
    if not file:
        raise UsageError("FILE=checkpoint.pt names the checkpoint; FILE=weights.safetensors converts the other way.")
    source = Path(file).expanduser()
    if not source.is_file():
        raise UsageError(f"{variable}={file}: there is no such file.")
    is_ours = source.suffix == OURS
    target = Path(to).expanduser() if to else source.with_suffix(PUBLISHED if is_ours else OURS)
    if target.exists():
        raise UsageError(f"{target} exists already: TO=file names another target.")
    if scalings and is_ours:
        raise UsageError("SCALINGS belong to a published checkpoint; ours has its own.")
    if not (is_ours or trusted):
        raise UsageError(
            f"{variable}={file} is a pickle: a program that runs when it is opened. If you trust where it comes from, "
            "TRUST_PICKLE=1 opens it, in a process of its own that refuses all but tensors."
        )
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        notes = _publish(source, draft) if is_ours else _adopt(source, draft, _read_scalings(scalings))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target, notes


def _adopt(source: Path, target: Path, scalings: dict[str, Any]) -> list[str]:
    # torch is imported only when there is something to convert.
    from inference.model.astromae import Variant
    from inference.model.weights import load_astromae, save_weights
    from scripts.models.conversion.isolation import read_pickled
    from scripts.models.conversion.weights import to_ours

    model, notes = to_ours(read_pickled(source), scalings)
    save_weights(model, target, half=False)
    load_astromae(target)
    num_parameters = sum(one.numel() for one in model.parameters())
    if model.variant != Variant():
        notes += (f"It is the published variant, computed by torch alone: {model.variant}.",)
    fits = f"{source}: {num_parameters:,} parameters, every name and shape fits"
    return [fits, *(f"note  {note}" for note in notes)]


def _publish(source: Path, target: Path) -> list[str]:
    from inference.model.weights import load_astromae
    from scripts.models.conversion import published
    from scripts.models.conversion.weights import to_published

    model = load_astromae(source)
    tensors, softening = to_published(model)
    published.write(tensors, model.variant, target, softening=softening)
    if softening is None:
        return []
    values = ", ".join(f"{value:.6g}" for value in softening)
    return [
        f"note  Feed it asinh(image / s), s = {values} in u, g, r, i, z: the published layers have no such stretch."
    ]


def _read_scalings(name: str) -> dict[str, Any]:
    if not name:
        return {}
    try:
        content = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"SCALINGS={name} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise UsageError(f'SCALINGS={name} holds no JSON object, such as {{"magnitude_center": [19, 18, 17, 17, 17]}}.')
    return content
