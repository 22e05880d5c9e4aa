"""What computes the redshifts: one small interface (`inference.predict.Engine`), one module per library."""

import logging
from importlib.util import find_spec
from pathlib import Path

from inference.checksum import file_sha256
from inference.engines import exported
from inference.engines.exported import ExportCard
from inference.engines.unavailable import UnavailableError
from inference.errors import EngineError, ModelError, WeightsError
from inference.models import Model
from inference.predict import Engine

NAMES = ("native", "onnxruntime", "openvino", "torch")
"""Every engine."""

CANDIDATES = dict.fromkeys(("auto", "native"), ("native", "onnxruntime"))
"""Which engines are tried for a name, in this order, before torch: the fastest, which also starts fastest and needs the
least memory (docs/performance.md has the measurement), then the one that every installation has."""

NOT_CHECKED = "its accuracy was not checked where the graph was made; `make engines MODEL=name FORCE=1` checks it"

logger = logging.getLogger(__name__)


def load(
    name: str, checkpoint: Path, *, num_threads: int, precision: str = "fp32", as_published: bool = False
) -> Engine:
    """Load an engine with its weights.

    Parameters
    ----------
    name : str
        ``auto`` or one of `NAMES`. One that is missing here is replaced, and the engine's `note` says why: ``native``
        by ``onnxruntime``, which every installation has, and the others by ``torch``.
    checkpoint : Path
        Weights as safetensors; the exported graph is in the same folder.
    num_threads : int
        Threads to compute with; one per vCPU, since a quota hides behind the cores the process sees.
    precision : str
        ``fp32``, or a precision whose accuracy was checked. Never replaced by another.
    as_published : bool
        The network layer by layer in torch, whatever `name`: what the published runs profiled.

    Raises
    ------
    WeightsError
        If the weights are missing or do not fit the network.
    EngineError
        If the precision is not available or not accurate enough, or only torch could compute and is not there.
    """
    if not checkpoint.exists():
        raise WeightsError(f"{checkpoint} does not exist. Make weights with `make train`.")
    if precision != "fp32" and (as_published or name == "torch"):
        raise EngineError(f"torch computes in fp32, not {precision}. Leave out engine, profile or precision.")
    sha256 = file_sha256(checkpoint)
    if precision != "fp32":
        return _load_reduced(name, checkpoint, sha256, num_threads, precision)
    note = None
    if name != "torch" and not as_published:
        reasons: list[str] = []
        for candidate in CANDIDATES.get(name, (name,)):
            try:
                engine = _load_compared(candidate, checkpoint, sha256, num_threads)
            except UnavailableError as error:
                reasons.append(str(error))
            else:
                engine.note = _note(name, candidate, reasons)
                return engine
        note = _note(name, "torch", reasons)
    if find_spec("torch") is None:
        raise EngineError(f"torch is not in this image{f', and {note}' if note else ''}.")
    # Imported here: the other engines start in a third of the time because they never load torch.
    from inference.engines.torch import TorchEngine

    return TorchEngine(checkpoint, sha256, num_threads=num_threads, as_published=as_published, note=note)


def load_model(
    name: str, model: Model, *, num_threads: int, precision: str = "fp32", as_published: bool = False
) -> Engine:
    """Load the engine of a model, whichever kind it is; see `load`.

    Raises
    ------
    ModelError
        If the file that computes is not the one that the card names by its checksum.
    """
    engine: Engine
    if model.card.kind == "astromae":
        engine = load(name, model.weights, num_threads=num_threads, precision=precision, as_published=as_published)
    else:
        # Imported here, with ONNX Runtime: the other stages know cards, not engines.
        from inference.engines.network import NetworkEngine, refuse_other

        if not model.weights.exists():
            raise WeightsError(f"{model.weights} does not exist. Import the network again with `make model`.")
        refuse_other(name, model.card, precision=precision, as_published=as_published)
        engine = NetworkEngine(model.weights, model.card, file_sha256(model.weights), num_threads=num_threads)
    if engine.weights_sha256 != model.card.weights_sha256:
        raise ModelError(
            f"{model.weights} has the checksum {engine.weights_sha256[:12]} and its card says "
            f"{model.card.weights_sha256[:12]}: one of them was replaced. Import or train the model again."
        )
    return engine


