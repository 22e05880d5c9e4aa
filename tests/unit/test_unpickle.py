"""What is taken out of a pickled network: its tensors and plain attributes, by name, and nothing else."""

import json
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from scripts.models.conversion import unpickle


def saved(folder: Path, module: Any) -> Path:
    torch.save(module, folder / "my.pt")
    return folder / "my.pt"


def nested(depth: int) -> nn.Module:
    module: nn.Module = nn.Linear(1, 1)
    for _ in range(depth):
        module = nn.Sequential(module)
    return module


@pytest.mark.parametrize("is_parallel", [False, True])
def test_every_tensor_and_module_has_its_name(is_parallel: bool, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Sequential(nn.BatchNorm1d(1, eps=0.5), nn.Conv2d(1, 1, (3, 5))))

    tensors, modules = unpickle.read(saved(tmp_path, nn.DataParallel(network) if is_parallel else network))

    state = network.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())
    assert not any(tensor.requires_grad for tensor in tensors.values())
    assert {name: facts["class"] for name, facts in modules.items()} == {
        "": "Sequential",
        "0": "Linear",
        "1": "Sequential",
        "1.0": "BatchNorm1d",
        "1.1": "Conv2d",
    }
    assert (modules["0"]["in_features"], modules["1.0"]["eps"], modules["1.1"]["kernel_size"]) == (2, 0.5, [3, 5])
    assert modules["1.0"]["training"] is True
    assert "_parameters" not in modules["0"]


def test_a_module_alone_has_tensors_without_a_dot(tmp_path: Path) -> None:
    tensors, modules = unpickle.read(saved(tmp_path, nn.Linear(2, 1)))

    assert (sorted(tensors), list(modules)) == (["bias", "weight"], [""])


def test_tensors_of_views_are_their_own(tmp_path: Path) -> None:
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(torch.arange(16.0).reshape(4, 4).T)

    tensors, _ = unpickle.read(saved(tmp_path, layer))

    assert tensors["weight"].is_contiguous()
    assert torch.equal(tensors["weight"], layer.weight)


def test_modules_may_be_inside_each_other_but_not_without_end(tmp_path: Path) -> None:
    assert len(unpickle.read(saved(tmp_path, nested(20)))[1]) == 21

    with pytest.raises(pickle.UnpicklingError, match="modules inside modules without end"):
        unpickle.read(saved(tmp_path, nested(21)))


def test_what_is_larger_than_the_network_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, nn.Linear(2, 1))
    monkeypatch.setattr(unpickle, "MAX_BYTES", 100)

    with pytest.raises(pickle.UnpicklingError, match=r"^[\d,]+ bytes; the network has 64 million$"):
        unpickle.read(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("torch.nn.modules.linear.Linear", "Linear"),
        ("torch.nn.parallel.data_parallel.DataParallel", "DataParallel"),
        ("anything.at.all.ViT_Astro", "ViT_Astro"),
    ],
)
def test_modules_are_stubs_that_do_nothing(name: str, kind: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")

    with (tmp_path / "empty").open("wb+") as file:
        found = unpickle.RestrictedUnpickler(file).find_class(module, attribute)
    stub = found(1, two=2)
    stub.__setstate__({"eps": 0.5})
    stub.__setstate__([("eps", 1.0)])

    assert (found.__name__, vars(stub)) == (kind, {"eps": 0.5})


@pytest.mark.parametrize(
    "name", ["torch.ViT_Astro", "torch.nn.modules.linear.a b", "os.system", "torch.nn.functional.relu"]
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")

    with (tmp_path / "empty").open("wb+") as file, pytest.raises(pickle.UnpicklingError, match=f"^{name}$"):
        unpickle.RestrictedUnpickler(file).find_class(module, attribute)


def test_the_program_limits_itself_and_writes_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(unpickle.resource, "setrlimit", limits.__setitem__)
    target = tmp_path / "to.safetensors"
    monkeypatch.setattr(unpickle.sys, "argv", ["unpickle", str(saved(tmp_path, nn.Linear(2, 1))), str(target)])

    unpickle.main()

    assert limits == {resource.RLIMIT_CPU: (120, 120), resource.RLIMIT_FSIZE: (2**30, 2**30)}
    with safe_open(target, "pt") as file:
        assert sorted(file.keys()) == ["bias", "weight"]
        assert json.loads(file.metadata()["modules"])[""]["class"] == "Linear"

    (tmp_path / "my.pt").write_text("no pickle")
    with pytest.raises(SystemExit) as ended:
        unpickle.main()
    assert ended.value.code == unpickle.REFUSED
    assert capsys.readouterr().err == "no zip archive, as torch.save writes since version 1.6\n"
