"""The engine's pieces against the user's own `model(x)`."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.core.errors import MappingError
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.evaluation.agreement import agrees
from cimenv.evaluation.segments import SegmentedNetwork


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((2, 3)))


def mapped(model):
    return map_network(model, CrossbarConfig(), (1, 8, 8))


def images():
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_plain_network_runs_in_pieces(caplog):
    model = Net().eval()
    assert agrees(mapped(model), model, images())
    assert not caplog.records


@pytest.mark.parametrize("where", ["hook", "forward", "pre_hook"])
def test_what_the_pieces_would_skip_makes_the_network_run_whole(where, caplog):
    """A trace begins inside the outermost forward: its hooks, and a forward of the instance, lie before it."""
    model = Net().eval()
    if where == "hook":
        model.register_forward_hook(lambda module, args, out: -out)
    elif where == "pre_hook":
        model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    else:
        model.forward = lambda x: 2 * Net.forward(model, x)
    with caplog.at_level(logging.WARNING, "cimenv"):
        assert not agrees(mapped(model), model, images())
    assert [record.getMessage() for record in caplog.records] == [
        "Net gives other outputs cut at its layers than whole, so it is evaluated whole: right, but slower."
    ]


def test_a_network_that_differs_from_itself_is_refused_by_name():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Noisy(), nn.Linear(8, 3)).eval()
    with pytest.raises(MappingError, match=r"^Sequential gives other outputs in a second call .* from its part 2 on"):
        agrees(mapped(model), model, images())


def test_dropout_of_a_users_own_that_never_stops_is_refused_by_name():
    class Always(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    model = nn.Sequential(nn.Flatten(), Always(), nn.Linear(64, 3)).eval()
    with pytest.raises(MappingError, match="from its part 1 on; make it repeatable"):
        agrees(mapped(model), model, images())


def test_outputs_that_are_not_numbers_are_refused():
    class Logarithm(Net):
        def forward(self, x):
            return super().forward(x).sub(1e6).log()

    model = Logarithm().eval()
    with pytest.raises(MappingError, match="NaN or infinite"):
        agrees(mapped(model), model, images())


@pytest.mark.parametrize(("amplified", "fine"), [(True, True), (False, False)])
def test_between_the_bounds_double_precision_decides(amplified, fine, monkeypatch):
    """A difference of two large sums amplifies rounding to 1e-4 of the outputs; a true error of 1e-4 stays one."""
    model = Net().eval()
    network = mapped(model)
    from cimenv.evaluation import segments

    original = segments.layer_forward

    def rounded(layer, x, weight, generator=None):
        y = original(layer, x, weight, generator)
        if amplified:
            return y * (1 + 1e-4) if y.dtype == torch.float32 else y
        return y * (1 + 1e-4)

    monkeypatch.setattr(segments, "layer_forward", rounded)
    assert agrees(network, model, images()) == fine


def test_a_mapped_copy_that_computes_something_else_is_named():
    class Half(nn.Module):
        """Its LSTM is written out as matrices: the hook below, on the class, does not reach the copy."""

        def __init__(self):
            super().__init__()
            self.rows = nn.LSTM(8, 8, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            scale = 0.5 if isinstance(self.rows, nn.LSTM) else 1.0
            return self.head(scale * self.rows(x.squeeze(1))[0][:, -1])

    model = Half().eval()
    with pytest.raises(MappingError, match="gives other outputs when its layer head is mapped"):
        agrees(mapped(model), model, images())


def test_a_chip_is_tried_too_where_the_clean_outputs_cannot_tell(caplog):
    """The head's weight is read a second time, beside its layer: the pieces would read the nominal one there."""

    class Reread(Net):
        def forward(self, x):
            return super().forward(x) @ self.head.weight

    model = Reread().eval()
    assert agrees(mapped(model), model, images())  # seen in the trace: one piece from the start
    assert SegmentedNetwork(model, mapped(model).sites).opaque


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


@pytest.mark.parametrize("way", ["scripted", "unseen"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_weight_that_is_read_where_nobody_sees_it_is_refused_by_name(way):
    scripted = torch.jit.script(product)

    class Hidden(Net):
        def forward(self, x):
            y = super().forward(x)
            if way == "scripted":
                return scripted(y, self.head.weight)
            with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
                return y @ self.head.weight

    model = Hidden().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MappingError, match="reads the weight of head where a chip's cannot take its place"):
        agrees(mapped(model), model, images())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def rectified(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight).relu()


class Compiled(Net):
    """Its head is multiplied by in a compiled function."""

    def __init__(self):
        super().__init__()
        self.function = torch.compile(rectified, backend="eager")

    def forward(self, x):
        return self.function(self.stem(x).mean((2, 3)), self.head.weight)


class Tied(Net):
    """Two attentions share a matrix for queries, keys and values; two heads share their memory."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.two.in_proj_weight = self.one.in_proj_weight
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight.data = self.first.weight.data
        del self.stem, self.head

    def forward(self, x):
        x = x.squeeze(1)
        x = self.two(*[self.one(x, x, x, need_weights=False)[0]] * 3, need_weights=False)[0]
        return self.second(self.first(x[:, 0]).relu())


@pytest.mark.parametrize("kind", [Compiled, Tied])
def test_compiled_functions_and_ties_compute_as_they_do_in_the_users_network(kind, caplog):
    model = kind().eval()
    agrees(mapped(model), model, images())
    assert not [record for record in caplog.records if record.name == "cimenv"]
