import importlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inference import engines
from inference.checksum import file_sha256
from inference.engines.folded import FoldedAstroMAE
from inference.errors import WeightsError
from inference.model.astromae import NUM_PARAMETERS, AstroMAE, Variant
from inference.model.weights import load_astromae, save_weights
from inference.models import shipped
from scripts.command.errors import CommandError
from scripts.command.program import exit_status, usage
from scripts.convert import main
from scripts.models.conversion import isolation, published, unpickle, weights
from scripts.models.conversion.convert import convert
from scripts.models.conversion.isolation import Checkpoint, read_pickled
from scripts.models.conversion.structure import read_variant
from scripts.models.conversion.weights import to_ours, to_published
from tests.published_network import HEADS, ViT_Astro, load, random_network, save

TRUSTED = {"TRUST_PICKLE": "1"}
AS_PUBLISHED = Variant(num_heads=HEADS, has_joint_relus=False, pools_first=True)


@pytest.fixture(scope="module")
def network() -> ViT_Astro:
    return random_network()


@pytest.fixture(scope="module")
def pickled(network: ViT_Astro, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(network, tmp_path_factory.mktemp("published") / "published.pt")


@pytest.fixture(scope="module")
def checkpoint(pickled: Path) -> Checkpoint:
    """What the file holds, read in this process: the other one is a test of its own."""
    return Checkpoint(*unpickle.read(pickled))


def galaxies(num: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(num, 5, 32, 32, generator=generator), 18 + torch.randn(num, 5, generator=generator)


def of_published(network: nn.Module, images: Tensor, magnitudes: Tensor) -> Tensor:
    with torch.inference_mode():
        return network([images, magnitudes]).squeeze(1)


def of_ours(model: AstroMAE, images: Tensor, magnitudes: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images, magnitudes)


def agree(ours: Tensor, theirs: Tensor) -> None:
    # Both add up the same products of float32, in another order.
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


# --------------------------------------------------------------------------------------- published to ours


def test_a_published_checkpoint_predicts_the_same_as_safetensors(
    network: ViT_Astro, pickled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "converted.safetensors"

    assert exit_status(main, {"FILE": str(pickled), "TO": str(target), "TRUST_PICKLE": "1"}) == 0
    model = load_astromae(target)
    agree(of_ours(model, *galaxies()), of_published(network, *galaxies()))
    assert model.variant == AS_PUBLISHED
    assert load_astromae(target.read_bytes()).variant == AS_PUBLISHED
    said = capsys.readouterr().out
    assert f"{NUM_PARAMETERS:,} parameters, every name and shape fits" in said
    assert "No scaling of images, magnitudes, redshifts was given" in said
    images, magnitudes = (tensor.numpy() for tensor in galaxies())
    engine = engines.load("auto", target, num_threads=1)
    assert "auto fell back to torch" in str(engine.note)
    answer = engine.predict(images, magnitudes.astype(np.float64))
    agree(torch.tensor(answer), of_published(network, *galaxies()))


@pytest.mark.parametrize("variant", [AS_PUBLISHED, Variant()], ids=["published", "ours"])
def test_what_was_converted_is_said_and_that_it_is_slow_only_of_the_published_variant(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled, target = tmp_path / "a.pt", tmp_path / "b.safetensors"
    tensors, _ = to_published(AstroMAE(variant))
    published.write(tensors, variant, pickled)
    monkeypatch.setattr(isolation, "read_pickled", lambda path: Checkpoint(*unpickle.read(path)))
    scalings = tmp_path / "scalings.json"
    scalings.write_text('{"image_center": [0, 0, 0, 0, 0], "magnitude_scale": [1, 1, 1, 1, 1]}')

    written, (fits, *notes) = convert(str(pickled), str(target), str(scalings), trusted=True)

    assert written == target
    assert fits == f"{pickled}: {NUM_PARAMETERS:,} parameters, every name and shape fits"
    assert notes[0].startswith("note  No scaling of redshifts was given: ")
    assert notes[1:] == (
        [] if variant == Variant() else [f"note  It is the published variant, computed by torch alone: {variant}."]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.safetensors", "scalings.json"]


def test_weights_that_do_not_read_back_are_not_left_behind(
    pickled: Path, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "read_pickled", lambda _: checkpoint)
    monkeypatch.setattr("inference.model.weights.save_weights", lambda _, path, half: path.write_bytes(b"a full disk"))

    with pytest.raises(WeightsError):
        convert(str(pickled), str(tmp_path / "to.safetensors"), "", trusted=True)
    assert list(tmp_path.iterdir()) == []


def test_the_folded_network_refuses_what_it_does_not_compute(checkpoint: Checkpoint) -> None:
    model, _ = to_ours(checkpoint, {})

    with pytest.raises(WeightsError, match="engine=torch"):
        FoldedAstroMAE(model)


def test_weights_of_an_unknown_variant_are_refused(tmp_path: Path) -> None:
    model = AstroMAE(AS_PUBLISHED)
    save_weights(model, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes().replace(b"num_heads", b"new_heads")

    with pytest.raises(WeightsError, match="this version does not know"):
        load_astromae(content)


def test_scalings_are_taken_over(checkpoint: Checkpoint, network: ViT_Astro) -> None:
    scalings = {"image_softening": [2] * 5, "magnitude_center": [1, 2, 3, 4, 5], "redshift_scale": 0.5}
    images, magnitudes = galaxies()

    model, notes = to_ours(checkpoint, scalings)

    stretched = torch.asinh(images / 2)
    centred = magnitudes - torch.tensor([1.0, 2, 3, 4, 5])
    agree(of_ours(model, images, magnitudes), of_published(network, stretched, centred) / 2)
    assert notes == ()


@pytest.mark.parametrize(
    ("scalings", "said"),
    [
        ({}, "images, magnitudes, redshifts"),
        ({"magnitude_center": [0] * 5}, "images, redshifts"),
        ({"image_scale": [1] * 5, "redshift_center": 0}, "magnitudes"),
    ],
)
def test_what_is_not_scaled_is_said(scalings: dict[str, Any], said: str) -> None:
    (note,) = weights._scaling_notes(scalings)

    assert note == f"No scaling of {said} was given: the network reads and answers in the units of its training."


def test_without_scalings_every_number_is_read_as_it_is() -> None:
    found = weights._scalings({})

    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == weights.SCALINGS
    pixels = torch.tensor([-3.0, 0.0, 0.5, 900.0])
    stretched = torch.asinh(pixels / found["image_softening"].flatten()[0])
    torch.testing.assert_close(stretched / found["image_scale"].flatten()[0], pixels, rtol=3e-7, atol=0)
    for name in ("image_center", "magnitude_center", "redshift_center"):
        assert not found[name].any()
    assert (found["magnitude_scale"] == 1).all()
    assert found["redshift_scale"] == 1
    # With a softening of its own the stretch is all there is.
    assert (weights._scalings({"image_softening": [2] * 5})["image_scale"] == 1).all()


@pytest.mark.parametrize(
    ("scalings", "named"),
    [
        ({"image_softness": 1}, "no scaling image_softness"),
        ({"magnitude_scale": [1, 2]}, r"magnitude_scale is \[1, 2\]"),
    ],
)
def test_a_wrong_scaling_is_named(scalings: dict[str, Any], named: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(CommandError, match=named):
        to_ours(checkpoint, scalings)


# ------------------------------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.3.attn.q_bias": None}, "missing: blocks.3.attn.q_bias"),
        ({"inception_model.vis_inception.8.branch4.1.bn.weight": None}, "vis_inception.8.branch4.1.bn.weight"),
        ({"blocks.3.attn.k_bias": torch.zeros(192)}, "unexpected: blocks.3.attn.k_bias"),
        ({"concat_block.2.bias": torch.zeros(2)}, "concat_block.2.bias (2,) instead of (1,)"),
        ({"head.bias": torch.full((192,), torch.nan)}, "not finite: head.bias"),
        ({"inception_model.conv2d_init.bias": torch.zeros(32)}, "conv2d_init.bias and vis_inception.0.bias differ"),
    ],
    ids=["missing", "missing deep inside", "unexpected", "shape", "not finite", "alias"],
)
def test_a_tensor_that_does_not_fit_is_named(changes: dict[str, Any], message: str, checkpoint: Checkpoint) -> None:
    tensors = {name: value for name, value in {**checkpoint.tensors, **changes}.items() if value is not None}

    with pytest.raises(CommandError) as refused:
        to_ours(Checkpoint(tensors, checkpoint.modules), {})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        ("", {"class": "ResNet"}, "holds a ResNet, not the published network"),
        ("blocks.4.attn", {"num_heads": 6}, "have several values of num_heads"),
        ("blocks.4.attn", {"scale": 1.0}, "blocks.4.attn has scale 1.0, not 0.125"),
        ("blocks.4.mlp.act", {"class": "ReLU"}, "blocks.4.mlp.act has class ReLU, not GELU"),
        ("fc_norm", {"eps": 1e-5}, "fc_norm has eps 1e-05, not 1e-06"),
        ("inception_model.vis_inception.8", {"is_custom": False}, "has is_custom False, not True"),
        ("inception_model.vis_inception.3.branch4.0", {"class": "AvgPool2d"}, "branch4.0 has class AvgPool2d"),
        ("inception_model.vis_inception.3.branch1.bn", {"eps": 1e-3}, "branch1.bn has eps 0.001, not 1e-05"),
        ("inception_model.vis_inception.3.branch3.1.conv", {"padding": [2, 1]}, "has padding [2, 1], not 2"),
        ("vit_block.3", {"class": "ReLU"}, "some of the joints"),
    ],
)
def test_a_network_of_another_function_is_refused(
    module: str, changes: dict[str, Any], message: str, checkpoint: Checkpoint
) -> None:
    modules = {**checkpoint.modules, module: {**checkpoint.modules.get(module, {}), **changes}}

    with pytest.raises(CommandError) as refused:
        to_ours(Checkpoint(checkpoint.tensors, modules), {})
    assert message in str(refused.value)


VIS = "inception_model.vis_inception"
CHANGES: list[tuple[str, str, Any]] = [
    ("blocks.5", "class", "Block"),
    ("blocks.5", "class_token", False),
    *(("blocks.0.PCM." + place, key, 7) for place in "03" for key in ("groups", "kernel_size", "stride", "padding")),
    ("blocks.0.PCM.0", "class", "Conv1d"),
    ("blocks.0.PCM.1", "class", "LayerNorm"),
    ("blocks.0.PCM.1", "track_running_stats", False),
    ("blocks.0.PCM.2", "class", "ReLU"),
    ("blocks.0.PCM.3", "class", "Conv1d"),
    ("fc_norm", "class", "GroupNorm"),
    ("patch_embed.proj", "class", "Linear"),
    ("patch_embed.proj", "stride", [8, 4]),
    ("patch_embed.proj", "padding", 1),
    *((f"{VIS}.{block}", "class", "Block") for block in (2, 3, 5, 6, 8)),
    *((f"{VIS}.{block}", "is_custom", block != 8) for block in (2, 3, 5, 6, 8)),
    *(
        (f"{VIS}.6.{branch}.conv", key, 5)
        for branch in ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1")
        for key in ("padding", "stride", "dilation")
    ),
    *((f"{VIS}.{place}", key, value) for place in (1, 4, 7) for key, value in (("class", "Pool"), ("kernel_size", 3))),
    *((f"{VIS}.8.branch4.0", key, 4) for key in ("kernel_size", "stride", "padding")),
    *((f"inception_model.magnitude_block.{place}", "class", "Tanh") for place in (1, 3, 5, 7)),
    *((name, "class", "Tanh") for name in ("vit_block.1", f"{VIS}.11", "concat_block.1")),
]


@pytest.mark.parametrize(("module", "key", "value"), CHANGES, ids=lambda value: str(value))
def test_whatever_else_a_network_computes_is_told(module: str, key: str, value: Any, checkpoint: Checkpoint) -> None:
    assert checkpoint.modules[module][key] != value
    modules = {**checkpoint.modules, module: {**checkpoint.modules[module], key: value}}

    with pytest.raises(CommandError) as refused:
        read_variant(modules)

    message = str(refused.value)
    assert message.startswith(f"The file's network computes something else than AstroMAE: {module} has {key} {value}, ")
    assert message.count(";") == 0


@pytest.mark.parametrize(
    ("part", "facts", "said"),
    [
        ("attn", {"num_heads": 5, "scale": 1.0}, "5 attention heads do not divide 192."),
        ("attn", {"num_heads": 0}, "0 attention heads do not divide 192."),
        ("attn", {"num_heads": None}, "have several values of num_heads, or none; 0 attention heads do not"),
        ("norm1", {"eps": 1e-3}, "blocks.0.norm1 … blocks.11.norm2 have several values of eps, or none."),
        ("attn", {"scale": 1.0}, "blocks.7.attn has scale 1.0, not 0.125; and 4 more."),
    ],
)
def test_what_all_cells_have_is_told_once(part: str, facts: dict[str, Any], said: str, checkpoint: Checkpoint) -> None:
    modules = dict(checkpoint.modules)
    for block in range(12):
        modules[f"blocks.{block}.{part}"] = {**modules[f"blocks.{block}.{part}"], **facts}

    with pytest.raises(CommandError) as refused:
        read_variant(modules)

    assert str(refused.value).endswith(said) or said in str(refused.value)


def test_the_variant_is_read_from_the_modules(checkpoint: Checkpoint) -> None:
    assert read_variant(checkpoint.modules) == AS_PUBLISHED

    norms = [f"blocks.{block}.{norm}" for block in range(12) for norm in ("norm1", "norm2")]
    joints = ("vit_block.3", f"{VIS}.13", "inception_model.magnitude_block.9")
    modules = {**checkpoint.modules, **{name: {**checkpoint.modules[name], "eps": 1e-3} for name in norms}}
    modules |= {name: {"class": "ReLU"} for name in (*joints, f"{VIS}.1.0")}
    modules[f"{VIS}.1.1"] = checkpoint.modules[f"{VIS}.1"]
    for block in (2, 3, 5, 6, 8):
        modules[f"{VIS}.{block}.branch4.2"] = {"class": "AvgPool2d", "kernel_size": 3, "stride": 1, "padding": 1}
        modules[f"{VIS}.{block}.branch4.0"] = {"class": "Conv2d"}

    assert read_variant(modules) == Variant(num_heads=HEADS, norm_epsilon=1e-3, has_joint_relus=True, pools_first=False)
    del modules[f"{VIS}.13"]
    with pytest.raises(CommandError, match="some of the joints between the branches have activations and some have no"):
        read_variant(modules)


# ------------------------------------------------------------------------------------------------- pickles


class Malice:
    """Runs something when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def test_a_pickle_that_runs_a_command_is_refused_without_running_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "ran"
    bad = nn.Linear(1, 1)
    bad.payload = Malice(os.system, f"touch {proof}")  # type: ignore[assignment]
    torch.save(nn.DataParallel(bad), tmp_path / "bad.pt")

    assert exit_status(main, {"FILE": str(tmp_path / "bad.pt"), "TRUST_PICKLE": "1"}) == 1
    said = capsys.readouterr().err
    assert "was refused, and nothing in it was run" in said
    assert "posix.system" in said
    assert not proof.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Malice(eval, "1"), "eval"),
        (Malice(getattr, "a", "upper"), "getattr"),
        (Malice(torch.load, "a"), "torch.serialization.load"),
        (Malice(torch.jit.load, "a"), "torch.jit"),
        (nn.Linear, "a type at its top"),
        ({"head.weight": torch.ones(1)}, "a dict at its top"),
        ([Path("a")], "pathlib"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_is_no_network_is_refused_by_name(content: Any, named: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "bad.pt")

    with pytest.raises(pickle.UnpicklingError, match=named):
        unpickle.read(tmp_path / "bad.pt")


@pytest.mark.parametrize("name", ["os.Attention", "builtins.Mlp", "torch.nn.modules.module.register_module_hook"])
def test_a_name_of_the_network_stands_for_a_stub_wherever_it_lies(name: str) -> None:
    module, _, attribute = name.rpartition(".")

    found = unpickle.RestrictedUnpickler(io.BytesIO()).find_class(module, attribute)

    assert issubclass(found, unpickle.Stub)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no pickle")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")

    with pytest.raises(pickle.UnpicklingError, match="no zip archive"):
        unpickle.read(tmp_path / "text.pt")
    with pytest.raises(pickle.UnpicklingError, match="TorchScript"):
        unpickle.read(tmp_path / "script.pt")


def test_the_reader_has_no_credentials(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        seen.update(options["env"])
        raise CommandError("enough")

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("scripts.models.conversion.isolation.subprocess.run", run)

    with pytest.raises(CommandError, match="enough"):
        read_pickled(pickled)
    assert set(seen) == {"PATH", "PYTHONPATH", "OMP_NUM_THREADS", "HOME"}


@pytest.mark.parametrize(
    ("status", "err", "said"),
    [
        (
            3,
            " a list at its top \n",
            r"was refused, and nothing in it was run: it holds a list at its top\. A published",
        ),
        (1, "first\nlast\n", r"cannot be read: its reader ended with status 1 \(last\)\.$"),
        (-9, "", r"cannot be read: its reader ended with status -9 \(no message\)\.$"),
        (0, "", r"cannot be read: its reader ended with status 0 \(no message\)\.$"),
        (None, "", r"is still being read after 180 s: it is not a network\.$"),
    ],
)
def test_how_the_reader_ended_is_told(
    status: int | None, err: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        asked.update(options, command=command)
        if status is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, status, "", err)

    monkeypatch.setattr("scripts.models.conversion.isolation.subprocess.run", run)
    (tmp_path / "my.pt").touch()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CommandError, match=said):
        read_pickled(Path("my.pt"))

    *_, source, target = asked["command"]
    assert source == str(tmp_path / "my.pt")
    # It works in a folder that goes with it.
    assert asked["cwd"] == asked["env"]["HOME"] == str(Path(target).parent)
    assert not Path(target).parent.exists()
    assert asked["stdin"] == subprocess.DEVNULL


def test_a_pickle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"gone\.pt: there is no such file\.$"):
        read_pickled(tmp_path / "gone.pt")


# --------------------------------------------------------------------------------------- ours to published


def test_our_weights_predict_the_same_under_the_published_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "ours.pt"
    images, magnitudes = galaxies()

    assert exit_status(main, {"FILE": str(shipped().weights), "TO": str(target)}) == 0
    model = load_astromae(shipped().weights)
    stretched = torch.asinh(images / model.image_softening)
    agree(of_published(load(target), stretched, magnitudes), of_ours(model, images, magnitudes))
    assert "Feed it asinh(image / s)" in capsys.readouterr().out
    back, _ = to_ours(Checkpoint(*unpickle.read(target)), {})
    assert back.variant == Variant()
    agree(of_ours(back, images, magnitudes), of_ours(model, images, magnitudes))


def test_published_tensors_come_back_bit_for_bit(network: ViT_Astro, checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, _ = to_ours(checkpoint, {})

    tensors, softening = to_published(model)
    published.write(tensors, model.variant, tmp_path / "again.pt", softening=softening)

    again, modules = unpickle.read(tmp_path / "again.pt")
    assert softening is None
    assert again.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in checkpoint.tensors.items())
    assert modules.keys() == checkpoint.modules.keys()
    for name, facts in checkpoint.modules.items():
        # A SiLU in place computes the same; the rest is what layers compute by, and what the public code looks at.
        wanted = {key: value for key, value in facts.items() if key != "inplace"}
        assert {key: modules[name].get(key) for key in wanted} == wanted, name
    assert modules["patch_embed"].items() >= {"patch_size": [8, 8], "grid_size": [4, 4]}.items()
    assert modules["blocks.11.mlp"]["hidden_features"] == 768
    assert modules["inception_model"]["device"] == "cpu"
    read = load(tmp_path / "again.pt")
    assert not hasattr(read, "image_softening")
    trained = {name: one.requires_grad for name, one in read.named_parameters()}
    assert trained == {name: one.requires_grad for name, one in network.named_parameters()}


def test_no_published_name_can_be_imported_after_the_file_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in published.CLASS_MODULES.values():
        monkeypatch.delitem(sys.modules, module, raising=False)
    mine = ModuleType("blocks")
    monkeypatch.setitem(sys.modules, "blocks", mine)
    before = dict(sys.modules)

    with published._published_classes() as classes:
        assert {name: kind.__module__ for name, kind in classes.items()} == published.CLASS_MODULES
        for name, module in published.CLASS_MODULES.items():
            assert getattr(importlib.import_module(module), name) is classes[name]
        monkeypatch.setitem(sys.modules, "imported_meanwhile", mine)

    assert sys.modules == {**before, "imported_meanwhile": mine}


# ------------------------------------------------------------------------------------------------ the command


def test_a_pickle_is_not_opened_without_permission(
    pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.models.conversion.isolation.read_pickled", lambda _: pytest.fail("it was opened"))

    assert exit_status(main, {"FILE": str(pickled), "TO": str(tmp_path / "to.safetensors")}) == 2
    assert "TRUST_PICKLE=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "FILE=checkpoint.pt names"),
        ({"FILE": "none.pt"}, "FILE=none.pt: there is no such file"),
        ({"FILE": "a.pt", "TO": "a.pt", **TRUSTED}, "a.pt exists already"),
        ({"FILE": "a.pt", "SCALINGS": "none.json", "TO": "new", **TRUSTED}, "SCALINGS=none.json cannot be read"),
        ({"FILE": "a.pt", "SCALINGS": "list.json", "TO": "new", **TRUSTED}, "holds no JSON object"),
        ({"FILE": "a.safetensors", "SCALINGS": "list.json", "TO": "new"}, "SCALINGS belong to a published checkpoint"),
        ({"FILE": "a.pt", "TRUST_PICKLE": "maybe"}, "TRUST_PICKLE is 1 or 0"),
    ],
)
def test_wrong_usage_names_the_variable(
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "list.json").write_text(json.dumps([1]))

    assert exit_status(main, variables) == 2
    assert said in capsys.readouterr().err


def test_help_says_what_every_variable_is() -> None:
    said = [line.split(maxsplit=1) for line in usage(main).splitlines() if line.startswith("  ")]

    assert [name for name, _ in said] == ["FILE", "TO", "SCALINGS", "TRUST_PICKLE"]
    assert said[0][1] == "a file"


def test_the_command_prints_what_was_noted_and_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"x" * 1_234_567)

    def convert(*given: str, trusted: bool) -> tuple[Path, list[str]]:
        asked.extend([*given, trusted])
        return target, ["one note", "another"]

    monkeypatch.setattr("scripts.convert.convert", convert)

    variables = {"FILE": "a.pt", "TO": "b", "SCALINGS": "s.json", "TRUST_PICKLE": "1"}
    assert exit_status(main, variables) == 0

    assert asked == ["a.pt", "b", "s.json", True]
    assert capsys.readouterr().out == f"one note\nanother\n{target}  1.2 MB, sha256 {file_sha256(target)}\n"
