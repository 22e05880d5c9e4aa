"""`make model`: which models there are; MODEL=name: what is known of one; FILE, NAME and CARD: bring one in."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from inference.errors import ModelError
from inference.models import CARD_TEXT_NAME, Model
from scripts.command.errors import UsageError
from scripts.command.model import SHIPPED_NAMES, ModelName, find_model, model_names
from scripts.command.program import start
from scripts.command.variables import Variables


class ModelVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make model`."""

    model: ModelName = ""
    file: Annotated[str, Meta(description="a network as .onnx, or weights of AstroMAE as .safetensors")] = ""
    name: Annotated[str, Meta(description="a name for the new model")] = ""
    card: Annotated[str, Meta(description="what the network reads and gives, as TOML")] = ""


def main(variables: ModelVariables) -> None:
    """List the models, show the card of one, or import one.

    Exit status: 0 done, 1 a card cannot be read or a network does not compute, 2 wrong usage.
    """
    root = Path()
    if variables.file:
        if variables.model:
            raise UsageError(f"FILE={variables.file} makes a new model: NAME names it, not MODEL.")
        # onnx takes a moment to import.
        from scripts.models.importing import import_model

        print(line(import_model(variables.file, variables.name, variables.card, root=root)))
    elif asked := [name for name in ("NAME", "CARD") if name in variables.given]:
        raise UsageError(f"{asked[0]} is of a new model, whose network FILE names.")
    elif variables.model:
        show(find_model(variables.model, root=root))
    else:
        list_models(root)


def list_models(root: Path) -> None:
    """Print a line per model; of a folder without a readable card, why."""
    for name in model_names(root):
        try:
            print(line(find_model(name, root=root)))
        except ModelError as error:
            print(f"{name:<20} {error}")


def line(model: Model) -> str:
    """Say in a line what a model reads and gives."""
    card, inputs = model.card, model.card.inputs
    images = f"{inputs.side_px}x{inputs.side_px} {' '.join(inputs.bands)}" if inputs.side_px else "no images"
    magnitudes = f"magnitudes {' '.join(inputs.bands)}" if inputs.magnitudes else "no magnitudes"
    remark = ", shipped" if card.name in SHIPPED_NAMES else ""
    return f"{card.name:<20} {card.weights_sha256[:12]}  {card.kind}: {images}, {magnitudes}{remark}"


def show(model: Model) -> None:
    """Print the card of a model."""
    text = model.folder / CARD_TEXT_NAME
    print(line(model))
    print(f"{model.folder}/\n")
    print(text.read_text(encoding="utf-8") if text.exists() else "It has no card in words.")


if __name__ == "__main__":
    start(main)
