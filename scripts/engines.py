"""`make engines`: export the trained network for the fast engines, and prove that they answer as torch does.

The graph appears beside the checkpoint, whose weights it reads, under their checksum, and only after every installed
engine agreed with torch on real galaxies; the card beside it says how closely. A reduced precision is admitted only
where its accuracy on galaxies that training never saw stays within 1 % of fp32.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from inference import metrics
from inference.checkpoints import CHECKPOINT
from inference.checksum import file_sha256
from inference.engines import NAMES, exported
from inference.engines.exported import Accuracy, Agreement, ExportCard, UnavailableError
from inference.errors import WeightsError
from inference.predict import MICRO_BATCH, Engine, predict_redshift
from scripts.command.errors import CommandError
from scripts.command.whole_file import write_whole
from scripts.data.sample import ensure_sample

NUM_ROWS = 512
"""Real galaxies on which every engine is compared with torch."""

MAX_ABS = 1e-4
MEAN_ABS = 1e-6
RELATIVE_TOLERANCE = 0.01
"""By how much a reduced precision may change NMAD, bias and outlier fraction."""

Arrays = dict[str, NDArray[np.generic]]


class DisagreementError(CommandError):
    """An engine answers differently from torch."""


def main(
    checkpoint: Annotated[Path, typer.Option(help="Weights to export.")] = CHECKPOINT,
    rows: Annotated[Path | None, typer.Option(help="Folder with safetensors shards; the sample dataset.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Export again what is there already.")] = False,
) -> None:
    """Export the network beside its checkpoint, compare every installed engine with torch, and say what came out."""
    try:
        card = export(checkpoint, rows, force=force)
    except (WeightsError, DisagreementError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    for name, agreement in card.engines.items():
        print(f"{name} {agreement.version}: max {agreement.max_abs:.1e}, mean {agreement.mean_abs:.1e} from torch")
    for precision, accuracy in card.precisions.items():
        verdict = accuracy.refused or "accepted"
        print(f"{precision} with {accuracy.engine}: NMAD {accuracy.nmad:.5f}, bias {accuracy.bias:+.5f}, {verdict}")


def export(checkpoint: Path, rows: Path | None, *, force: bool = False) -> ExportCard:
    """Make the graph and its card unless they are there.

    Raises
    ------
    DisagreementError
        If an engine differs from torch by more than `MAX_ABS` or, on average, `MEAN_ABS`; nothing is left behind.
    """
    if not checkpoint.exists():
        raise WeightsError(f"{checkpoint} does not exist. Make weights with `make train`.")
    sha256 = file_sha256(checkpoint)
    installed = [name for name in NAMES if name != "torch" and find_spec(name)]
    if not force:
        try:
            card = exported.read_card(checkpoint, sha256)
            if set(installed) <= set(card.engines) and _has_graphs(checkpoint, card):
                return card
        except UnavailableError:
            pass
    galaxies = read_rows(rows or ensure_sample())
    graph = exported.graph_path(checkpoint, sha256)
    # Hidden, so that what a kill leaves behind is neither committed nor put into an image.
    draft = graph.with_name(f".{graph.name}.{os.getpid()}")
    try:
        num_parameters, reference = write_graph(checkpoint, draft, galaxies)
        blank = ExportCard(
            weights_sha256=sha256,
            weights_name=checkpoint.name,
            num_parameters=num_parameters,
            engines={},
            precisions={},
        )
        engines = {name: _open(name, draft, blank) for name in installed}
        agreements = {name: compare(engine, galaxies, reference) for name, engine in engines.items()}
        precisions = judge_precisions(engines, draft, blank, galaxies)
        card = msgspec.structs.replace(blank, engines=agreements, precisions=precisions)
        draft.replace(graph)
        int8 = exported.graph_path(checkpoint, sha256, "int8")
        int8.unlink(missing_ok=True)
        if "int8" in precisions and not precisions["int8"].refused:
            _int8_draft(draft).replace(int8)
    finally:
        draft.unlink(missing_ok=True)
        _int8_draft(draft).unlink(missing_ok=True)
    remove_graphs_of_other_weights(checkpoint, sha256)
    write_whole(exported.card_path(checkpoint, sha256), msgspec.json.format(msgspec.json.encode(card)))
    return card


def remove_graphs_of_other_weights(checkpoint: Path, sha256: str) -> None:
    """Delete what belonged to earlier weights of this name: no engine would ever read it again."""
    for path in checkpoint.parent.glob(f"{checkpoint.stem}-*"):
        if path.suffix in (".onnx", ".json") and not path.name.startswith(f"{checkpoint.stem}-{sha256}"):
            path.unlink()


def read_rows(folder: Path) -> Arrays:
    """Join the shards of a folder."""
    from safetensors.numpy import load_file

    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not shards:
        raise DisagreementError(f"{folder} holds no safetensors shard to compare on; `make dataset` makes one.")
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def write_graph(checkpoint: Path, target: Path, galaxies: Arrays) -> tuple[int, NDArray[np.float32]]:
    """Write the folded network as ONNX; return the number of parameters and torch's own redshifts of `NUM_ROWS`."""
    import torch

    from inference.engines.folded import FoldedAstroMAE
    from inference.model.weights import load_astromae
    from scripts.models.export.checkpoint_weights import forget_origin, refer_to_checkpoint

    model = load_astromae(checkpoint)
    images = torch.tensor(galaxies["images"][:NUM_ROWS])
    magnitudes = torch.tensor(galaxies["magnitudes"][:NUM_ROWS], dtype=torch.float32)
    with torch.inference_mode():
        starts = range(0, len(images), MICRO_BATCH)
        parts = [model(images[i : i + MICRO_BATCH], magnitudes[i : i + MICRO_BATCH]) for i in starts]
    rows = torch.export.Dim("rows")
    with _quiet():
        program = torch.onnx.export(
            FoldedAstroMAE(model),
            (images[:MICRO_BATCH], magnitudes[:MICRO_BATCH]),
            dynamo=True,
            input_names=["images", "magnitudes"],
            output_names=["redshifts"],
            dynamic_shapes=({0: rows}, {0: rows}),
            verbose=False,
        )
    assert program is not None, "the exporter based on dynamo returns what it made"
    graph = program.model_proto
    refer_to_checkpoint(graph, checkpoint)
    forget_origin(graph)
    target.write_bytes(graph.SerializeToString())
    return sum(parameter.numel() for parameter in model.parameters()), torch.cat(parts).numpy()