def why_rejected(model: Model, precision: str) -> str:
    """Say why a precision will be refused with these weights; empty where it will not, or only the ranks know."""
    if precision == "fp32" or model.card.kind != "astromae":
        return ""
    try:
        card = exported.read_card(model.weights, model.card.weights_sha256)
    except UnavailableError:
        return ""
    if precision == "int8" and card.native_int8 and not card.native_int8.accuracy.rejected:
        return ""
    accuracy = card.precisions.get(precision)
    return (accuracy.rejected or "") if accuracy else NOT_CHECKED


def _load_reduced(name: str, checkpoint: Path, sha256: str, num_threads: int, precision: str) -> Engine:
    try:
        card = exported.read_card(checkpoint, sha256)
        note = None
        if precision == "int8" and card.native_int8 and name in CANDIDATES:
            if rejected := card.native_int8.accuracy.rejected:
                raise UnavailableError(rejected)
            try:
                return _load_native(card, checkpoint, sha256, num_threads, precision)
            except UnavailableError as error:
                note = _note(name, "onnxruntime", [str(error)])
                name = "onnxruntime"
        accuracy = card.precisions.get(precision)
        if accuracy is None:
            raise UnavailableError(NOT_CHECKED)
        if accuracy.rejected:
            raise UnavailableError(accuracy.rejected)
        if name not in ("auto", accuracy.engine):
            raise UnavailableError(f"it was checked with {accuracy.engine}, not with {name}")
        engine = _load_exported(accuracy.engine, checkpoint, sha256, num_threads, precision)
        engine.note = note
        return engine
    except UnavailableError as error:
        raise EngineError(f"precision {precision} cannot be used: {error}. Use fp32.") from error


def _note(name: str, taken: str, reasons: list[str]) -> str | None:
    """Say that another engine computes than was asked for, and why; None when none does."""
    if not reasons:
        return None
    note = f"engine {name} fell back to {taken}: {'; '.join(dict.fromkeys(reasons))}"
    logger.warning("engine fell back to %s", taken, extra={"engine": name, "reason": note})
    return note


def _load_compared(name: str, checkpoint: Path, sha256: str, num_threads: int) -> Engine:
    """Load an engine that was compared with torch."""
    if name != "native":
        return _load_exported(name, checkpoint, sha256, num_threads)
    return _load_native(exported.read_card(checkpoint, sha256), checkpoint, sha256, num_threads)


def _load_native(card: ExportCard, checkpoint: Path, sha256: str, num_threads: int, precision: str = "fp32") -> Engine:
    from inference.engines.native.engine import NativeEngine

    exported.check_compared(card, "native")
    engine = NativeEngine(checkpoint, sha256, num_threads=num_threads, precision=precision)
    compared, is_now = (version.partition("-")[0] for version in (card.engines["native"].version, engine.version))
    if compared != is_now:
        raise UnavailableError(f"native {is_now} was not compared with torch, but {compared}; `make engines` does")
    return engine


def _load_exported(name: str, checkpoint: Path, sha256: str, num_threads: int, precision: str = "fp32") -> Engine:
    card: ExportCard = exported.read_card(checkpoint, sha256)
    exported.check_usable(card, name)
    graph = exported.graph_path(checkpoint, sha256, precision)
    if not graph.exists():
        raise UnavailableError(f"{graph.name} is missing; `make engines` makes it")
    if name == "openvino":
        from inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(graph, card, num_threads=num_threads, precision=precision)
    from inference.engines.onnxruntime import OnnxRuntimeEngine

    assert name == "onnxruntime", f"{name} passed the contract"
    return OnnxRuntimeEngine(graph, card, num_threads=num_threads, precision=precision)
