"""LeNet-5 and a four-site miniature of it."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet5(classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling for 28x28 images: 61,706 parameters, 416,520 MACs (LeCun et al., 1998)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(400, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )


def toy_cnn(classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """A four-site network for 28x28 images that trains in seconds."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 4, 5, stride=2, padding=2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(4, 8, 5, stride=2, padding=2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(392, 32),
            relu3=nn.ReLU(),
            fc2=nn.Linear(32, classes),
        )
    )
