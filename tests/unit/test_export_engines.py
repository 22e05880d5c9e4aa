"""Which files an export leaves next to a checkpoint, whatever its engines say, and when it need not be made again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from inference.checksum import file_sha256
from inference.engines import exported
from inference.engines.exported import Accuracy, Agreement, Difference, ExportCard, Rounding
from inference.engines.native.pack import pack_path
from inference.engines.unavailable import UnavailableError
from inference.errors import WeightsError
from inference.model.astromae import DEPTH, AstroMAE
from inference.models import shipped
from scripts.command.errors import CommandError, UsageError
from scripts.models.export import engines, rounding
from scripts.models.export.engines import NATIVE_INT8, export, exported_already
from scripts.models.export.judge import NUM_COMPARED
from scripts.models.training.recipe import FULL
from scripts.simulation.sdss import load_sources
from tests.factories import make_arrays
from tests.fake_engine import FakeEngine

NUM_ROWS = NUM_COMPARED + 3
AGREEMENT = Agreement(version="1", num_rows=NUM_COMPARED, max_abs=0.0, mean_abs=0.0)
SAME = Difference(
    num_rows=3, rms=0, mean=0, p999=0, largest=0, nmad=(0, 0), bias=(0, 0), outlier_005=(0, 0), coverage=0
)
ODD = msgspec.structs.replace(SAME, rms=1.0)


def accuracy(engine: str) -> Accuracy:
    return Accuracy(engine=engine, nmad=0.01, bias=0.0, outlier_005=0.0)


ROUNDING = Rounding(num_rows=1, ranges={}, shift=0.0, accuracy=accuracy("native"))


class Network(nn.Module):
    """Gives a tenth of r, as `FakeEngine` does, and has seven weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(7))

    def forward(self, images: Tensor, magnitudes: Tensor) -> Tensor:
        assert images.dtype == magnitudes.dtype == torch.float32
        return magnitudes[:, 2] / 100


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "mine.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(NUM_ROWS), 2)):
        magnitudes = np.repeat(part[:, None], 5, axis=1).astype(np.float64)
        images = np.zeros((len(part), 5, 2, 2), np.float32)
        save_file(
            {"images": images, "magnitudes": magnitudes, "redshifts": part / 1e4}, folder / f"{number}.safetensors"
        )
    return folder


class Export:
    """What an export calls that takes long, and what it was asked."""

    def __init__(self, patch: pytest.MonkeyPatch, checkpoint: Path) -> None:
        self.judged: list[tuple[str, list[str], int]] = []
        self.differences = {"bf16": [SAME, SAME], "int8": [SAME, SAME], NATIVE_INT8: [SAME, SAME]}
        self.unavailable: set[str] = set()
        for name, value in {
            "load_astromae": lambda _: Network(),
            "write_graph": lambda model, weights, target: target.write_bytes(b"graph"),
            "_installed": lambda: ["onnxruntime", "openvino"],
            "can_prepare": lambda: True,
            "prepare": lambda path: pack_path(path, file_sha256(path)).write_bytes(b"pack"),
            "NativeEngine": lambda *_, **__: FakeEngine(),
            "_open": self._open,
            "quantize": lambda graph, weights, target, images, magnitudes: target.write_bytes(
                b"int8" if (len(images), images.dtype, magnitudes.dtype) == (NUM_COMPARED, "f4", "f4") else b"?"
            ),
            "measure_rounding": self._rounding,
            "judge": self._judge,
            "simulated_blocks": lambda: iter([{"redshifts": np.zeros(20)}]),
            "find_calibration": lambda *_: (None, ""),
        }.items():
            patch.setattr(engines, name, value)
        self._sha256 = file_sha256(checkpoint)

    def _open(self, name: str, graph: Path, card: ExportCard, precision: str = "fp32") -> FakeEngine:
        assert graph.read_bytes() == (b"int8" if precision == "int8" else b"graph")
        if precision in self.unavailable:
            raise UnavailableError("this machine has none")
        return FakeEngine()

    def _rounding(self, model: Any, weights: Path, sha256: str, full: Any) -> Rounding:
        pack_path(weights, sha256, "int8").write_bytes(b"pack")
        return ROUNDING

    def _judge(self, full: Any, reduced: dict[str, Any], blocks: Any, sigma: Any, threads: int) -> Any:
        num_rows = sum(len(block["redshifts"]) for block in blocks)
        turn = len(self.judged)
        self.judged.append(("real" if turn == 0 else "simulated", list(reduced), num_rows))
        assert sigma(np.zeros((1, 5)), np.ones(1, np.float32)) == pytest.approx([0.026])
        return accuracy("full"), {name: (accuracy(name), self.differences[name][turn]) for name in reduced}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Export:
    return Export(monkeypatch, checkpoint)


