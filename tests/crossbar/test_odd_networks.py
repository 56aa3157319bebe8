"""Networks whose data and weights take detours: what a forward pass shows of them, and a chip against their forward."""

import pytest
import torch
from own_networks import CONFIG, FINE
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from cimenv.core.errors import MappingError
from cimenv.crossbar import CrossbarConfig, map_network


class Middle(nn.Module):
    """A stem and a head with something between them."""

    def __init__(self):
        super().__init__()
        self.stem, self.m, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.middle(self.stem(x)))


class ToData(Middle):
    """Weights cast to the type of the data, as language models do."""

    def middle(self, x):
        return F.linear(x, self.m.weight.to(x)) @ self.m.weight.type_as(x).T


class Assembled(Middle):
    """Outputs written into memory that was made for them."""

    def middle(self, x):
        out = torch.zeros(len(x), 8, device=x.device)
        out[:, :4] = x[:, :4]
        out[:, 4:].copy_(x[:, 4:])
        return self.m(out)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x


class Reversed(Middle):
    def middle(self, x):
        return self.m(Identity.apply(x))


class Scan(Middle):
    """A state that begins with zeros and meets its matrix at every step."""

    def middle(self, x):
        h = torch.zeros(len(x), 8, device=x.device)
        for _ in range(3):
            h = torch.tanh(h @ self.m.weight + x)
        return h


class Routed(Middle):
    """Every expert is called, also with no rows."""

    def middle(self, x):
        chosen = self.stem.weight.new_zeros(len(x), device=x.device) + (x.sum(-1) > 100)
        out = torch.zeros_like(x)
        out[chosen == 0] += x[chosen == 0]
        out[chosen == 1] += self.m(x[chosen == 1])
        return out + self.m(x[:1])


@pytest.mark.parametrize("kind", [ToData, Assembled, Reversed, Scan, Routed])
@pytest.mark.parametrize("config", [CONFIG, FINE])
def test_every_weight_is_found_and_replaced(kind, config):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(4, 6)
    if kind is ToData and config.analog:
        config = FINE.model_copy(update={"analog": False})  # used both ways, which arrays cannot
    network = map_network(model, config, (6,))
    assert [site.name for site in network.sites] == ["stem", "m", "head"] and network.report.mac_share == 1
    if config.analog:
        network = network.calibrated(x, 1.0)
    with torch.no_grad():
        chip = network.program(torch.Generator().manual_seed(1))
        with network.programmed(chip) as running:
            found = running(x)
        held = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for site in network.sites if not config.analog else ():
            site.matrix(held[site.parameter]).copy_(chip[site.name])
        expected = functional_call(model, held, (x,))
    bound = 2e-2 if config.analog else 1e-5
    assert float((found - expected).norm()) < bound * float(expected.norm())


class Experts(Middle):
    """A layer that values choose."""

    def middle(self, x):
        return self.m(x) if x.sum() > 100 else x


class Parts(Middle):
    """Rows of a stack, of which values choose one."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Parameter(torch.randn(2, 8, 8))

    def middle(self, x):
        return self.m(x) @ self.stack[int(x.sum() > 100)]


@pytest.mark.parametrize(("kind", "layer"), [(Experts, "m"), (Parts, "stack")])
def test_what_other_images_may_use_is_refused_by_name(kind, layer):
    with pytest.raises(MappingError, match=rf"^Layer {layer} is not used, or not all of it, .*digital: \['{layer}'\]"):
        map_network(kind(), CONFIG, (6,))


@pytest.mark.filterwarnings("ignore:Only")
@pytest.mark.parametrize(("kind", "layer"), [(Experts, "m"), (Parts, "stack")])
def test_what_other_images_may_use_can_stay_digital(kind, layer):
    network = map_network(kind(), CrossbarConfig(digital=(layer,)), (6,))
    assert {part.name for part in network.unmapped if part.reason == "named by crossbar.digital"} == {layer}


def test_matrices_that_data_choose_are_reported():
    class Gathered(Middle):
        def __init__(self):
            super().__init__()
            self.stack = nn.Parameter(torch.randn(4, 8, 8))

        def middle(self, x):
            return torch.bmm(self.m(x)[:, None], self.stack[x.argmax(-1) % 4]).squeeze(1)

    with pytest.warns(UserWarning, match="digital stay stack"):
        network = map_network(Gathered(), CONFIG, (6,))
    assert [(part.name, part.macs) for part in network.unmapped if part.macs] == [("stack", 64)]


@pytest.mark.parametrize(
    "product",
    [
        torch.ops.aten.linear.default,
        lambda x, w: torch.addbmm(x, x[None, :, :], w[None]),
        lambda x, w: torch.mv(w, x.sum(0)).expand(len(x), -1),
        lambda x, w: torch.tensordot(x, w, 1),
    ],
)
def test_products_that_arrays_cannot_do_are_reported(product):
    class Direct(Middle):
        def middle(self, x):
            return product(x, self.m.weight)

    with pytest.warns(UserWarning, match="digital stay m"):
        map_network(Direct(), CONFIG, (6,))


def test_layers_of_constants_are_told_from_layers_that_are_never_used():
    class Queries(Middle):
        def __init__(self):
            super().__init__()
            self.queries, self.spare = nn.Parameter(torch.randn(5, 8)), nn.Linear(8, 8)

        def middle(self, x):
            return x + self.m(self.queries).mean(0)

    network = map_network(Queries(), CONFIG, (6,))
    reasons = {part.name: part.reason for part in network.unmapped}
    assert reasons["m.weight"] == "multiplied by constants alone"
    assert reasons["spare.weight"] == "never multiplied by data"
