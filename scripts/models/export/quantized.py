"""Makes the int8 graph: the dense layers of the transformer's MLPs in 8 bits, everything else in fp32.

These layers are more than half of the multiplications, and what they get wrong the rest of the network sees as noise of
the image. Magnitudes are what a redshift depends on most: rounding their branch too moved NMAD by a tenth.

Static: the range of every activation is measured once, on some galaxies, and then fixed. Dynamic ranges would be those
of a batch, and a galaxy's redshift would depend on its neighbours. Weights have 7 bits: with 8, CPUs without VNNI add
pairs of products in too few bits and saturate, so that the redshift would depend on the CPU. Rounded weights shift the
mean; the shift on the same galaxies is taken off the last bias.

References
----------
Jacob et al. 2018, CVPR, arXiv:1712.05877 (integer-arithmetic-only inference); Nagel et al. 2019, ICCV,
arXiv:1906.04721 (correction of the bias).
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from scripts.models.export.checkpoint_weights import forget_origin, refer_to_checkpoint

PRODUCTS = ("MatMul", "Gemm")
MLP = re.compile(r"encoder\.(blocks\.\d+|last)\.(expand|reduce)\.weight")
LAST_BIAS = "final.1.bias"
BATCH = 64


Batch = dict[str, NDArray[np.float32]]


class _Galaxies(CalibrationDataReader):  # type: ignore[misc]
    """Hands out galaxies whose activations are to be measured."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches

    def get_next(self) -> Batch | None:
        return next(self._batches, None)


def quantize(
    graph: Path, checkpoint: Path, target: Path, images: NDArray[np.float32], magnitudes: NDArray[np.float32]
) -> None:
    """Write `graph` with the dense layers of its MLPs in int8, weights scaled per output.

    Parameters
    ----------
    graph : Path
        Exported network.
    checkpoint : Path
        The weights it reads, in the same folder.
    target : Path
        File to write, in the same folder.
    images : array, shape (N, 5, 32, 32), float32
        Cutouts whose activations give the ranges [nanomaggy / pixel].
    magnitudes : array, shape (N, 5), float32
        Of the same galaxies [mag].
    """
    plain = target.with_name(f"{target.name}-plain")
    try:
        others = _write_plain(graph, plain)
        # It advises a preparation that `_write_plain` replaces.
        logging.disable(logging.WARNING)
        quantize_static(
            plain,
            target,
            _Galaxies(_batches(images, magnitudes)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_exclude=others,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            # What follows computes in fp32: rounding its input would only lose.
            extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
        )
        model = onnx.load(target)
        _correct_bias(model, _predict(target, images, magnitudes) - _predict(plain, images, magnitudes))
        refer_to_checkpoint(model, checkpoint)
        forget_origin(model)
        onnx.save(model, target)
    finally:
        logging.disable(logging.NOTSET)
        plain.unlink(missing_ok=True)


def _write_plain(graph: Path, plain: Path) -> list[str]:
    """Write the graph with its weights computed; return the products that stay as they are."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model = onnx.load(plain)
    # The exporter's shapes, some of which folding made wrong; they are inferred again.
    del model.graph.value_info[:]
    onnx.save(model, plain)
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and not MLP.fullmatch(node.input[1])]


def _correct_bias(model: onnx.ModelProto, shifts: NDArray[np.float64]) -> None:
    """Take the mean shift of the redshifts off the last bias."""
    (bias,) = (weight for weight in model.graph.initializer if weight.name == LAST_BIAS)
    corrected = numpy_helper.to_array(bias) - np.float32(shifts.mean())
    bias.CopyFrom(numpy_helper.from_array(corrected, LAST_BIAS))


def _predict(graph: Path, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    parts = [session.run(["redshifts"], batch)[0] for batch in _batches(images, magnitudes)]
    return np.concatenate(parts).astype(np.float64)


def _batches(images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Iterator[Batch]:
    for start in range(0, len(images), BATCH):
        yield {"images": images[start : start + BATCH], "magnitudes": magnitudes[start : start + BATCH]}