def files(checkpoint: Path) -> set[str]:
    """Return what lies next to a checkpoint, without the checksum in the names."""
    sha256 = file_sha256(checkpoint)
    return {path.name.replace(sha256, "SHA") for path in checkpoint.parent.iterdir()} - {checkpoint.name}


GRAPH = {"mine-SHA.onnx", "mine-SHA.json", "mine-SHA.native"}
INT8 = {"mine-SHA.int8.onnx", "mine-SHA.int8.native"}


def test_an_export_leaves_the_graphs_and_a_card_of_what_was_found(made: Export, checkpoint: Path, rows: Path) -> None:
    (checkpoint.parent / f"mine-{'0' * 64}.onnx").touch()

    card = export(checkpoint, rows)

    assert files(checkpoint) == GRAPH | INT8
    assert exported.read_card(checkpoint, file_sha256(checkpoint)) == card
    assert (card.weights_name, card.num_parameters) == ("mine.safetensors", 7)
    assert list(card.engines) == ["native", "onnxruntime", "openvino"]
    assert card.engines["native"] == AGREEMENT
    assert {name: one.engine for name, one in card.precisions.items()} == {
        "fp32": "full",
        "bf16": "bf16",
        "int8": "int8",
    }
    assert card.precisions["int8"].differences == {"real": SAME, "simulated": SAME}
    assert card.native_int8 is not None
    assert card.native_int8.accuracy.engine == NATIVE_INT8
    names = ["bf16", "int8", NATIVE_INT8]
    assert made.judged == [("real", names, 3), ("simulated", names, 20)]


def test_without_reduced_precisions_none_is_judged(made: Export, checkpoint: Path, rows: Path) -> None:
    int8 = exported.graph_path(checkpoint, file_sha256(checkpoint), "int8")
    int8.touch()

    card = export(checkpoint, rows, reduced=False)

    assert (card.precisions, card.native_int8, made.judged) == ({}, None, [])
    assert files(checkpoint) == GRAPH


@pytest.mark.parametrize(
    ("odd", "left", "second"),
    [
        ({"int8": [ODD, SAME]}, GRAPH | {"mine-SHA.int8.native"}, ["bf16", NATIVE_INT8]),
        ({"int8": [SAME, ODD]}, GRAPH | {"mine-SHA.int8.native"}, ["bf16", "int8", NATIVE_INT8]),
        ({NATIVE_INT8: [SAME, ODD]}, GRAPH | {"mine-SHA.int8.onnx"}, ["bf16", "int8", NATIVE_INT8]),
        ({"bf16": [ODD, SAME]}, GRAPH | INT8, ["int8", NATIVE_INT8]),
        ({name: [ODD, SAME] for name in ("bf16", "int8", NATIVE_INT8)}, GRAPH, None),
    ],
    ids=["int8 real", "int8 simulated", "native", "bf16", "all"],
)
def test_a_precision_that_is_not_equivalent_leaves_no_file(
    odd: dict[str, list[Difference]],
    left: set[str],
    second: list[str] | None,
    made: Export,
    checkpoint: Path,
    rows: Path,
) -> None:
    made.differences |= odd

    card = export(checkpoint, rows)

    assert files(checkpoint) == left
    assert [names for _, names, _ in made.judged[1:]] == ([second] if second else [])
    found = {**card.precisions, NATIVE_INT8: card.native_int8.accuracy if card.native_int8 else None}
    for name, differences in made.differences.items():
        one = found[name]
        assert one is not None
        assert bool(one.rejected) == (ODD in differences)
        assert ("simulated" in one.differences) == (differences[0] == SAME)


def test_a_precision_that_no_engine_has_here_is_left_out(made: Export, checkpoint: Path, rows: Path) -> None:
    made.unavailable = {"bf16"}

    assert list(export(checkpoint, rows).precisions) == ["fp32", "int8"]


