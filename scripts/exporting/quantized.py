"""Makes the int8 graph: products with a dense layer's weights in 8 bits, everything else in fp32.

Static: the range of every activation is measured once, on some galaxies, and then fixed. Dynamic ranges would be those
of a batch, and a galaxy's redshift would depend on its neighbours.

References
----------
Jacob et al. 2018, CVPR, arXiv:1712.05877 (integer-arithmetic-only inference).
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

PRODUCTS = ("MatMul", "Gemm")
BATCH = 64


class _Galaxies(CalibrationDataReader):  # type: ignore[misc]
    """Hands out galaxies whose activations are to be measured."""

    def __init__(self, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = (
            {"images": images[start : start + BATCH], "magnitudes": magnitudes[start : start + BATCH]}
            for start in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def quantize(graph: Path, target: Path, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> None:
    """Write `graph` with its dense products in int8, weights scaled per output.

    Parameters
    ----------
    graph : Path
        Exported network, beside the checkpoint that it reads.
    target : Path
        File to write; complete in itself.
    images : array, shape (N, 5, 32, 32), float32
        Cutouts whose activations give the ranges [nanomaggy / pixel].
    magnitudes : array, shape (N, 5), float32
        Of the same galaxies [mag].
    """
    plain = target.with_suffix(".plain")
    try:
        weights_are_3d = _write_plain(graph, plain)
        # It advises a preparation that `_write_plain` replaces.
        logging.disable(logging.WARNING)
        quantize_static(
            plain,
            target,
            _Galaxies(images, magnitudes),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            # One scale per output cannot be had where the weights are a stack of matrices.
            nodes_to_exclude=weights_are_3d,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
        plain.unlink(missing_ok=True)


def _write_plain(graph: Path, plain: Path) -> list[str]:
    """Write the graph with its weights computed; return the products that are not by a matrix of weights."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model = onnx.load(plain)
    # The exporter's shapes, some of which folding made wrong; they are inferred anew.
    del model.graph.value_info[:]
    onnx.save(model, plain)
    num_axes = {weight.name: len(weight.dims) for weight in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and num_axes.get(node.input[1], 0) != 2]
