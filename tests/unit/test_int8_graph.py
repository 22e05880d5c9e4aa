"""The int8 graph: near fp32 on every CPU, and each galaxy's redshift independent of its neighbours in the batch."""

import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from scripts.models.export.quantized import quantize
from tests.factories import make_arrays

NUM_ROWS = 150
"""More than are given to the graph at once."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network with one MLP, in fp32 and in int8, next to a checkpoint that holds one of its weights."""
    rng = np.random.default_rng(0)
    shapes = {
        "encoder.patches": (5120, 8),
        "encoder.blocks.0.expand.weight": (8, 32),
        "encoder.last.reduce.weight": (32, 8),
        "magnitude_branch.0.weight": (5, 8),
        "final.1.weight": (8, 1),
        "final.1.bias": (1,),
    }
    weights = {name: rng.normal(0, 0.01, shape).astype(np.float16) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Flatten", ["images"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "encoder.patches"], ["a"], name="a"),
        helper.make_node("Add", ["a", "a"], ["twice"], name="twice"),
        helper.make_node("MatMul", ["twice", "encoder.blocks.0.expand.weight"], ["b"], name="b"),
        helper.make_node("MatMul", ["b", "encoder.last.reduce.weight"], ["c"], name="c"),
        helper.make_node("MatMul", ["magnitudes", "magnitude_branch.0.weight"], ["d"], name="d"),
        helper.make_node("Add", ["c", "d"], ["both"]),
        helper.make_node("Relu", ["both"], ["joined"]),
        helper.make_node("MatMul", ["joined", "final.1.weight"], ["e"], name="e"),
        helper.make_node("Add", ["e", "final.1.bias"], ["redshifts"]),
    ]
    images, magnitudes, redshifts = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *shape])
        for name, shape in (("images", (5, 32, 32)), ("magnitudes", (5,)), ("redshifts", (1,)))
    )
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [images, magnitudes], [redshifts], constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    folder = tmp_path_factory.mktemp("int8")
    onnx.save(model, folder / "fp32.onnx")
    save_file({"encoder.patches": weights["encoder.patches"]}, folder / "weights.safetensors")
    quantize(folder / "fp32.onnx", folder / "weights.safetensors", folder / "int8.onnx", *inputs().values())
    return folder / "fp32.onnx", folder / "int8.onnx"


def inputs() -> dict[str, np.ndarray]:
    """The first galaxy and the last one have the largest and the smallest numbers."""
    arrays = make_arrays(NUM_ROWS)
    arrays["images"][0] *= 2
    arrays["images"][-1] = -arrays["images"][0]
    return {name: arrays[name].astype(np.float32) for name in ("images", "magnitudes")}


def run(graph: Path, rows: slice = slice(None)) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["redshifts"], {name: array[rows] for name, array in inputs().items()})[0]


def test_int8_is_near_fp32_and_not_it(graphs: tuple[Path, Path]) -> None:
    full, reduced = map(run, graphs)

    # 8 bits resolve 1/255 of the range; a few layers lose a few of them.
    assert 0 < np.abs(full - reduced).max() < 0.05 * np.ptp(full)


def test_the_mean_is_that_of_fp32(graphs: tuple[Path, Path]) -> None:
    full, reduced = (run(graph).astype(np.float64) for graph in graphs)

    # As closely as one number of fp32 can be corrected.
    assert abs((reduced - full).mean()) <= 2 * np.finfo(np.float32).eps * np.abs(full).max()


def test_only_the_mlp_is_rounded(graphs: tuple[Path, Path]) -> None:
    model = onnx.load(graphs[1], load_external_data=False)

    rounded = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer if is_int8(weight)}
    whole = {name: weight for name, weight in rounded.items() if weight.ndim == 2}
    assert set(whole) == {f"encoder.{name}.weight_quantized" for name in ("blocks.0.expand", "last.reduce")}
    # With 7 bits two products of a weight and an activation, 255 at most, fit into 16: no CPU has to saturate.
    assert 32 < max(np.abs(weight.astype(int)).max() for weight in whole.values()) <= 64


def test_each_output_of_a_weight_has_a_scale_and_only_what_a_rounded_layer_reads_has_one(
    graphs: tuple[Path, Path],
) -> None:
    model = onnx.load(graphs[1], load_external_data=False)

    shapes = {
        one.name.removesuffix("_scale"): tuple(one.dims) for one in model.graph.initializer if "_scale" in one.name
    }
    weights = {"encoder.blocks.0.expand.weight": (32,), "encoder.last.reduce.weight": (8,)}
    assert shapes == {**weights, "twice": (), "b": ()}
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert kinds["twice_zero_point"] == kinds["b_zero_point"] == TensorProto.UINT8
    assert not model.metadata_props
    assert {node.domain for node in model.graph.node} == {""}, "of the standard alone: any CPU has them"


def test_activations_have_the_range_that_they_have_on_all_galaxies(graphs: tuple[Path, Path]) -> None:
    (patches,) = load_file(graphs[1].parent / "weights.safetensors").values()
    entering = 2 * (inputs()["images"].reshape(NUM_ROWS, -1) @ patches.astype(np.float32))

    model = onnx.load(graphs[1], load_external_data=False)

    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if one.name.startswith("twice_")}
    # 255 steps; the product adds up in another order.
    assert found["twice_scale"] == pytest.approx(np.ptp(entering) / 255, rel=1e-4)
    assert found["twice_zero_point"] == round(-entering.min() / np.ptp(entering) * 255)


def test_the_same_graph_comes_again_from_another_folder_and_nothing_is_logged(
    graphs: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full, checkpoint = (
        Path(shutil.copy(graphs[0].with_name(name), tmp_path)) for name in ("fp32.onnx", "weights.safetensors")
    )

    quantize(full, checkpoint, tmp_path / "int8.onnx", *inputs().values())

    assert (tmp_path / "int8.onnx").read_bytes() == graphs[1].read_bytes()
    assert caplog.messages == []


def test_a_graph_that_cannot_be_read_is_named_and_nothing_stays_behind(
    graphs: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=r"gone\.onnx"):
        quantize(tmp_path / "gone.onnx", tmp_path / "weights", tmp_path / "int8.onnx", *inputs().values())

    assert list(tmp_path.iterdir()) == []
    assert logging.root.manager.disable == logging.NOTSET


def is_int8(weight: onnx.TensorProto) -> bool:
    return weight.data_type == TensorProto.INT8


def test_weights_of_the_checkpoint_are_read_there(graphs: tuple[Path, Path]) -> None:
    model = onnx.load(graphs[1], load_external_data=False)

    outside = [weight.name for weight in model.graph.initializer if weight.data_location == TensorProto.EXTERNAL]
    assert outside == ["checkpoint.encoder.patches"]


def test_a_galaxy_alone_gets_the_bits_it_gets_among_others(graphs: tuple[Path, Path]) -> None:
    together = run(graphs[1])

    assert np.array_equal(run(graphs[1], slice(5, 6)), together[5:6])


def test_nothing_but_the_graph_is_left_behind(graphs: tuple[Path, Path]) -> None:
    assert sorted(path.name for path in graphs[1].parent.iterdir()) == ["fp32.onnx", "int8.onnx", "weights.safetensors"]
