"""Exports the trained network for the fast engines, and checks that they agree with torch.

The graph appears next to the checkpoint, whose weights it reads, under their checksum, and only after every installed
engine agreed with torch on real galaxies; the card next to it says how closely. A reduced precision is accepted only
where it is equivalent to fp32 on galaxies that training never saw (`scripts.models.export.equivalence`).
"""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from inference.calibration import Calibration, find_calibration
from inference.checksum import file_sha256
from inference.engines import NAMES, exported
from inference.engines.exported import Accuracy, ExportCard, Rounding
from inference.engines.native.engine import NativeEngine
from inference.engines.native.pack import pack_path
from inference.engines.native.prepare import can_prepare, prepare
from inference.engines.unavailable import UnavailableError
from inference.errors import WeightsError
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae
from inference.predict import MICRO_BATCH, Engine
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.command.whole_file import write_whole
from scripts.models.export.equivalence import why_not_equivalent
from scripts.models.export.graph import write_graph
from scripts.models.export.judge import NUM_COMPARED, Arrays, Sigma, compare, judge
from scripts.models.export.quantized import quantize
from scripts.models.export.rounding import measure_rounding, simulated_blocks

GRAPH_ENGINES = ("onnxruntime", "openvino")
"""Those that read the graph."""

REDUCED = {"bf16": "openvino", "int8": "onnxruntime"}
"""Precision to the engine that computes in it from a graph."""

NATIVE_INT8 = "int8 native"
USUAL_SIGMA = 0.013
"""Of the shipped model's dz."""


def export(checkpoint: Path, rows: Path, *, reduced: bool = True) -> ExportCard:
    """Make the graph of a checkpoint and its card.

    Parameters
    ----------
    checkpoint : Path
        The weights; graph and card appear in its folder.
    rows : Path
        Folder of safetensors shards with the galaxies to compare and to judge on.
    reduced : bool
        Whether int8 and bf16 are judged too, on 20,000 galaxies: that takes minutes.

    Raises
    ------
    UsageError
        If the folder has no shard.
    WeightsError
        If the checkpoint is no such file.
    CommandError
        If an engine differs from torch; nothing is left behind.
    """
    galaxies = read_rows(rows)
    sha256 = file_sha256(checkpoint)
    graph = exported.graph_path(checkpoint, sha256)
    # Hidden, so that what a kill leaves behind is neither committed nor put into an image.
    draft = graph.with_name(f".{graph.name}.{os.getpid()}")
    int8_draft = draft.with_name(f"{draft.name}-int8")
    packed = [pack_path(checkpoint, sha256, precision) for precision in ("fp32", "int8")]
    try:
        model = load_astromae(checkpoint)
        write_graph(model, checkpoint, draft)
        blank = ExportCard(
            weights_sha256=sha256,
            weights_name=checkpoint.name,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            engines={},
            precisions={},
        )
        engines: dict[str, Engine] = {name: _open(name, draft, blank) for name in _installed()}
        if can_prepare():
            prepare(checkpoint)
            engines = {"native": NativeEngine(checkpoint, sha256, num_threads=1), **engines}
        compared = {name: array[:NUM_COMPARED] for name, array in galaxies.items()}
        reference = _predict_with_torch(model, compared)
        agreements = {name: compare(engine, compared, reference) for name, engine in engines.items()}
        found, rounding = {}, None
        if reduced:
            others, rounding = _open_reduced(engines, model, draft, int8_draft, checkpoint, blank, galaxies)
            found = _judge_precisions(engines, others, checkpoint, sha256, galaxies)
        if rounding:
            rounding = msgspec.structs.replace(rounding, accuracy=found.pop(NATIVE_INT8))
        card = msgspec.structs.replace(blank, engines=agreements, precisions=found, native_int8=rounding)
        precisions = found
        if rounding is None or rounding.accuracy.rejected:
            packed[1].unlink(missing_ok=True)
        draft.replace(graph)
        int8 = exported.graph_path(checkpoint, sha256, "int8")
        int8.unlink(missing_ok=True)
        if "int8" in precisions and not precisions["int8"].rejected:
            int8_draft.replace(int8)
    except BaseException:
        for path in packed:
            path.unlink(missing_ok=True)
        raise
    finally:
        draft.unlink(missing_ok=True)
        int8_draft.unlink(missing_ok=True)
    remove_graphs_of_other_weights(checkpoint, sha256)
    write_whole(exported.card_path(checkpoint, sha256), msgspec.json.format(msgspec.json.encode(card)))
    return card


def exported_already(checkpoint: Path) -> ExportCard | None:
    """Return the card of a checkpoint whose graphs are there and were compared in every engine of this machine.

    What the native engine needs is made where it is missing: no other file changes by it.

    Raises
    ------
    WeightsError
        If there is no checkpoint.
    """
    if not checkpoint.exists():
        raise WeightsError(f"{checkpoint} does not exist. Make weights with `make train`.")
    try:
        if can_prepare():
            prepare(checkpoint)
        card = exported.read_card(checkpoint, file_sha256(checkpoint))
    except UnavailableError:
        return None
    wanted = {*_installed(), *(["native"] if can_prepare() else [])}
    return card if wanted <= set(card.engines) and _has_int8(checkpoint, card) else None