def compare(engine: Engine, galaxies: Arrays, reference: NDArray[np.float32]) -> Agreement:
    """Measure how far an engine is from torch.

    Raises
    ------
    DisagreementError
        If it is too far.
    """
    found = _predict(engine, galaxies, len(reference))
    difference = np.abs(found.astype(np.float64) - reference)
    name, _, version = engine.name.partition(" ")
    agreement = Agreement(
        version=version,
        num_rows=len(reference),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
    )
    if not (agreement.max_abs <= MAX_ABS and agreement.mean_abs <= MEAN_ABS):
        raise DisagreementError(
            f"{name} {version} differs from torch by up to {agreement.max_abs:.1e} and {agreement.mean_abs:.1e} on "
            f"average; {MAX_ABS:.0e} and {MEAN_ABS:.0e} are allowed. No graph was left behind."
        )
    return agreement


def judge_precisions(
    engines: dict[str, Engine], graph: Path, card: ExportCard, galaxies: Arrays
) -> dict[str, Accuracy]:
    """Measure fp32 and every reduced precision on labelled galaxies, and refuse what is not as accurate.

    The first `NUM_ROWS` gave int8 its ranges; they judge nothing.
    """
    if "redshifts" not in galaxies or not engines:
        return {}
    unseen = {name: array[NUM_ROWS:] for name, array in galaxies.items()}
    if not len(unseen["redshifts"]):
        return {}
    engine = next(name for name in NAMES if name in engines)
    judged = {"fp32": _accuracy(engine, _predict(engines[engine], unseen), unseen)}
    for precision, name in REDUCED.items():
        if name not in engines:
            continue
        if precision == "int8":
            _quantize(graph, graph.with_name(card.weights_name), galaxies)
        try:
            reduced = _open(name, _int8_draft(graph) if precision == "int8" else graph, card, precision=precision)
        except UnavailableError:
            continue
        accuracy = _accuracy(name, _predict(reduced, unseen), unseen)
        judged[precision] = msgspec.structs.replace(accuracy, refused=why_refused(judged["fp32"], accuracy))
    return judged


REDUCED = {"bf16": "openvino", "int8": "onnxruntime"}
"""Precision to the engine that computes in it."""


def _has_graphs(checkpoint: Path, card: ExportCard) -> bool:
    """Return whether int8 was judged where anything was, and its graph is there if it may be used."""
    if not card.precisions:
        return True
    int8 = card.precisions.get("int8")
    graph = exported.graph_path(checkpoint, card.weights_sha256, "int8")
    return int8 is not None and (bool(int8.refused) or graph.exists())


def _quantize(graph: Path, checkpoint: Path, galaxies: Arrays) -> None:
    from scripts.models.export.quantized import quantize

    images, magnitudes = (galaxies[name][:NUM_ROWS].astype(np.float32) for name in ("images", "magnitudes"))
    quantize(graph, checkpoint, _int8_draft(graph), images, magnitudes)


def _int8_draft(draft: Path) -> Path:
    return draft.with_name(f"{draft.name}-int8")


def why_refused(full: Accuracy, reduced: Accuracy) -> str:
    """Say which figure moved by more than `RELATIVE_TOLERANCE`; empty when none did."""
    moved = []
    for name in ("nmad", "bias", "outlier_005"):
        before, after = getattr(full, name), getattr(reduced, name)
        if abs(after - before) > RELATIVE_TOLERANCE * abs(before):
            moved.append(f"{name} {after:.6f} instead of {before:.6f}")
    if not moved:
        return ""
    return f"on galaxies that training never saw it changes {', '.join(moved)}, more than {RELATIVE_TOLERANCE:.0%}"


def _accuracy(engine: str, z_phot: NDArray[np.float32], galaxies: Arrays) -> Accuracy:
    z_spec = galaxies["redshifts"].astype(np.float64)
    found = metrics.redshift_accuracy(z_phot, z_spec)
    assert found is not None, "the sample dataset is labelled"
    return Accuracy(engine=engine, nmad=found.nmad, bias=found.bias, outlier_005=found.outlier_005)


def _predict(engine: Engine, galaxies: Arrays, num_rows: int | None = None) -> NDArray[np.float32]:
    images = galaxies["images"][:num_rows].astype(np.float32, copy=False)
    return predict_redshift(engine, images, galaxies["magnitudes"][:num_rows].astype(np.float64, copy=False))


def _open(name: str, graph: Path, card: ExportCard, precision: str = "fp32") -> Engine:
    if name == "openvino":
        from inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(graph, card, num_threads=1, precision=precision)
    from inference.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(graph, card, num_threads=1, precision=precision)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress and its notes about itself; errors pass."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    typer.run(main)
