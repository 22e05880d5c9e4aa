"""Models by name: the shipped one, and those of the user under `models/`; how one gets there, whole or not at all."""

import difflib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from inference.errors import ModelError
from inference.models import MAGNITUDES, SHIPPED, Model, read_model, shipped, without_images
from inference.models.card import NAME
from scripts.command.errors import UsageError

FOLDER = "models"
"""In the folder of `runs/` and `datasets/`."""

SHIPPED_NAMES: dict[str, Callable[[], Model]] = {SHIPPED.name: shipped, MAGNITUDES.name: without_images}
"""Names of the models that come with the code."""

ModelName = Annotated[str, Meta(description="the name of a model, as `make model` lists them")]


def find_model(name: str, *, root: Path = Path(), asked: str = "") -> Model:
    """Find a model by its name; the shipped one when the name is empty.

    Parameters
    ----------
    name : str
        As the user gave it.
    root : Path
        Folder that holds ``models/``.
    asked : str
        Where the name comes from, for messages; ``MODEL=name`` when empty.

    Raises
    ------
    UsageError
        If there is no such model; the message names the nearest.
    ModelError
        If its folder holds no readable card.
    """
    asked = asked or f"MODEL={name}"
    if not name:
        return shipped()
    if name in SHIPPED_NAMES:
        return SHIPPED_NAMES[name]()
    _check_name(name, asked)
    folder = root / FOLDER / name
    if not folder.is_dir():
        known = model_names(root)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"{asked}: there is no such model. {meant}There are: {', '.join(known)}.")
    found = read_model(folder)
    if found.card.name != name:
        raise ModelError(f"{folder} holds the model {found.card.name}: rename the folder back, or import it again.")
    return found


def astromae(name: str, *, root: Path = Path()) -> Model:
    """Find a model with the network of this project, as `find_model`.

    Raises
    ------
    UsageError
        If it is another network.
    """
    found = find_model(name, root=root)
    if found.card.kind != "astromae":
        raise UsageError(
            f"MODEL={name} is a network as ONNX, which came whole: this command is for weights of AstroMAE."
        )
    return found


def model_names(root: Path) -> list[str]:
    """Return the names of all models, the shipped ones first."""
    own = sorted(path.name for path in (root / FOLDER).glob("[!.]*") if path.is_dir())
    return [*SHIPPED_NAMES, *(name for name in own if name not in SHIPPED_NAMES)]


def refuse_taken(name: str, root: Path, *, variable: str = "NAME") -> None:
    """Raise unless a new model may have this name.

    Parameters
    ----------
    name : str
        As the user gave it.
    root : Path
        Folder that holds ``models/``.
    variable : str
        The variable that holds it, for messages.

    Raises
    ------
    UsageError
        If it is none, or taken.
    """
    asked = f"{variable}={name}"
    _check_name(name, asked)
    if name in SHIPPED_NAMES:
        raise UsageError(f"{asked} is the shipped model of that name. Choose another name.")
    if name in model_names(root):
        raise UsageError(f"{asked} is taken: {root / FOLDER / name}/ is there. Choose another name, or remove it.")


def _check_name(name: str, asked: str) -> None:
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{asked} is no name of a model: letters, digits, dots, dashes and underscores make one.")


@contextmanager
def new_model(name: str, root: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; it becomes ``models/<name>/`` when the block ends, and goes when it fails.

    Raises
    ------
    UsageError
        As `refuse_taken`.
    """
    refuse_taken(name, root)
    draft = root / FOLDER / f".{name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(root / FOLDER / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
