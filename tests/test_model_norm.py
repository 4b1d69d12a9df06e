"""Group normalisation: its own gradient is that of PyTorch's."""

import pytest
import torch
from torch import nn

from upicker.model import norm
from upicker.model.norm import GroupNorm


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Its own gradient for small inputs, too."""
    monkeypatch.setattr(norm, "LEAST_VALUES", 0)


def given(precision: torch.dtype, rows: int = 5, columns: int = 7) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, rows, columns, generator=random, dtype=torch.float64) + 0.7
    return x.to(precision).to(memory_format=torch.channels_last)


def randomised(layer: nn.GroupNorm) -> nn.GroupNorm:
    random = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=1.0, generator=random)
    return layer


def output_and_gradients(layer: nn.GroupNorm, x: torch.Tensor, contiguous: bool) -> list[torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    output = layer(x)
    of_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    if not contiguous:
        of_output = of_output.to(memory_format=torch.channels_last)
    return [output.detach(), *torch.autograd.grad(output, (x, layer.weight, layer.bias), of_output)]


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize(("precision", "far"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_output_and_gradients_are_pytorchs(precision, far, contiguous):
    x, of_weights = given(precision), torch.float64 if precision == torch.float64 else torch.float32
    own, other = (randomised(kind(4, 12)).to(of_weights) for kind in (GroupNorm, nn.GroupNorm))
    before = x.clone()
    found, expected = (output_and_gradients(layer, x, contiguous) for layer in (own, other))
    for one, another in zip(found, expected, strict=True):
        assert one.dtype == another.dtype
        assert (one - another).abs().max() <= far * another.abs().max()
    assert torch.equal(x, before), "the input is not written to"


def test_derivatives_are_right():
    layer = randomised(GroupNorm(2, 4)).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = x.to(memory_format=torch.channels_last).requires_grad_()

    def of(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(of, (x, layer.weight, layer.bias))


def test_it_is_used_for_channels_last_only(monkeypatch):
    calls = []
    monkeypatch.setattr(norm._GroupNorm, "apply", lambda *args: calls.append(args) or args[0])
    layer = GroupNorm(4, 12)
    layer(given(torch.float32).contiguous())
    with torch.no_grad():
        layer(given(torch.float32))
    assert not calls
    layer(given(torch.float32))
    assert len(calls) == 1


def test_an_input_that_is_not_finite_has_no_finite_gradient():
    x = given(torch.float32)
    x[0, 0, 0, 0] = float("nan")
    _, of_x, *_ = output_and_gradients(GroupNorm(4, 12), x, True)
    assert not of_x[0].isfinite().all()
