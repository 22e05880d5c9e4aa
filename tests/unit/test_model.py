"""The network has the published size, part by part, and treats every galaxy by itself."""

import pytest
import torch
from torch import nn

from inference.model.astromae import NUM_PARAMETERS, AstroMAE, Variant


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    torch.manual_seed(3)
    return AstroMAE().eval()


def count(*modules: nn.Module | nn.Parameter) -> int:
    tensors = [t for m in modules for t in ([m] if isinstance(m, nn.Parameter) else m.parameters())]
    return sum(tensor.numel() for tensor in tensors)


def make_inputs(num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(num_rows, 5, 32, 32, generator=generator)
    magnitudes = 18 + torch.randn(num_rows, 5, generator=generator)
    return images, magnitudes


def test_network_has_the_published_size(model: AstroMAE) -> None:
    assert count(model) == NUM_PARAMETERS == 15_902_889
    assert count(model) * 4 / 2**20 == 60.66470718383789


def test_every_part_has_its_published_size(model: AstroMAE) -> None:
    encoder, inception = model.encoder, model.inception

    assert count(encoder.patch_embed) == 61_632
    assert count(encoder.cls_token, encoder.position) == 3_456
    assert [count(block) for block in encoder.blocks] == [453_312] * 12
    assert count(encoder.norm, encoder.head) == 37_440
    assert count(model.encoder_projection) == 1_413_840
    assert count(inception.first) == 192
    assert count(inception.blocks) == 32_968
    assert count(inception.blocks[4].branch_5x5) == 552
    assert count(model.inception_projection) == 1_413_840
    assert count(model.magnitude_branch) == 4_204_544
    assert count(model.final) == 3_295_233


def test_what_the_tensors_leave_open_is_what_the_weights_were_trained_with(model: AstroMAE) -> None:
    assert Variant() == Variant(num_heads=6, norm_epsilon=1e-6, has_joint_relus=True, pools_first=False)
    norms = [module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert norms == [1e-6] * 25


def test_scalings_are_buffers_not_parameters(model: AstroMAE) -> None:
    names = {"image_softening", "image_center", "image_scale", "redshift_center", "redshift_scale"}
    names |= {"magnitude_center", "magnitude_scale"}

    assert names <= set(model.state_dict())
    assert not names & {name for name, _ in model.named_parameters()}


def test_one_redshift_per_galaxy(model: AstroMAE) -> None:
    with torch.inference_mode():
        redshifts = model(*make_inputs(3))

    assert redshifts.shape == (3,)
    assert redshifts.dtype == torch.float32


def test_prediction_is_repeatable(model: AstroMAE) -> None:
    images, magnitudes = make_inputs(4)
    with torch.inference_mode():
        assert torch.equal(model(images, magnitudes), model(images, magnitudes))


def test_prediction_does_not_depend_on_the_other_rows(model: AstroMAE) -> None:
    images, magnitudes = make_inputs(9)
    with torch.inference_mode():
        together = model(images, magnitudes)
        alone = torch.cat([model(images[i : i + 1], magnitudes[i : i + 1]) for i in range(9)])

    # Matrix products of other shapes add in another order: float32 rounding, no more.
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)


def test_unused_last_5x5_branch_gets_no_gradient() -> None:
    model = AstroMAE()

    model(*make_inputs(2)).sum().backward()

    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert unused == {
        f"inception.blocks.4.branch_5x5.{i}.{layer}.{kind}"
        for i in "01"
        for layer in "01"
        for kind in ("weight", "bias")
    }