def read_rows(folder: Path) -> Arrays:
    """Join the shards of a folder.

    Raises
    ------
    UsageError
        If it has none.
    """
    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not shards:
        raise UsageError(f"{folder} holds no safetensors shard to compare on; `make dataset` makes one.")
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def _installed() -> list[str]:
    return [name for name in GRAPH_ENGINES if find_spec(name)]


def _has_int8(checkpoint: Path, card: ExportCard) -> bool:
    """Return whether int8 was judged where anything was, and its graph is there if it may be used."""
    if not card.precisions:
        return True
    int8 = card.precisions.get("int8")
    graph = exported.graph_path(checkpoint, card.weights_sha256, "int8")
    return int8 is not None and (bool(int8.rejected) or graph.exists())


@torch.inference_mode()
def _predict_with_torch(model: AstroMAE, galaxies: Arrays) -> NDArray[np.float32]:
    images, magnitudes = (torch.from_numpy(galaxies[name].astype(np.float32)) for name in ("images", "magnitudes"))
    batches = zip(torch.split(images, MICRO_BATCH), torch.split(magnitudes, MICRO_BATCH), strict=True)
    redshifts: NDArray[np.float32] = torch.cat([model(*batch) for batch in batches]).numpy()
    return redshifts


def _open_reduced(
    engines: dict[str, Engine],
    model: AstroMAE,
    graph: Path,
    int8_graph: Path,
    checkpoint: Path,
    card: ExportCard,
    galaxies: Arrays,
) -> tuple[dict[str, Engine], Rounding | None]:
    """Open every reduced precision that is to be judged, by its name; and how the native engine rounds."""
    reduced: dict[str, Engine] = {}
    rounding = None
    if not len(galaxies.get("redshifts", ())[NUM_COMPARED:]):
        return reduced, rounding
    for precision, name in REDUCED.items():
        if name not in engines:
            continue
        if precision == "int8":
            images, magnitudes = (galaxies[key][:NUM_COMPARED].astype(np.float32) for key in ("images", "magnitudes"))
            quantize(graph, checkpoint, int8_graph, images, magnitudes)
        with suppress(UnavailableError):
            reduced[precision] = _open(name, int8_graph if precision == "int8" else graph, card, precision=precision)
    if "native" in engines:
        rounding = measure_rounding(model, checkpoint, card.weights_sha256, engines["native"])
        reduced[NATIVE_INT8] = _open_native(checkpoint, card.weights_sha256, "int8")
    return reduced, rounding


def _open_native(checkpoint: Path, sha256: str, precision: str = "fp32") -> NativeEngine:
    return NativeEngine(checkpoint, sha256, num_threads=1, precision=precision)


def _judge_precisions(
    engines: dict[str, Engine], reduced: dict[str, Engine], checkpoint: Path, sha256: str, galaxies: Arrays
) -> dict[str, Accuracy]:
    """Return the accuracy of fp32 and of every reduced precision, and why it is rejected.

    On the real galaxies after the first `NUM_COMPARED`; what is not refused there also on simulated ones.
    """
    unseen = {name: array[NUM_COMPARED:] for name, array in galaxies.items()}
    if not reduced:
        return {}
    calibration, _ = find_calibration(checkpoint, sha256)
    full = engines[next(name for name in NAMES if name in engines)]
    accuracy, judged = judge(full, reduced, [unseen], _sigma(calibration), num_cores())
    differences = {name: {"real": difference} for name, (_, difference) in judged.items()}
    left = {name: reduced[name] for name in reduced if not why_not_equivalent(differences[name])}
    if left:
        _, again = judge(full, left, simulated_blocks(), _sigma(calibration), num_cores())
        for name, (_, difference) in again.items():
            differences[name]["simulated"] = difference
    found = {
        name: msgspec.structs.replace(
            one, differences=differences[name], rejected=why_not_equivalent(differences[name])
        )
        for name, (one, _) in judged.items()
    }
    return {"fp32": accuracy, **found}


def _sigma(calibration: Calibration | None) -> Sigma:
    """Return the errors of redshifts; for weights without a calibration, what is usual for such galaxies."""
    if calibration:
        return calibration.errors.sigma
    return lambda _magnitudes, z_phot: np.float32(USUAL_SIGMA) * (1 + z_phot)


def _open(name: str, graph: Path, card: ExportCard, precision: str = "fp32") -> Engine:
    if name == "openvino":
        from inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(graph, card, num_threads=1, precision=precision)
    from inference.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(graph, card, num_threads=1, precision=precision)


def remove_graphs_of_other_weights(checkpoint: Path, sha256: str) -> None:
    """Delete what belonged to earlier weights of this name: no engine would ever read it again."""
    for path in checkpoint.parent.glob(f"{checkpoint.stem}-*"):
        if path.suffix in (".onnx", ".json", ".native") and not path.name.startswith(f"{checkpoint.stem}-{sha256}"):
            path.unlink()
