"""The exported network of a checkpoint: which file it is, what was checked about it, and why it may be missing."""

from importlib.util import find_spec
from pathlib import Path

import msgspec

from inference.contract import Payload
from inference.engines.unavailable import UnavailableError


class Agreement(Payload, frozen=True, kw_only=True):
    """How closely an engine follows torch on real galaxies."""

    version: str
    """Version of the library that was checked."""

    num_rows: int
    """Galaxies compared."""

    max_abs: float
    """Largest absolute difference in redshift."""

    mean_abs: float
    """Mean absolute difference in redshift."""


class Difference(Payload, frozen=True, kw_only=True):
    """How a precision differs from fp32 on the same galaxies; intervals are of 90 %, by paired bootstrap."""

    num_rows: int
    """Galaxies compared."""

    rms: float
    """Root mean square of the difference in redshift over sigma."""

    mean: float
    """Mean of the same."""

    p999: float
    """99.9 % are smaller in size."""

    largest: float
    """Largest in size."""

    nmad: tuple[float, float]
    """Change of NMAD, as a fraction of it."""

    bias: tuple[float, float]
    """Change of the bias, as a fraction of NMAD."""

    outlier_005: tuple[float, float]
    """Change of the fraction with abs(dz) > 0.05."""

    coverage: float
    """Change of the fraction within sigma."""


class Accuracy(Payload, frozen=True, kw_only=True):
    """The accuracy of one precision on galaxies that training never saw."""

    engine: str
    """Engine that computes in this precision."""

    nmad: float
    """1.48 · median(abs(dz - median(dz)))."""

    bias: float
    """Mean dz."""

    outlier_005: float
    """Fraction with abs(dz) > 0.05."""

    rejected: str = ""
    """Why the precision may not be used; empty when it may."""

    differences: dict[str, Difference] = {}  # noqa: RUF012 - copied for every struct
    """Name of a set of galaxies, ``real`` or ``simulated``, to how the precision differs from fp32 there."""


class Rounding(Payload, frozen=True, kw_only=True):
    """How the native engine rounds the dense layers of the transformer to 8 bits."""

    num_rows: int
    """Galaxies, of the training side, on which it was measured."""

    ranges: dict[str, tuple[tuple[float, float], ...]]
    """Name of a layer to the smallest and largest number that enters it, for each of the blocks."""

    shift: float
    """What rounding adds to a redshift on average; it is taken off the last bias."""

    accuracy: Accuracy
    """In this precision."""


class ExportCard(Payload, frozen=True, kw_only=True):
    """``astromae-SHA256.json``: written last, so that its presence means that the graph was checked."""

    weights_sha256: str
    """Checksum of the checkpoint the graph was made from."""

    weights_name: str
    """File name of that checkpoint: the graph holds few weights itself and reads the others there."""

    num_parameters: int
    """Parameters of the network before folding."""

    engines: dict[str, Agreement]
    """Engine name to what was checked."""

    precisions: dict[str, Accuracy]
    """Precision to its accuracy, ``fp32`` included for comparison; ``int8`` that of the graph."""

    native_int8: Rounding | None = None
    """int8 in the native engine, where it was measured."""


def graph_path(checkpoint: Path, sha256: str, precision: str = "fp32") -> Path:
    """Return the path of a checkpoint's exported graph: a changed checkpoint never meets an old graph.

    bf16 is a setting of the engine that reads the graph of fp32; int8 is a graph of its own.
    """
    return checkpoint.with_name(f"{checkpoint.stem}-{sha256}{'.int8' if precision == 'int8' else ''}.onnx")


def card_path(checkpoint: Path, sha256: str) -> Path:
    """Return the path of the exported graph's card."""
    return graph_path(checkpoint, sha256).with_suffix(".json")


def read_card(checkpoint: Path, sha256: str) -> ExportCard:
    """Read what was checked about the graph of a checkpoint.

    Raises
    ------
    UnavailableError
        If there is no graph for these weights, or its card cannot be read.
    """
    path = card_path(checkpoint, sha256)
    try:
        card = msgspec.json.decode(path.read_bytes(), type=ExportCard)
    except FileNotFoundError:
        raise UnavailableError(f"the weights {sha256[:12]} have no exported graph; `make engines` makes it") from None
    except msgspec.DecodeError as error:
        raise UnavailableError(f"{path.name} is not an export card ({error}); `make engines` makes it again") from error
    if not graph_path(checkpoint, sha256).exists():
        raise UnavailableError(f"{path.name} has lost its graph; `make engines` makes it again")
    if card.weights_name != checkpoint.name:
        raise UnavailableError(f"{path.name} reads its weights from {card.weights_name}; `make engines` makes it again")
    return card


def check_usable(card: ExportCard, engine: str) -> None:
    """Refuse an engine that is not installed or was not compared with torch.

    Raises
    ------
    UnavailableError
        Saying which of the two.
    """
    if find_spec(engine) is None:
        raise UnavailableError(f"{engine} is not installed")
    check_compared(card, engine)


def check_compared(card: ExportCard, engine: str) -> None:
    """Refuse an engine that was not compared with torch.

    Raises
    ------
    UnavailableError
        Saying so.
    """
    if engine not in card.engines:
        raise UnavailableError(f"{engine} was not compared with torch; `make engines` does")
