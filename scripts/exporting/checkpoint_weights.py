"""Lets an exported graph read its weights from the checkpoint beside it, instead of holding them once more.

A weight of the graph is a tensor of the checkpoint as it is, or times the scale of the norm in front of it
(`inference.engines.folded`, step 2). The graph says so in operators: the engines compute them once, when they load
it. What neither gives bit for bit stays in the graph: biases, convolutions, the wide groups.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from inference.engines.folded import HEAD_WIDTH
from inference.model.astromae import DEPTH, WIDTH

SMALLEST_BYTES = 4096
"""Smaller tensors stay in the graph: naming another place takes as much."""

Array = NDArray[np.generic]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """A weight of the graph: a tensor of the checkpoint, perhaps times another and a number per row."""

    tensor: str
    """Name in the checkpoint."""

    factor: str | None = None
    """Name of the scale of the norm in front, one number per column."""

    row_scale: Float32 | None = None
    """Shape (rows, 1), float32."""


@dataclass
class Checkpoint:
    """A safetensors file and where in it every tensor lies."""

    path: Path
    tensors: dict[str, Array]
    offsets: dict[str, tuple[int, int]]
    """Name to first and last byte + 1 in the file."""

    used: dict[str, TensorProto] = field(default_factory=dict)
    """Tensors that the graph refers to."""

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read the file and its table."""
        with path.open("rb") as file:
            num_bytes = int.from_bytes(file.read(8), "little")
            table = json.loads(file.read(num_bytes))
        start = 8 + num_bytes
        spans = {name: entry["data_offsets"] for name, entry in table.items() if name != "__metadata__"}
        offsets = {name: (start + first, start + stop) for name, (first, stop) in spans.items()}
        return cls(path, load_file(path), offsets)

    def refer(self, name: str) -> str:
        """Return the name in the graph of a tensor that lies in this file."""
        if name not in self.used:
            first, stop = self.offsets[name]
            array = self.tensors[name]
            tensor = TensorProto(
                name=f"checkpoint.{name}",
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                dims=array.shape,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (("location", self.path.name), ("offset", str(first)), ("length", str(stop - first))):
                tensor.external_data.add(key=key, value=value)
            self.used[name] = tensor
        return f"checkpoint.{name}"

    def compute(self, product: Product) -> Float32:
        """Return the weight as the engines will compute it.

        Folding multiplies in float64 and rounds once. So does this: a product of two half-precision numbers has 22
        significant bits and is exact in float32.
        """
        value = self.tensors[product.tensor].astype(np.float32)
        if product.factor is not None:
            value = value * self.tensors[product.factor].astype(np.float32)
        return value if product.row_scale is None else value * product.row_scale


def refer_to_checkpoint(model: onnx.ModelProto, path: Path) -> None:
    """Replace in place every large weight of a graph that the checkpoint gives bit for bit.

    Parameters
    ----------
    model : onnx.ModelProto
        Exported network, complete in itself.
    path : Path
        Checkpoint it was exported from; the graph must be written into the same folder.
    """
    checkpoint = Checkpoint.read(path)
    products = {**_copies(checkpoint, model), **dict(_scaled())}
    kept, nodes = [], []
    for weight in model.graph.initializer:
        value = numpy_helper.to_array(weight)
        product = products.get(weight.name)
        if value.nbytes >= SMALLEST_BYTES and product and np.array_equal(checkpoint.compute(product), value):
            constants, operators = _operators(weight.name, product, checkpoint)
            kept += constants
            nodes += operators
        else:
            kept.append(weight)
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend([*checkpoint.used.values(), *kept])
    model.graph.node.extend(nodes)


def forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted about the program it came from: a quarter of what is left, and paths of a disk."""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""


def _copies(checkpoint: Checkpoint, model: onnx.ModelProto) -> dict[str, Product]:
    """Find weights that are in the checkpoint as they are, by their content: folding gave some another name."""
    by_content = {_content(array): name for name, array in checkpoint.tensors.items() if array.ndim > 1}
    contents = {weight.name: _content(numpy_helper.to_array(weight)) for weight in model.graph.initializer}
    return {name: Product(by_content[content]) for name, content in contents.items() if content in by_content}


def _content(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.astype(np.float32).tobytes()


def _scaled() -> Iterator[tuple[str, Product]]:
    """Yield the weights behind a layer norm; the queries also hold the scale of the attention."""
    row_scale = np.ones((3 * WIDTH, 1), np.float32)
    row_scale[:WIDTH] = HEAD_WIDTH**-0.5
    for i in range(DEPTH):
        block, folded = f"encoder.blocks.{i}", f"encoder.blocks.{i}" if i < DEPTH - 1 else "encoder.last"
        yield f"{folded}.expand.weight", Product(f"{block}.mlp.0.weight", f"{block}.norm2.weight")
        qkv = Product(f"{block}.attention.qkv.weight", f"{block}.norm1.weight", row_scale)
        yield f"{folded}.attention.qkv.weight", qkv


def _operators(name: str, product: Product, checkpoint: Checkpoint) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    """Return the constants and operators that compute a product under the name of the weight."""
    stored = [product.tensor] if product.factor is None else [product.tensor, product.factor]
    factors = [f"{name}.{i}" for i in range(len(stored))]
    nodes = [
        helper.make_node("Cast", [checkpoint.refer(tensor)], [factor], to=TensorProto.FLOAT)
        for tensor, factor in zip(stored, factors, strict=True)
    ]
    constants = []
    if product.row_scale is not None:
        constants.append(numpy_helper.from_array(product.row_scale, f"{name}.row_scale"))
        factors.append(f"{name}.row_scale")
    for factor in factors[1:]:
        left = factors[0] if nodes[-1].op_type == "Cast" else nodes[-1].output[0]
        nodes.append(helper.make_node("Mul", [left, factor], [f"{factor}.product"]))
    # Whatever comes last gives the weight.
    nodes[-1].output[0] = name
    return constants, nodes
