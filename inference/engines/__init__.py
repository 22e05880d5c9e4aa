"""What computes the redshifts: one small interface (`inference.predict.Engine`), one module per library."""

import logging
from pathlib import Path

from inference.checksum import file_sha256
from inference.engines import exported
from inference.engines.exported import ExportCard, UnavailableError
from inference.errors import EngineError, WeightsError
from inference.predict import Engine

NAMES = ("onnxruntime", "openvino", "torch")
"""Engines in order of preference for ``auto``: first the one that every installation and the image have, which starts
fastest and needs the least memory. docs/performance.md has the measurement."""

logger = logging.getLogger(__name__)


def load(
    name: str, checkpoint: Path, *, num_threads: int, precision: str = "fp32", as_published: bool = False
) -> Engine:
    """Load an engine with its weights.

    Parameters
    ----------
    name : str
        ``auto`` or one of `NAMES`. One that is missing here is replaced by torch, and the engine's `note` says why.
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
        If the precision is not available or not accurate enough.
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
        reasons = []
        for candidate in NAMES[:-1] if name == "auto" else (name,):
            try:
                return _load_exported(candidate, checkpoint, sha256, num_threads)
            except UnavailableError as error:
                reasons.append(str(error))
        note = f"engine {name} fell back to torch: {'; '.join(dict.fromkeys(reasons))}"
        logger.warning("engine fell back to torch", extra={"engine": name, "reason": note})
    # Imported here: the other engines start in a third of the time because they never load torch.
    from inference.engines.torch import TorchEngine

    return TorchEngine(checkpoint, sha256, num_threads=num_threads, as_published=as_published, note=note)


def _load_reduced(name: str, checkpoint: Path, sha256: str, num_threads: int, precision: str) -> Engine:
    try:
        card = exported.read_card(checkpoint, sha256)
        accuracy = card.precisions.get(precision)
        if accuracy is None:
            raise UnavailableError("its accuracy was not checked where the graph was made")
        if accuracy.rejected:
            raise UnavailableError(accuracy.rejected)
        if name not in ("auto", accuracy.engine):
            raise UnavailableError(f"it was checked with {accuracy.engine}, not with {name}")
        return _load_exported(accuracy.engine, checkpoint, sha256, num_threads, precision)
    except UnavailableError as error:
        raise EngineError(f"precision {precision} cannot be used: {error}. Use fp32.") from error


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
