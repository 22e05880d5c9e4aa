"""The int8 graph: near fp32, and each galaxy's redshift its own whoever lies beside it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.exporting.quantized import quantize
from tests.factories import make_arrays

NUM_ROWS = 64


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network of three dense layers in fp32 and in int8."""
    rng = np.random.default_rng(0)
    shapes = {"of_images": (5120, 8), "of_magnitudes": (5, 8), "of_both": (8, 1)}
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.01, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Flatten", ["images"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "of_images"], ["a"], name="a"),
        helper.make_node("MatMul", ["magnitudes", "of_magnitudes"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["both"]),
        helper.make_node("MatMul", ["both", "of_both"], ["redshifts"], name="c"),
    ]
    images, magnitudes, redshifts = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *shape])
        for name, shape in (("images", (5, 32, 32)), ("magnitudes", (5,)), ("redshifts", (1,)))
    )
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [images, magnitudes], [redshifts], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    folder = tmp_path_factory.mktemp("int8")
    onnx.save(model, folder / "fp32.onnx")
    quantize(folder / "fp32.onnx", folder / "int8.onnx", *inputs().values())
    return folder / "fp32.onnx", folder / "int8.onnx"


def inputs() -> dict[str, np.ndarray]:
    arrays = make_arrays(NUM_ROWS)
    return {name: arrays[name].astype(np.float32) for name in ("images", "magnitudes")}


def run(graph: Path, rows: slice = slice(None)) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["redshifts"], {name: array[rows] for name, array in inputs().items()})[0]


def test_int8_is_near_fp32_and_not_it(graphs: tuple[Path, Path]) -> None:
    full, reduced = map(run, graphs)

    # 8 bits resolve 1/255 of the range; a few layers lose a few of them.
    assert 0 < np.abs(full - reduced).max() < 0.05 * np.ptp(full)


def test_a_galaxy_alone_gets_the_bits_it_gets_among_others(graphs: tuple[Path, Path]) -> None:
    together = run(graphs[1])

    assert np.array_equal(run(graphs[1], slice(5, 6)), together[5:6])


def test_nothing_but_the_graph_is_left_behind(graphs: tuple[Path, Path]) -> None:
    assert sorted(path.name for path in graphs[1].parent.iterdir()) == ["fp32.onnx", "int8.onnx"]
