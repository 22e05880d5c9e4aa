"""The network as an ONNX graph that reads its weights from the checkpoint."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from inference.engines.folded import FoldedAstroMAE
from inference.model.astromae import AstroMAE
from inference.predict import MICRO_BATCH
from scripts.models.export.checkpoint_weights import forget_origin, refer_to_checkpoint
from scripts.models.training.magnitudes import MagnitudesNetwork


def write_graph(model: AstroMAE, checkpoint: Path, target: Path) -> None:
    """Write the folded network as ONNX.

    Parameters
    ----------
    model : AstroMAE
        The network with the weights of `checkpoint`.
    checkpoint : Path
        The file that the graph reads them from.
    target : Path
        File to write, in the same folder.
    """
    rows = torch.export.Dim("rows")
    with _quiet():
        program = torch.onnx.export(
            FoldedAstroMAE(model),
            (torch.zeros(MICRO_BATCH, 5, 32, 32), torch.full((MICRO_BATCH, 5), 17.0)),
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


def magnitudes_graph(network: MagnitudesNetwork) -> bytes:
    """Return a network of magnitudes as ONNX with its weights inside, a few MB.

    It reads ``magnitudes``, (N, 5) float32 [mag], and gives ``redshifts``, (N,).
    """
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (torch.full((MICRO_BATCH, 5), 17.0),),
            dynamo=True,
            input_names=["magnitudes"],
            output_names=["redshifts"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            verbose=False,
        )
    assert program is not None, "the exporter based on dynamo returns what it made"
    graph = program.model_proto
    forget_origin(graph)
    content: bytes = graph.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress and its notes about itself; errors pass."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
