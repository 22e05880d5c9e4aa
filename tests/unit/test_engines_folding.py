"""Every step of the folding is exact algebra: before and after agree to float32 rounding."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines import folded
from inference.engines.folded import Affine, Conv, Dense, FoldedAstroMAE, weights_of
from inference.engines.torch import PackedDense, TorchEngine, prepare, profiler
from inference.model.astromae import NUM_PARAMETERS, WIDTH, AstroMAE, Block, ConvBranch, InceptionBlock, Variant
from inference.model.weights import save_weights
from inference.predict import MICRO_BATCH


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value that no step can confuse with its default."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.1, generator=generator)
        for name, statistic in module.named_buffers():
            if statistic.is_floating_point():
                statistic.uniform_(0.5, 1.5, generator=generator) if "center" not in name else statistic.normal_()
    return module.eval().requires_grad_(False)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def agree(found: Tensor, wanted: Tensor) -> None:
    # Sums of up to 3,216 products of order one, in another order.
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-5)


def test_a_norm_goes_into_the_layer_behind_it() -> None:
    norm, layer, x = randomised(nn.LayerNorm(12)), randomised(nn.Linear(12, 7)), 3 + numbers(5, 12)

    agree(Dense(folded.after_norm(norm, weights_of(layer)))(folded.plain_norm(x, norm.eps)), layer(norm(x)))


def test_two_linear_layers_are_one() -> None:
    first, second, x = randomised(nn.Linear(12, 7)), randomised(nn.Linear(7, 3)), numbers(5, 12)

    agree(Dense(folded.compose(weights_of(first), weights_of(second)))(x), second(first(x)))


def test_scalings_go_into_linear_layers() -> None:
    layer, x, scale, shift = randomised(nn.Linear(5, 3)), numbers(4, 5), torch.tensor(2.5), torch.tensor(0.3)
    widths = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])

    agree(Dense(folded.divide_inputs(weights_of(layer), widths))(x), layer(x / widths))
    agree(Dense(folded.scale_outputs(weights_of(layer), scale, shift))(x), layer(x) * scale + shift)


def test_pixel_scaling_goes_into_an_unpadded_convolution() -> None:
    conv, x = randomised(nn.Conv2d(5, 6, 4, stride=4)), numbers(2, 5, 8, 8)
    center, scale = numbers(5, 1, 1), 1 + numbers(5, 1, 1).abs()

    found = Conv(folded.unscale_inputs(weights_of(conv), center, scale), stride=4, has_relu=False)(x)

    agree(found, conv((x - center) / scale))


def test_a_batch_norm_goes_into_the_convolution_before_it() -> None:
    conv, norm, x = randomised(nn.Conv2d(4, 6, 3, padding=1)), randomised(nn.BatchNorm2d(6)), numbers(2, 4, 8, 8)

    agree(Conv(folded.fold_batch_norm(conv, norm))(x), functional.relu(norm(conv(x))))


def test_parallel_convolutions_are_one() -> None:
    convs, x = [randomised(nn.Conv2d(4, n, 1)) for n in (2, 3)], numbers(2, 4, 8, 8)

    found = Conv(folded.merge([weights_of(conv) for conv in convs]), has_relu=False)(x)

    agree(found, torch.cat([conv(x) for conv in convs], dim=1))


@pytest.mark.parametrize("uses_5x5", [True, False])
def test_an_inception_block_survives(uses_5x5: bool) -> None:
    block, x = randomised(InceptionBlock(32, 8, uses_5x5=uses_5x5)), numbers(2, 32, 8, 8)

    agree(folded.FoldedInceptionBlock(block)(x), block(x))


def test_grouped_convolutions_are_batched_products() -> None:
    branch, tokens = randomised(ConvBranch()), numbers(2, 17, WIDTH)

    agree(folded.WideGroups(branch)(tokens[:, 1:]), branch(tokens)[:, 1:])


def test_a_transformer_block_survives() -> None:
    block, tokens = randomised(Block()), numbers(2, 17, WIDTH)

    agree(folded.FoldedBlock(block)(tokens), block(tokens))


def test_the_last_block_computes_only_the_average_of_the_patches() -> None:
    block, tokens = randomised(Block()), numbers(2, 17, WIDTH)

    agree(folded.LastBlock(block)(tokens), block(tokens)[:, 1:].mean(dim=1))


def test_the_logarithm_is_asinh_for_sky_and_bright_centres_of_either_sign() -> None:
    x = torch.cat([torch.linspace(-1e-3, 1e-3, 101), torch.linspace(-1e4, 1e4, 101)])

    torch.testing.assert_close(folded.arcsinh(x), torch.asinh(x.double()).float(), atol=1e-6, rtol=1e-6)


def test_the_folded_network_is_the_network() -> None:
    model = randomised(AstroMAE())
    assert isinstance(model, AstroMAE)
    images, magnitudes = numbers(3, 5, 32, 32), 18 + numbers(3, 5, seed=1)

    agree(FoldedAstroMAE(model)(images, magnitudes), model(images, magnitudes))


@pytest.mark.parametrize(
    ("activation", "has_residual"), [("none", False), ("relu", False), ("gelu", False), ("none", True)]
)
def test_a_packed_layer_is_the_layer(activation: str, has_residual: bool) -> None:
    layer = Dense(weights_of(randomised(nn.Linear(192, 96))), activation)
    rows, residual = numbers(34, 192), numbers(34, 96, seed=1) if has_residual else None

    agree(PackedDense(layer)(rows, residual), layer(rows, residual))


def test_the_prepared_network_is_the_network() -> None:
    model = randomised(AstroMAE())
    assert isinstance(model, AstroMAE)
    images, magnitudes = numbers(3, 5, 32, 32), 18 + numbers(3, 5, seed=1)

    with torch.inference_mode():
        agree(prepare(FoldedAstroMAE(model))(images, magnitudes), model(images, magnitudes))


@pytest.fixture
def own_threads() -> Iterator[None]:
    """Give torch back the threads that it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("own_threads")
