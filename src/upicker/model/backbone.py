"""The backbones: a micrograph tile -> feature maps of several scales.

`CompactBackbone` trains from a random start on a laptop. `ResNet` carries torchvision's key names, so that ImageNet
weights of torchvision or timm load from a file (`upicker.model.imagenet`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.model.norm import GroupNorm


def _norm(channels: int) -> GroupNorm:
    # Not batch normalisation: a batch holds two tiles, far too few for its statistics.
    return GroupNorm(8, channels)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = _norm(out_channels)
        nn.init.zeros_(self.norm2.weight)
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, h, w)` -> `(B, out_channels, h/stride, w/stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class CompactBackbone(nn.Module):
    """A residual backbone that spends its cost at strides 8 and 16, where a particle spans 3 and 1.5 cells.

    Parameters
    ----------
    widths : tuple of int
        Channels at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = widths
        self.stem = nn.Sequential(nn.Conv2d(1, w2, 5, 2, 2, bias=False), _norm(w2), nn.ReLU(inplace=True))
        self.stage4 = ResidualBlock(w2, w4, 2)
        self.stage8 = nn.Sequential(ResidualBlock(w4, w8, 2), ResidualBlock(w8, w8))
        self.stage16 = nn.Sequential(ResidualBlock(w8, w16, 2), ResidualBlock(w16, w16))
        self.stage32 = nn.Sequential(ResidualBlock(w16, w32, 2), ResidualBlock(w32, w32))
        self.channels = (w8, w16, w32)

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(B, 1, h, w)` -> feature maps at strides 8, 16, 32."""
        stride8 = self.stage8(self.stage4(self.stem(images)))
        stride16 = self.stage16(stride8)
        return [stride8, stride16, self.stage32(stride16)]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics, under torchvision's key names."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), scale))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


# Initial scale of a block's last norm, where it joins the shortcut: small, so that activations neither explode nor
# vanish over sixteen blocks whose statistics are frozen.
LAST_SCALE = 0.2


class BasicBlock(nn.Module):
    """The 3 x 3, 3 x 3 block of ResNet-18 and -34."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(width, scale=LAST_SCALE)
        self.downsample = _downsample(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, h, w)` -> `(B, width, h/stride, w/stride)`."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """The 1 x 1, 3 x 3, 1 x 1 block of ResNet-50 (the paper's ref. 24)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = FrozenBatchNorm2d(out_channels, scale=LAST_SCALE)
        self.downsample = _downsample(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, h, w)` -> `(B, 4 width, h/stride, w/stride)`."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


# Block, and number of blocks at strides 4, 8, 16, 32.
RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A ResNet for one-channel images, with torchvision's key names.

    Parameters
    ----------
    name : str
        One of `RESNETS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        block, blocks = RESNETS[name]
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(64)
        widths = [width * block.expansion for width in (64, 128, 256, 512)]
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)
        self.layer2 = _stage(block, widths[0], 128, blocks[1], 2)
        self.layer3 = _stage(block, widths[1], 256, blocks[2], 2)
        self.layer4 = _stage(block, widths[2], 512, blocks[3], 2)
        self.channels = tuple(widths[1:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(B, 1, h, w)` -> feature maps at strides 8, 16, 32."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        stride8 = self.layer2(self.layer1(x))
        stride16 = self.layer3(stride8)
        return [stride8, stride16, self.layer4(stride16)]


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return the shortcut's projection to the output shape; None where the shapes are equal."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), FrozenBatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    rest = [block(width * block.expansion, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, width, stride), *rest)
