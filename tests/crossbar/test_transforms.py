"""Functions that torch compiles or transforms within a forward: served as they were written, or refused."""

import pytest
import torch
from own_networks import CONFIG, FINE
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cimenv.core.errors import MappingError
from cimenv.crossbar import map_network
from cimenv.crossbar.eager import eagerly


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.body(self.stem(x).relu()).relu())


def product(x, w, b):
    return F.linear(x, w, b).relu()


COMPILED = torch.compile(product, backend="eager")


class ByFunction(Net):
    def forward(self, x):
        return self.head(COMPILED(self.stem(x).relu(), self.body.weight, self.body.bias))


class ByMethod(Net):
    @torch.compile(backend="eager")
    def middle(self, x):
        return self.body(x).relu()

    def forward(self, x):
        return self.head(self.middle(self.stem(x).relu()))


class InPlace(Net):
    def __init__(self):
        super().__init__()
        self.body.compile(backend="eager")


class Wrapped(Net):
    def __init__(self):
        super().__init__()
        self.body = torch.compile(self.body, backend="eager")


class Hidden(Net):
    """A compiled layer that is no submodule of the network."""

    def __init__(self):
        super().__init__()
        self.others = (torch.compile(self.body, backend="eager"),)

    def forward(self, x):
        return self.head(self.others[0](self.stem(x).relu()).relu())


@pytest.mark.parametrize("kind", [ByFunction, ByMethod, InPlace, Wrapped, Hidden])
def test_compiled_parts_run_as_they_were_written(kind):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(4, 6)
    network = map_network(model, CONFIG, (6,))
    assert [site.name for site in network.sites] == ["stem", "body", "head"]
    chip = {name: w.detach() for name, w in network.program(torch.Generator().manual_seed(1)).items()}
    plain = Net().eval()
    plain.load_state_dict({name.replace("_orig_mod.", ""): value for name, value in model.state_dict().items()})
    with torch.no_grad(), network.programmed(chip) as running:
        expected = functional_call(plain, {f"{name}.weight": w for name, w in chip.items()}, (x,))
        torch.testing.assert_close(running(x), expected)
    analog = map_network(model, FINE, (6,)).calibrated(x, 1.0)
    with torch.no_grad(), analog.programmed(analog.program(torch.Generator())) as running:
        found, exact = running(x), plain(x)
    assert 0 < float((found - exact).abs().max()) < 2e-2 * float(exact.abs().max())


def test_the_users_stance_is_put_back():
    from torch._dynamo import eval_frame

    with torch.compiler.set_stance("eager_on_recompile"):
        with eagerly(), eagerly():
            assert eval_frame._stance.stance == "force_eager"
        assert eval_frame._stance.stance == "eager_on_recompile"
        with pytest.raises(KeyError), eagerly():
            raise KeyError
        assert eval_frame._stance.stance == "eager_on_recompile"
    assert eval_frame._stance.stance == "default"


class Mapped(Net):
    """A layer that is called image by image."""

    def forward(self, x):
        return self.head(torch.vmap(self.body)(self.stem(x).relu()))


class Elementwise(Net):
    def forward(self, x):
        return self.head(self.body(torch.vmap(torch.relu)(self.stem(x))))


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(Net() for _ in range(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        state = stack_module_state(list(self.members))
        each = torch.vmap(lambda p, b, x: functional_call(self.members[0], (p, b), (x,)), (0, 0, None))(*state, x)
        return self.head(each.mean(0))


class Gradient(Net):
    """Forces: the gradient of an energy."""

    def forward(self, x):
        return self.head(self.body(torch.func.grad(lambda x: self.stem(x).square().sum())(x)[:, :5]))


@pytest.mark.parametrize("kind", [Mapped, Elementwise, Ensemble, Gradient])
@pytest.mark.parametrize("config", [CONFIG, FINE])
def test_transforms_that_hide_weights_are_refused(kind, config):
    with pytest.raises(MappingError, match=r"^The network computes inside torch.vmap or another transform") as caught:
        map_network(kind().eval(), config, (6,))
    assert "\n" not in str(caught.value)


def test_a_mask_made_by_vmap_is_no_matter():
    class Masked(Net):
        def forward(self, x):
            mask = torch.vmap(lambda k: k < 4)(torch.arange(6, device=x.device))
            return super().forward(x * mask)

    assert len(map_network(Masked(), CONFIG, (6,)).sites) == 3


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_parts_that_run_again_for_their_gradient_are_refused_where_it_is_wanted(reentrant):
    """The second run lies outside `programmed`: its gradients would be those of the nominal weights."""

    class Saving(Net):
        def forward(self, x):
            return self.head(checkpoint(lambda x: self.body(x).relu(), self.stem(x), use_reentrant=reentrant))

    model, x = Saving().eval(), torch.randn(4, 6)
    network = map_network(model, CONFIG, (6,))
    with network.programmed(network.program(torch.Generator())) as running:
        with pytest.raises(MappingError, match=r"^Layer body lies within torch.utils.checkpoint"):
            running(x)
        with torch.no_grad(), network.programmed(network.program(torch.Generator())):
            running(x)
