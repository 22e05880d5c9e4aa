"""`make convert FILE=…`: a published checkpoint into safetensors, or safetensors into the published structure.

Never part of a run: workers read safetensors only. A published checkpoint is a pickle, and a pickle is a program; it is
opened only when TRUST_PICKLE=1 says so, and even then in a process of its own that refuses everything but tensors.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inference.checksum import file_sha256
from inference.errors import WeightsError
from scripts.command.errors import FAILED, UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.models.conversion.errors import ConversionError

OURS, PUBLISHED = ".safetensors", ".pt"


def main(
    file: Annotated[str, typer.Option(envvar="FILE", help="Checkpoint to convert.")] = "",
    to: Annotated[str, typer.Option(envvar="TO", help="Target; beside FILE when absent.")] = "",
    scalings: Annotated[str, typer.Option(envvar="SCALINGS", help="JSON with scalings the file lacks.")] = "",
    trust_pickle: Annotated[str, typer.Option(envvar="TRUST_PICKLE", help="1 to open a pickle.")] = "",
    trust: Annotated[bool, typer.Option("--trust-pickle", help="The same as TRUST_PICKLE=1.")] = False,
) -> None:
    """Convert a checkpoint. Exit status: 0 written, 1 it does not fit, 2 wrong usage."""
    with told_in_one_line():
        try:
            convert(file.strip(), to.strip(), scalings.strip(), trusted=trust or trust_pickle.strip() == "1")
        except (ConversionError, WeightsError) as error:
            print(error, file=sys.stderr)
            raise typer.Exit(FAILED) from error


def convert(file: str, to: str, scalings: str, *, trusted: bool) -> None:
    """Convert one file into the other format, and say what was assumed."""
    if not file:
        raise UsageError("FILE=checkpoint.pt names the checkpoint; FILE=weights.safetensors converts the other way.")
    source = Path(file).expanduser()
    if not source.is_file():
        raise UsageError(f"FILE={file}: there is no such file.")
    is_ours = source.suffix == OURS
    target = Path(to).expanduser() if to else source.with_suffix(PUBLISHED if is_ours else OURS)
    if target.exists():
        raise UsageError(f"{target} exists already: TO=file names another target.")
    if scalings and is_ours:
        raise UsageError("SCALINGS belong to a published checkpoint; ours has its own.")
    if not (is_ours or trusted):
        raise UsageError(
            f"FILE={file} is a pickle: a program that runs when it is opened. If you trust where it comes from, "
            "TRUST_PICKLE=1 opens it, in a process of its own that refuses all but tensors."
        )
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        notes = _publish(source, draft) if is_ours else _adopt(source, draft, _read_scalings(scalings))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    for note in notes:
        print(f"note  {note}")
    print(f"{target}  {target.stat().st_size / 1e6:,.1f} MB, sha256 {file_sha256(target)}")


def _adopt(source: Path, target: Path, scalings: dict[str, Any]) -> tuple[str, ...]:
    # torch is imported only when there is something to convert.
    from inference.model.astromae import Variant
    from inference.model.weights import load_astromae, save_weights
    from scripts.models.conversion.isolation import read_pickled
    from scripts.models.conversion.weights import to_ours

    model, notes = to_ours(read_pickled(source), scalings)
    save_weights(model, target, half=False)
    load_astromae(target)
    print(f"{source}: {sum(one.numel() for one in model.parameters()):,} parameters, every name and shape fits")
    if model.variant != Variant():
        notes += (f"It is the published variant, computed by torch alone: {model.variant}.",)
    return notes


def _publish(source: Path, target: Path) -> tuple[str, ...]:
    from inference.model.weights import load_astromae
    from scripts.models.conversion import published
    from scripts.models.conversion.weights import to_published

    model = load_astromae(source)
    tensors, softening = to_published(model)
    published.write(tensors, model.variant, target, softening=softening)
    if softening is None:
        return ()
    values = ", ".join(f"{value:.6g}" for value in softening)
    return (f"Feed it asinh(image / s), s = {values} in u, g, r, i, z: the published layers have no such stretch.",)


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


if __name__ == "__main__":
    typer.run(main)