@pytest.mark.parametrize(
    ("installed", "precision", "left"),
    [
        ("onnxruntime", "int8", GRAPH | INT8),
        ("openvino", "bf16", GRAPH | {"mine-SHA.int8.native"}),
    ],
)
def test_of_one_engine_its_own_precision_is_judged(
    installed: str,
    precision: str,
    left: set[str],
    made: Export,
    checkpoint: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_installed", lambda: [installed])

    assert list(export(checkpoint, rows).precisions) == ["fp32", precision]
    assert files(checkpoint) == left


def test_galaxies_that_only_compare_judge_nothing(made: Export, checkpoint: Path, rows: Path) -> None:
    (rows / "1.safetensors").unlink()

    assert export(checkpoint, rows).precisions == {}
    assert made.judged == []


def test_an_engine_that_differs_from_torch_leaves_nothing(
    made: Export, checkpoint: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "forward", lambda self, images, magnitudes: magnitudes[:, 2] / 99)

    with pytest.raises(CommandError, match="differs from torch"):
        export(checkpoint, rows)
    assert files(checkpoint) == set()


def test_what_is_compared_is_the_first_rows_in_order(tmp_path: Path, rows: Path) -> None:
    found = engines.read_rows(rows)

    assert found["magnitudes"][:, 0].tolist() == list(range(NUM_ROWS))
    with pytest.raises(UsageError, match="holds no safetensors shard to compare on"):
        engines.read_rows(tmp_path)


def test_only_graphs_of_other_weights_are_removed(checkpoint: Path) -> None:
    sha256, other = file_sha256(checkpoint), "0" * 64
    kept = {f"mine-{sha256}.onnx", f"mine-{sha256}.int8.native", f"mine-{other}.txt", f"yours-{other}.onnx"}
    gone = {f"mine-{other}{ending}" for ending in (".onnx", ".int8.onnx", ".json", ".native")}
    for name in kept | gone:
        (checkpoint.parent / name).touch()

    engines.remove_graphs_of_other_weights(checkpoint, sha256)

    assert {path.name for path in checkpoint.parent.iterdir()} == kept | {checkpoint.name}


@pytest.mark.parametrize(
    ("compared", "is_native", "precisions", "has_graph", "is_made"),
    [
        (["native", "onnxruntime", "openvino"], True, {}, False, True),
        (["onnxruntime", "openvino"], True, {}, False, False),
        (["onnxruntime", "openvino"], False, {}, False, True),
        (["native", "onnxruntime"], True, {}, False, False),
        (["native", "onnxruntime", "openvino"], True, {"int8": ""}, True, True),
        (["native", "onnxruntime", "openvino"], True, {"int8": ""}, False, False),
        (["native", "onnxruntime", "openvino"], True, {"int8": "odd"}, False, True),
        (["native", "onnxruntime", "openvino"], True, {"bf16": ""}, True, False),
    ],
)
def test_an_export_is_made_again_where_something_of_it_lacks(
    compared: list[str],
    is_native: bool,
    precisions: dict[str, str],
    has_graph: bool,
    is_made: bool,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sha256 = file_sha256(checkpoint)
    prepared: list[Path] = []
    monkeypatch.setattr(engines, "_installed", lambda: ["onnxruntime", "openvino"])
    monkeypatch.setattr(engines, "can_prepare", lambda: is_native)
    monkeypatch.setattr(engines, "prepare", prepared.append)
    card = ExportCard(
        weights_sha256=sha256,
        weights_name=checkpoint.name,
        num_parameters=1,
        engines=dict.fromkeys(compared, AGREEMENT),
        precisions={name: msgspec.structs.replace(accuracy(name), rejected=why) for name, why in precisions.items()},
    )
    assert exported_already(checkpoint) is None
    exported.graph_path(checkpoint, sha256).touch()
    exported.card_path(checkpoint, sha256).write_bytes(msgspec.json.encode(card))
    if has_graph:
        exported.graph_path(checkpoint, sha256, "int8").touch()

    assert exported_already(checkpoint) == (card if is_made else None)
    assert prepared == ([checkpoint] * 2 if is_native else [])


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.safetensors does not exist\. Make weights with `make train`\."):
        exported_already(tmp_path / "gone.safetensors")


def test_the_errors_of_redshifts_are_those_of_the_calibration_where_there_is_one() -> None:
    calibration: Any = SimpleNamespace(errors=SimpleNamespace(sigma="those of the calibration"))

    assert engines._sigma(calibration) == "those of the calibration"


# ----------------------------------------------------------------------------------------------- 8 bits


def test_8_bits_are_packed_with_the_shift_that_they_have_on_the_real_galaxies_measured(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    packed: dict[Path, Rounding] = {}

    class Rounded(FakeEngine):
        """Gives too much on average, less the shift that it was packed with."""

        def __init__(self, weights: Path, sha256: str, *, num_threads: int, precision: str) -> None:
            self.shift = packed[pack_path(weights, sha256, precision)].shift

        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            noise = rng.normal(0.25, 0.01, len(images)).astype(np.float32)
            return super().predict(images, magnitudes) + noise - np.float32(self.shift)

    def measure(model: Any, images: np.ndarray, magnitudes: np.ndarray) -> dict[str, Any]:
        assert images.dtype == magnitudes.dtype == np.float32
        return {"qkv": ((float(images.min()), float(magnitudes.max())),)}

    for name, value in {
        "real_images": lambda photometry, seed: np.full((len(photometry.magnitudes), 5, 2, 2), -2.0, np.float32),
        "measure_ranges": measure,
        "make_pack": lambda weights, sha256, target, rounding: packed.update({target: rounding}),
        "NativeEngine": Rounded,
    }.items():
        monkeypatch.setattr(rounding, name, value)
    sha256 = file_sha256(checkpoint)

    found = rounding.measure_rounding(Network(), checkpoint, sha256, FakeEngine())

    magnitudes = load_sources().of("selection").photometry.magnitudes
    assert found.num_rows == len(magnitudes) == 704
    assert found.ranges == {"qkv": ((-2.0, float(magnitudes.max().astype(np.float32))),)}
    # 704 draws of 0.01 around 0.25.
    assert found.shift == pytest.approx(0.25, abs=4 * 0.01 / 704**0.5)
    assert packed == {pack_path(checkpoint, sha256, "int8"): found}
    assert found.accuracy.rejected, "nothing has judged it yet"


def test_ranges_are_those_of_what_enters_the_layers_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the scale and shift of the norms, which the fast engines have in the weights behind them."""
    monkeypatch.setattr(rounding, "MICRO_BATCH", 2)
    torch.manual_seed(1)
    model = AstroMAE().eval()
    arrays = make_arrays(5)
    images, magnitudes = arrays["images"], arrays["magnitudes"].astype(np.float32)
    entered: dict[tuple[str, int], Tensor] = {}
    for place, block in enumerate(model.encoder.blocks):
        layers = {
            "qkv": block.norm1,
            "projection": block.attention.projection,
            "expand": block.norm2,
            "reduce": block.mlp[2],
        }
        for name, layer in layers.items():
            layer.register_forward_pre_hook(lambda _, inputs, key=(name, place): entered.update({key: inputs[0]}))
    with torch.inference_mode():
        model(torch.from_numpy(images), torch.from_numpy(magnitudes))

    found = rounding.measure_ranges(model, images, magnitudes)

    assert {name: len(limits) for name, limits in found.items()} == {
        "qkv": DEPTH,
        "projection": DEPTH,
        "expand": DEPTH,
        "reduce": DEPTH - 1,
    }
    for name, ranges in found.items():
        for place, limits in enumerate(ranges):
            x = entered[name, place]
            if place == DEPTH - 1 and name != "qkv":
                x = x[:, 1:]  # what follows the class token of the last block is in no average
            x = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) if name in ("qkv", "expand") else x
            assert limits == pytest.approx((float(x.min()), float(x.max())), abs=1e-4), (name, place)


def test_the_shipped_graphs_were_judged_on_as_many_galaxies_as_an_export_judges_on() -> None:
    card = exported.read_card(shipped().weights, file_sha256(shipped().weights))

    assert {engine.num_rows for engine in card.engines.values()} == {NUM_COMPARED}
    assert card.native_int8 is not None
    judged = [*card.precisions.values(), card.native_int8.accuracy]
    simulated = {one.differences["simulated"].num_rows for one in judged if "simulated" in one.differences}
    assert simulated == {rounding.NUM_SIMULATED}
    assert rounding.NUM_SIMULATED % rounding.BLOCK == 0
    # Of recipe s a model learns from renderings 1,000 s + 1 to 1,000 s + 4, say: none has the chances of these.
    assert FULL.renderings < rounding.SEED % 1_000


def test_simulated_galaxies_come_in_blocks_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "NUM_SIMULATED", 6)
    monkeypatch.setattr(rounding, "BLOCK", 2)
    seen: list[list[int]] = []

    def rows_of(population: Any, numbers: np.ndarray, seed: int) -> Any:
        seen.append(numbers.tolist())
        return msgspec.defstruct("Rows", ["images", "magnitudes", "redshifts"])(numbers, -numbers, numbers / 10)

    monkeypatch.setattr(rounding, "synthetic_rows", rows_of)

    blocks = list(rounding.simulated_blocks())

    assert seen == [[1, 2], [3, 4], [5, 6]]
    assert [block["redshifts"].tolist() for block in blocks] == [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    assert (blocks[0]["images"].tolist(), blocks[0]["magnitudes"].tolist()) == ([1, 2], [-1, -2])
