"""The trunks: a micrograph tile -> feature maps of several scales.

`CompactTrunk` trains from a random start on a laptop. `ResNet50` carries torchvision's key names, so that
ImageNet weights of torchvision or timm load from a file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _norm(channels: int) -> nn.GroupNorm:
    # Groups, not batches: a step holds two tiles, far too few for batch statistics.
    return nn.GroupNorm(8, channels)


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a short cut."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = _norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = _norm(after)
        nn.init.zeros_(self.norm2.weight)
        same = before == after and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, before, h, w)` -> `(B, after, h/stride, w/stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class CompactTrunk(nn.Module):
    """A residual trunk whose cost lies at strides 8 and 16, where a particle has 4 and 2 cells.

    Parameters
    ----------
    widths : tuple of int
        Channels at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = widths
        self.stem = nn.Sequential(nn.Conv2d(1, w2, 5, 2, 2, bias=False), _norm(w2), nn.ReLU(inplace=True))
        self.stage4 = Residual(w2, w4, 2)
        self.stage8 = nn.Sequential(Residual(w4, w8, 2), Residual(w8, w8))
        self.stage16 = nn.Sequential(Residual(w8, w16, 2), Residual(w16, w16))
        self.stage32 = nn.Sequential(Residual(w16, w32, 2), Residual(w32, w32))
        self.channels = (w8, w16, w32)

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(B, 1, t, t)` -> maps at strides 8, 16, 32."""
        at8 = self.stage8(self.stage4(self.stem(images)))
        at16 = self.stage16(at8)
        return [at8, at16, self.stage32(at16)]


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics, under torchvision's key names."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, start: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), start))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class Bottleneck(nn.Module):
    """ResNet's 1 x 1, 3 x 3, 1 x 1 block (the paper's ref. 24)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        # Small, so that sixteen blocks without live normalisation neither explode nor vanish from a random start.
        self.bn3 = FrozenBatchNorm(after, start=0.2)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), FrozenBatchNorm(after))
            if before != after or stride != 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, before, h, w)` -> `(B, 4 width, h/stride, w/stride)`."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """ResNet-50 for one-channel pictures, with torchvision's key names."""

    channels = (512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(B, 1, t, t)` -> maps at strides 8, 16, 32."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        at8 = self.layer2(self.layer1(x))
        at16 = self.layer3(at8)
        return [at8, at16, self.layer4(at16)]


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(before, width, stride), *rest)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a torchvision or timm ``resnet50`` state into one for `ResNet50`.

    The classifier and the batch counters are dropped; the first convolution's three colours are summed,
    which is what a grey picture shown as RGB would meet.
    """
    kept = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    if "conv1.weight" in kept and kept["conv1.weight"].shape[1] == 3:
        kept["conv1.weight"] = kept["conv1.weight"].sum(1, keepdim=True)
    return kept