@pytest.mark.parametrize("variant", [Variant(), Variant(pools_first=True)])
def test_the_torch_engine_is_the_network_and_as_published_to_the_bit(variant: Variant, tmp_path: Path) -> None:
    model = randomised(AstroMAE(variant))
    save_weights(model, tmp_path / "w.safetensors", half=False)  # type: ignore[arg-type]
    images, magnitudes = numbers(3, 5, 32, 32), 18 + numbers(3, 5, seed=1)
    read_only = np.frombuffer(images.numpy().tobytes(), np.float32).reshape(images.shape)

    engine, published = (
        TorchEngine(tmp_path / "w.safetensors", "a" * 64, num_threads=2, as_published=one, note="why")
        for one in (False, True)
    )

    found, layer_by_layer = (one.predict(read_only, magnitudes.double().numpy()) for one in (engine, published))
    agree(torch.from_numpy(found), model(images, magnitudes))
    np.testing.assert_array_equal(layer_by_layer, model(images, magnitudes).numpy())
    assert np.array_equal(found, layer_by_layer) == (variant != Variant()), "other variants are never folded"
    assert (engine.name.split()[0], engine.num_threads, torch.get_num_threads()) == ("torch", 2, 2)
    assert (engine.note, engine.weights_sha256, engine.precision) == ("why", "a" * 64, "fp32")
    assert (engine.num_parameters, engine.micro_batch) == (NUM_PARAMETERS, MICRO_BATCH)


def test_the_profiler_adds_up_time_and_allocations() -> None:
    began_s = time.perf_counter()
    with profiler() as profile:
        held = [torch.ones(1000, 250) for _ in range(3)]

    assert held
    assert 0 < profile.cpu_time_s < time.perf_counter() - began_s
    assert 3_000_000 <= profile.allocated_bytes < 3_100_000


def test_weights_are_combined_in_double_precision() -> None:
    assert weights_of(nn.Linear(2, 2)).weight.dtype == Affine(*weights_of(nn.Linear(2, 2))).bias.dtype == torch.float64
