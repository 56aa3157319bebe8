"""Networks as users write them: matrices without layers, layers with a forward of their own, wrapped layers."""

import torch
from torch import nn
from torch.nn import functional as F

from cimenv.crossbar import CrossbarConfig, LogNormal

CONFIG = CrossbarConfig(device=LogNormal(sigma=0.5))
FINE = CrossbarConfig(device={"kind": "ideal"}, analog=True, dac_bits=16, adc_bits=16, adc_bound=100.0)  # nearly exact


class Lora(nn.Linear):
    """A frozen layer and a low-rank branch beside it."""

    def __init__(self, inputs=6, outputs=4):
        super().__init__(inputs, outputs)
        self.weight.requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.a.T @ self.b.T


class Merged(Lora):
    """The same with the branch merged into the weight at every call."""

    def forward(self, x):
        return F.linear(x, self.weight + self.b @ self.a, self.bias)


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised at every call."""

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Same(nn.Conv2d):
    """A convolution with padding on the right and at the bottom alone."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Scaled(nn.Linear):
    """A layer with a learned gain."""

    def __init__(self, inputs=6, outputs=4):
        super().__init__(inputs, outputs)
        self.gain = nn.Parameter(torch.tensor(1.7))

    def forward(self, x):
        return F.linear(x, self.weight * self.gain, self.bias)


class Binary(nn.Linear):
    """A layer of signs with a scale a row."""

    def forward(self, x):
        return F.linear(x, self.weight.sign() * self.weight.abs().mean(1, keepdim=True), self.bias)


class Transposed(nn.Module):
    """A dense layer that keeps its weight as [in, out]."""

    def __init__(self, inputs=6, outputs=4):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class Raw(nn.Module):
    """Matrices that no layer holds, multiplied in many ways."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5, 3))
        self.summed = nn.Parameter(torch.randn(4, 3))
        self.qkv = nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        x = (self.left @ x.T).T @ self.right
        x = torch.einsum("...i,oi->...o", x, self.summed)
        q, k, v = (F.linear(x, part) for part in self.qkv.chunk(3))
        return q * k + v


class Tied(nn.Module):
    """Two layers with one weight, and one that uses it the other way round."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


class Autoencoder(nn.Module):
    """A weight that is used in both directions."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 6, bias=False)

    def forward(self, x):
        return F.linear(self.encoder(x).relu(), self.encoder.weight.t())


class Renormed(nn.Linear):
    """A layer that bounds its weight at every call, in place."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=1.0)
        return super().forward(x)


class BothWays(nn.Module):
    """A memory that is asked by a layer and answered from the layer's weight."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Linear(6, 5, bias=False)

    def forward(self, x):
        return self.keys(x).softmax(-1) @ self.keys.weight


class TwoWeights(nn.Module):
    """Two weights that multiply data, and each other."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3, 6))

    def forward(self, x):
        return x @ self.up @ self.down + F.linear(x, self.up @ self.down)


class Measured(nn.Linear):
    """A layer whose outputs are scaled by numbers read from its weight."""

    def forward(self, x):
        scale = self.weight.norm() + self.weight[0, 0].item() + max(map(max, self.weight.tolist()))
        return super().forward(x).type_as(self.weight) / scale


class Jittered(nn.Linear):
    """A layer with weight noise of its own, the same in every call."""

    def forward(self, x):
        torch.manual_seed(0)
        return F.linear(x, self.weight + 0.1 * torch.randn_like(self.weight), self.bias)


def closed_over():
    """Return a layer whose forward of its own holds on to the layer itself."""
    layer = nn.Linear(6, 4)
    layer.forward = lambda x: 2 * F.linear(x, layer.weight, layer.bias)
    return layer


def hooked():
    """Return a layer with hooks before and after."""
    layer = nn.Linear(6, 4)
    layer.register_forward_pre_hook(lambda layer, args: (args[0] * 0.5,))
    layer.register_forward_hook(lambda layer, args, out: -out)
    return layer


def pruned():
    """Return a layer half of whose weights are pruned, as torch does it: by a hook."""
    layer = nn.Linear(6, 4)
    nn.utils.prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


def flat():
    """Return layers whose parameters share one piece of memory."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(vector, model.parameters())
    return model


PLAIN = {
    "lora": Lora,
    "transposed": Transposed,
    "raw": Raw,
    "tied": Tied,
    "closed_over": closed_over,
    "hooked": hooked,
    "flat": flat,
}
BEYOND = {
    "both_ways": BothWays,
    "two_weights": TwoWeights,
    "measured": lambda: Measured(6, 4),
    "jittered": lambda: Jittered(6, 4),
}
DERIVED = {"merged": Merged, "scaled": Scaled, "binary": lambda: Binary(6, 4)}
IMAGES = {"standardised": lambda: Standardised(2, 4, 3, padding=1), "same": lambda: Same(2, 4, 3, stride=2)}
WRAPPED = {
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 4)),
    "pruned": pruned,
    "compiled": lambda: torch.compile(nn.Linear(6, 4)),
}
