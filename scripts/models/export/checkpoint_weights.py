"""Lets an exported graph read its weights from the checkpoint next to it, instead of holding them once more.

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
    """A weight of the graph: a tensor of the checkpoint, or rows of it, perhaps times another and a number."""

    tensor: str
    """Name in the checkpoint."""

    rows: tuple[int, int] | None = None
    """First row and last row + 1 of that tensor; all of it when absent."""

    factor: str | None = None
    """Name of the scale of the norm in front, one number per column."""

    number: float | None = None
    """One more factor."""


@dataclass
class Checkpoint:
    """A safetensors file and the place of every tensor in it."""

    path: Path
    tensors: dict[str, Array]
    offsets: dict[str, int]
    """Name to first byte in the file."""

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
        offsets = {name: start + first for name, (first, _) in spans.items()}
        return cls(path, load_file(path), offsets)

    def refer(self, name: str, rows: tuple[int, int] | None = None) -> str:
        """Return the name in the graph of a tensor of this file, or of some of its rows."""
        first, stop = rows or (0, len(self.tensors[name]))
        array = self.tensors[name][first:stop]
        alias = f"{alias_of(name)}.{first}" if rows else alias_of(name)
        if alias not in self.used:
            start = self.offsets[name] + first * array.strides[0]
            tensor = TensorProto(
                name=alias,
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                dims=array.shape,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (("location", self.path.name), ("offset", str(start)), ("length", str(array.nbytes))):
                tensor.external_data.add(key=key, value=value)
            self.used[alias] = tensor
        return alias

    def compute(self, product: Product) -> Float32:
        """Return the weight as the engines will compute it.

        Folding multiplies in float64 and rounds once. So does this: a product of two half-precision numbers has 22
        significant bits and is exact in float32.
        """
        first, stop = product.rows or (0, None)
        value = self.tensors[product.tensor][first:stop].astype(np.float32)
        if product.factor is not None:
            value = value * self.tensors[product.factor].astype(np.float32)
        return value if product.number is None else value * np.float32(product.number)


def alias_of(name: str) -> str:
    """Return the name in a graph of a tensor of the checkpoint."""
    return f"checkpoint.{name}"


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
        if product and weight.name == alias_of(product.tensor):
            # A tensor in float32, which an optimizer left without the cast that it does not need.
            checkpoint.refer(product.tensor)
        elif value.nbytes >= SMALLEST_BYTES and product and np.array_equal(checkpoint.compute(product), value):
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
    for i in range(DEPTH):
        block, folded = f"encoder.blocks.{i}", f"encoder.blocks.{i}" if i < DEPTH - 1 else "encoder.last"
        yield f"{folded}.expand.weight", Product(f"{block}.mlp.0.weight", factor=f"{block}.norm2.weight")
        for j, (name, number) in enumerate((("query", HEAD_WIDTH**-0.5), ("key", None), ("value", None))):
            rows, norm = (j * WIDTH, (j + 1) * WIDTH), f"{block}.norm1.weight"
            product = Product(f"{block}.attention.qkv.weight", rows, factor=norm, number=number)
            yield f"{folded}.attention.{name}.weight", product


def _operators(name: str, product: Product, checkpoint: Checkpoint) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    """Return the constants and operators that compute a product under the name of the weight."""
    stored = [checkpoint.refer(product.tensor, product.rows)]
    if product.factor is not None:
        stored.append(checkpoint.refer(product.factor))
    factors = [f"{name}.{i}" for i in range(len(stored))]
    nodes = [
        helper.make_node("Cast", [tensor], [factor], to=TensorProto.FLOAT)
        for tensor, factor in zip(stored, factors, strict=True)
    ]
    constants = []
    if product.number is not None:
        constants.append(numpy_helper.from_array(np.array(product.number, np.float32), f"{name}.number"))
        factors.append(f"{name}.number")
    for factor in factors[1:]:
        left = factors[0] if nodes[-1].op_type == "Cast" else nodes[-1].output[0]
        nodes.append(helper.make_node("Mul", [left, factor], [f"{factor}.product"]))
    # The last operator gives the weight.
    nodes[-1].output[0] = name
    return constants, nodes
