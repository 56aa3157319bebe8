"""VGG-16 of CIFAR size (Simonyan and Zisserman, 2015): thirteen 3x3 convolutions, three dense layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cimenv.core.errors import ConfigError

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Five stages of convolutions, each ended by a 2x2 maximum, and three dense layers, for 32x32 images.

    16 matrices, 15.2 million weights at width 1, 0.97 million at a quarter.

    Args:
        classes: of the output.
        in_channels: of the images.
        width: factor of all channels but the outputs.
        batch_norm: normalise after every convolution; without it convolutions have biases.
        padding: zeros around the image: 2 for one of 28x28.

    Raises:
        ConfigError: `width` leaves a layer without channels.
    """

    def __init__(
        self, classes: int = 10, in_channels: int = 1, width: float = 1.0, batch_norm: bool = True, padding: int = 0
    ) -> None:
        super().__init__()
        if int(width * STAGES[0][0]) < 1:
            raise ConfigError(f"width: got {width:g}, which leaves no channels; give at least {1 / STAGES[0][0]:g}.")
        layers: OrderedDict[str, nn.Module] = OrderedDict(pad=nn.ZeroPad2d(padding)) if padding else OrderedDict()
        c_in = in_channels
        for s, stage in enumerate(STAGES, 1):
            for k, channels in enumerate(stage, 1):
                c_out = int(width * channels)
                layers[f"conv{s}_{k}"] = nn.Conv2d(c_in, c_out, 3, padding=1, bias=not batch_norm)
                if batch_norm:
                    layers[f"norm{s}_{k}"] = nn.BatchNorm2d(c_out)
                layers[f"relu{s}_{k}"] = nn.ReLU()
                c_in = c_out
            layers[f"pool{s}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(c_in, c_in),
                relu1=nn.ReLU(),
                fc2=nn.Linear(c_in, c_in),
                relu2=nn.ReLU(),
                fc3=nn.Linear(c_in, classes),
            )
        )
        for module in self.modules():  # torch's own draws vanish over 16 layers without batch norm
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, c, 32 - 2 padding, 32 - 2 padding]`."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
