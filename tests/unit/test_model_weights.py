"""Weights survive a round trip, and files that do not fit are refused by tensor name."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.checksum import file_sha256
from inference.errors import WeightsError
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae, save_weights


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    torch.manual_seed(3)
    return AstroMAE().eval()


@pytest.fixture(scope="module")
def stored(model: AstroMAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "full.safetensors"
    save_weights(model, path, half=False)
    return path


def predict(model: AstroMAE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        return model(torch.randn(4, 5, 32, 32, generator=generator), torch.randn(4, 5, generator=generator))


def store_changed(stored: Path, target: Path, **changes: torch.Tensor | None) -> Path:
    tensors = {**load_file(stored), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, target)
    return target


def test_full_precision_round_trip_is_exact(model: AstroMAE, stored: Path) -> None:
    assert torch.equal(predict(load_astromae(stored)), predict(model))


def test_weights_load_from_bytes(model: AstroMAE, stored: Path) -> None:
    assert torch.equal(predict(load_astromae(stored.read_bytes())), predict(model))


def test_half_precision_halves_the_file_and_keeps_the_prediction(model: AstroMAE, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "half.safetensors")

    assert (tmp_path / "half.safetensors").stat().st_size < 32 * 2**20
    assert (tmp_path / "half.safetensors").stat().st_mode & 0o777 == 0o644  # a Lambda function is another user
    # float16 keeps 11 bits of each weight; the sum over thousands of them averages that rounding.
    torch.testing.assert_close(predict(load_astromae(tmp_path / "half.safetensors")), predict(model), atol=1e-3, rtol=0)


def test_only_parameters_are_stored_in_half_precision(model: AstroMAE, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "half.safetensors")

    stored = load_file(tmp_path / "half.safetensors")
    whole = {name for name, tensor in stored.items() if tensor.dtype == torch.float32}
    buffers = {name for name, _ in model.named_buffers() if not name.endswith("num_batches_tracked")}
    assert whole == buffers | {"magnitude_branch.0.weight"}
    assert {"image_softening", "magnitude_center", "redshift_scale"} < whole


def test_loaded_model_is_ready_to_predict(stored: Path) -> None:
    loaded = load_astromae(stored)

    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_loading_leaves_initialisation_of_other_models_alone(stored: Path) -> None:
    load_astromae(stored)
    torch.manual_seed(1)

    assert torch.nn.Linear(400, 100).weight.abs().max() <= 0.05


def test_missing_tensor_is_named(stored: Path, tmp_path: Path) -> None:
    path = store_changed(stored, tmp_path / "w.safetensors", **{"final.2.bias": None})

    with pytest.raises(WeightsError, match=r"missing: final\.2\.bias"):
        load_astromae(path)


@pytest.mark.parametrize(("num", "end"), [(5, "final.2.bias)."), (6, "final.2.bias and 1 more).")])
def test_the_first_five_tensors_are_named(stored: Path, tmp_path: Path, num: int, end: str) -> None:
    blocks = [f"encoder.blocks.{block}.norm1.bias" for block in range(3)]
    lost = [*blocks, "final.0.weight", "final.2.bias", "inception.first.bias"][:num]
    path = store_changed(stored, tmp_path / "w.safetensors", **dict.fromkeys(lost))

    with pytest.raises(WeightsError, match=re.escape(end)):
        load_astromae(path)


def test_unknown_tensor_is_named(stored: Path, tmp_path: Path) -> None:
    path = store_changed(stored, tmp_path / "w.safetensors", surprise=torch.ones(1))

    with pytest.raises(WeightsError, match="unknown: surprise"):
        load_astromae(path)


def test_wrong_shape_is_named(stored: Path, tmp_path: Path) -> None:
    path = store_changed(stored, tmp_path / "w.safetensors", **{"final.2.bias": torch.ones(7)})

    with pytest.raises(WeightsError, match=re.escape("final.2.bias (7,) instead of (1,)")):
        load_astromae(path)


def test_not_finite_tensor_is_named(stored: Path, tmp_path: Path) -> None:
    path = store_changed(stored, tmp_path / "w.safetensors", **{"final.2.bias": torch.tensor([torch.nan])})

    with pytest.raises(WeightsError, match=r"not finite: final\.2\.bias"):
        load_astromae(path)


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickle.safetensors"
    torch.save({"weight": torch.ones(1)}, path)

    with pytest.raises(WeightsError, match=r"pickle\.safetensors"):
        load_astromae(path)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="make train"):
        load_astromae(tmp_path / "none.safetensors")


def test_fingerprint_is_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")
