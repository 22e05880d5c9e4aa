"""A model is a folder: a card that says what it reads and gives, the file that computes it, and what is known of it.

| file | |
|---|---|
| `card.json` | `inference.models.card.ModelCard`: what it reads, what it gives, what is known of it |
| what the card names | the weights as safetensors, or a network as ONNX |
| `CARD.md` | the card for people |
| `calibration.safetensors` | sigma and the out-of-domain flag, where they were measured (`inference.calibration`) |
| `posterior.safetensors` | p(z) of a network that gives a redshift alone (`inference.posterior`) |
| graphs and their card | what `make engines` exported of the weights (`inference.engines.exported`) |
| packs, ``.native`` | the weights as the native engine reads them (`inference.engines.native`); never committed |
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from inference.contract import DatasetCard, RunRequest
from inference.errors import ModelError
from inference.models.card import ModelCard

SHIPPED = Path(__file__).parent / "astromae"
"""The model that comes with the code, and that serves where none is named."""

MAGNITUDES = Path(__file__).parent / "magnitudes"
"""The one that comes with it for galaxies without images."""

MAX_SCALE_ERROR = 0.02
"""Pixels whose size differs by more are other pixels."""

CARD_NAME = "card.json"
CARD_TEXT_NAME = "CARD.md"


@dataclass(frozen=True)
class Model:
    """A model's folder and its card."""

    folder: Path
    """Where its files are."""

    card: ModelCard
    """What it says of itself."""

    @property
    def weights(self) -> Path:
        """The file that computes: weights as safetensors, or a network as ONNX."""
        return self.folder / self.card.weights_name

    @property
    def in_words(self) -> str:
        """Name and the beginning of the checksum."""
        return in_words(self.card.name, self.card.weights_sha256)


def read_model(folder: Path) -> Model:
    """Read the card of a model.

    Raises
    ------
    ModelError
        If there is none, or it is no card; the message names the file and the key.
    """
    path = folder / CARD_NAME
    try:
        return Model(folder, msgspec.json.decode(path.read_bytes(), type=ModelCard))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{folder} is no model: it has no {CARD_NAME}. `make model` lists those there are.") from None
    except msgspec.DecodeError as error:
        raise ModelError(f"{path} is no card of a model ({error}). Import or train the model again.") from error


@cache
def shipped() -> Model:
    """Return the model that comes with the code."""
    return read_model(SHIPPED)


@cache
def without_images() -> Model:
    """Return the model that comes with the code for galaxies without images."""
    return read_model(MAGNITUDES)


def in_words(name: str | None, sha256: str | None) -> str:
    """Name a model in a message: its name, and as much of its checksum as tells it from others."""
    return f"{name or 'a model without a name'} ({sha256[:12] if sha256 else 'any weights'})"


def refuse_dataset(dataset: DatasetCard, model: ModelCard, prefix: str) -> None:
    """Raise when a model cannot read a dataset, or reads it for something else than it is.

    Raises
    ------
    ModelError
        Naming what the dataset lacks, or what differs.
    """
    inputs = model.inputs
    lacking = [band for band in inputs.bands if band not in dataset.bands]
    if lacking:
        raise ModelError(
            f"{prefix} has the bands {' '.join(dataset.bands)}; the model {model.name} reads {' '.join(inputs.bands)}: "
            f"{' '.join(lacking)} is missing. Use another model, or a dataset with these bands."
        )
    images, magnitudes = (["images"] if inputs.side_px else []), (["magnitudes"] if inputs.magnitudes else [])
    absent = [name for name in (*images, *magnitudes, *inputs.columns) if name not in dataset.arrays]
    if dataset.arrays and absent:
        raise ModelError(
            f"{prefix} holds {', '.join(dataset.arrays)}; the model {model.name} also reads {', '.join(absent)}. "
            "Use another model, or a dataset that has them."
        )
    scales = (inputs.pixel_scale_arcsec, dataset.pixel_scale_arcsec)
    if inputs.side_px and all(scales) and abs(scales[0] / scales[1] - 1) > MAX_SCALE_ERROR:  # type: ignore[operator]
        raise ModelError(
            f"{prefix} has pixels of {scales[1]:g} arcsec; the model {model.name} was trained on {scales[0]:g} arcsec. "
            "Resample the cutouts, or use another model."
        )


def mismatches(dataset: DatasetCard, model: ModelCard, prefix: str) -> tuple[str, ...]:
    """Say in what a dataset differs from what a model was trained on, where it can be read nevertheless.

    Returns
    -------
    tuple of str
        Sentences for the notes of a run.
    """
    found = (judge(dataset, model, prefix) for judge in (_extinction_mismatch, _image_mismatch, _training_mismatch))
    return tuple(filter(None, found))


def _extinction_mismatch(dataset: DatasetCard, model: ModelCard, prefix: str) -> str:
    light = model.inputs.magnitudes
    if light is None or dataset.dereddened == light.dereddened:
        return ""
    trained = f"the model {model.name} was trained on magnitudes that {'are' if light.dereddened else 'are not'}"
    if dataset.dereddened is None:
        return (
            f"Whether the magnitudes of {prefix} are corrected for Galactic extinction is not known; {trained}. "
            'Make it again with FIELDS="dereddened=yes", or with columns of extinction.'
        )
    state = "are" if dataset.dereddened else "are not"
    return f"The magnitudes of {prefix} {state} corrected for Galactic extinction; {trained}: redshifts are biased."


def _image_mismatch(dataset: DatasetCard, model: ModelCard, prefix: str) -> str:
    found, trained = dataset.image_origin, model.inputs.image_origin
    if not model.inputs.side_px or None in (found, trained) or found == trained:
        return ""
    return f"The images of {prefix} are {found}; the model {model.name} was trained on {trained} ones."


def _training_mismatch(dataset: DatasetCard, model: ModelCard, prefix: str) -> str:
    if dataset.sha256 is None or dataset.sha256 not in {data.sha256 for data in model.knowledge.training}:
        return ""
    return (
        f"The model {model.name} was trained on galaxies of {prefix}: redshifts and accuracy here are better than "
        "of galaxies that it has not seen."
    )


def settle_model(request: RunRequest, card: ModelCard) -> RunRequest:
    """Fill in the model of a request, which names none or the very one that is deployed.

    Parameters
    ----------
    request : RunRequest
    card : ModelCard
        Of the deployed model.

    Raises
    ------
    ModelError
        If it names another one.
    """
    is_other = request.model not in (None, card.name) or request.model_sha256 not in (None, card.weights_sha256)
    if is_other:
        raise ModelError(
            f"The request is for the model {in_words(request.model, request.model_sha256)}; deployed is "
            f"{in_words(card.name, card.weights_sha256)}. `make build push apply MODEL={request.model or 'name'}` "
            "deploys another one; a request without a model takes the one that is deployed."
        )
    return msgspec.structs.replace(request, model=card.name, model_sha256=card.weights_sha256)
