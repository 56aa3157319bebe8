"""The residual networks of CIFAR size (He et al., 2016), for one or more input channels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.errors import ConfigError


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, `[n, c_out, h / stride, w / stride]`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks with 1, 2, 4, ... times `width` channels, mean pooling, one dense layer.

    Args:
        stages: residual blocks of every stage.
        classes: of the output.
        in_channels: of the images.
        width: channels of the first stage.
    """

    def __init__(self, stages: Sequence[int], classes: int = 10, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"width: got {width}, which leaves no channels; give at least 1.")
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        c_in = width
        for stage, blocks in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(c_in, width * 2**stage, stride))
                c_in = width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(c_in, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, c, h, w]`."""
        x = self.blocks(F.relu(self.norm(self.stem(images))))
        return self.head(x.mean((2, 3)))


def resnet8(classes: int = 10, in_channels: int = 1, width: int = 16) -> ResNet:
    """ResNet-8 with a 3x3 stem: 10 matrices, 77,000 parameters at width 16."""
    return ResNet((1, 1, 1), classes, in_channels, width)


def resnet20(classes: int = 10, in_channels: int = 1, width: int = 16) -> ResNet:
    """ResNet-20 with a 3x3 stem: 22 matrices, 0.27 million parameters at width 16."""
    return ResNet((3, 3, 3), classes, in_channels, width)


def resnet18(classes: int = 10, in_channels: int = 1, width: int = 64) -> ResNet:
    """ResNet-18 with a 3x3 stem: 21 matrices, 11.2 million parameters at width 64."""
    return ResNet((2, 2, 2, 2), classes, in_channels, width)
