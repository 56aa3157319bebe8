"""`place` and `evaluate` on networks as users write them: the clean accuracy is that of the user's own `model(x)`."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cimenv
from cimenv.core.progress import silent
from cimenv.core.store import Store
from cimenv.tasks import Problem, Task, UserObjects
from cimenv.tasks.engines import engine_of

PROTOTYPES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def part(seed, n=200):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    return cimenv.ImageSet(PROTOTYPES[labels] + torch.randn(n, 1, 8, 8, generator=generator), labels)


SPLITS = cimenv.DataSplits("tiny", part(0), part(1), part(2), classes=4)


def fitted(model, steps=60):
    torch.manual_seed(0)
    data, trained = part(0), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(data.inputs()), data.labels).backward()
        optimizer.step()
    return model.eval()


def accuracy(model):
    data = part(2)
    with torch.no_grad():
        return (model(data.inputs()).argmax(1) == data.labels).float().mean().item()


class Lora(nn.Linear):
    def __init__(self):
        super().__init__(64, 4)
        self.weight.requires_grad_(False).zero_()
        self.a, self.b = nn.Parameter(torch.randn(2, 64) / 8), nn.Parameter(torch.randn(4, 2) / 2)

    def forward(self, x):
        return super().forward(x) + x @ self.a.T @ self.b.T


def hooked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    model[1].register_forward_hook(lambda layer, args, out: -out)
    return model


def root_hooked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    model.register_forward_hook(lambda layer, args, out: out.flip(1))
    return model


def quantised():
    """Return a network in quantisation-aware training, its observers filled and frozen."""
    from torch.ao import quantization as q

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).train()
    model.qconfig = q.get_default_qat_qconfig("fbgemm")
    made = q.prepare_qat(model)
    made(part(0).inputs())
    return made.apply(q.disable_observer)


def closed_over():
    """Return a network whose layer has a forward of its own that holds on to the layer itself."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    layer = model[1]
    layer.forward = lambda x: -2 * F.linear(x, layer.weight, layer.bias)
    return model


MODELS = {
    "closed_over": closed_over,
    "lora": lambda: nn.Sequential(nn.Flatten(), Lora()),
    "hooked": hooked,
    "root_hooked": root_hooked,
    "pruned": lambda: nn.Sequential(nn.Flatten(), nn.utils.prune.random_unstructured(nn.Linear(64, 4), "weight", 0.3)),
    "compiled": lambda: nn.Sequential(nn.Flatten(), torch.compile(nn.Linear(64, 4))),
    "weight_norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 4))),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_clean_accuracy_is_that_of_the_users_network(name, tmp_path):
    model = fitted(MODELS[name](), steps=0 if name == "compiled" else 60)  # compiling takes a while
    found = cimenv.evaluate(model, SPLITS, {"preset": "ideal"}, chips=2, store=tmp_path, progress=silent)
    model = model if name != "compiled" else nn.Sequential(model[0], model[1]._orig_mod)
    assert found.clean_accuracy == pytest.approx(accuracy(model))
    assert found.mean == pytest.approx(accuracy(model))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantisation_aware_layers_count_as_they_compute(tmp_path):
    model = fitted(quantised(), steps=30)
    found = cimenv.evaluate(model, SPLITS, {"preset": "ideal"}, chips=1, store=tmp_path, progress=silent)
    assert found.clean_accuracy == found.mean == pytest.approx(accuracy(model))


def test_blocks_are_fitted_and_inserted_in_a_network_without_layers_of_torch(tmp_path):
    class Language(nn.Module):
        """Dense layers that keep their weights as [in, out]."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Parameter(torch.randn(64, 16) / 8), nn.Parameter(torch.randn(16, 4) / 4)
            self.bias = nn.Parameter(torch.zeros(16))

        def forward(self, x):
            return torch.addmm(self.bias, x.flatten(1), self.first).relu() @ self.second

    model = fitted(Language())
    found = cimenv.place(
        model, SPLITS, method="uniform", chips=2, images=100, report_chips=3, bank={"steps": 20}, tuned={"steps": 20},
        store=tmp_path, progress=silent,
    )  # fmt: skip
    assert [site.name for site in found.evaluator.space.sites] == ["first", "second"]
    assert found.clean_accuracy == pytest.approx(accuracy(model))
    with found.inserted(model) as placed, torch.no_grad():
        outputs = placed(part(2).inputs())
    assert (not torch.equal(outputs, model(part(2).inputs()))) == any(found.placement)


SCALE = {"by": 1.0}


class Helped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(64, 4)

    def forward(self, x):
        return SCALE["by"] * self.a(x.flatten(1))


def test_the_store_tells_networks_apart_whose_code_is_elsewhere(tmp_path, monkeypatch):
    """A global that the class uses changes: another network, though class, source and weights are the same."""
    model = fitted(Helped())

    def clean():
        return cimenv.evaluate(model, SPLITS, {"preset": "ideal"}, chips=1, store=tmp_path, progress=silent).mean

    first = clean()
    monkeypatch.setitem(SCALE, "by", -1.0)
    second = clean()
    assert second == pytest.approx(accuracy(model)) and second < 0.3 < first
    monkeypatch.setitem(SCALE, "by", 1.0)
    assert clean() == first


@pytest.mark.parametrize("name", [name for name in MODELS if name != "compiled"])
def test_every_chip_counts_what_functional_call_counts(name, tmp_path):
    """Correct images of three chips at sigma 1.5, from the engine and from the chips' weights in the parameters."""
    objects = UserObjects(fitted(MODELS[name]()), SPLITS)
    task = Task(name=name, crossbar={"device": {"kind": "log_normal", "sigma": 1.5}}, options={}, images=200)
    problem = Problem.build(task, Store(tmp_path), objects=objects)
    (images, labels), model = problem.evaluated("val"), problem.network.model
    counted = engine_of(problem, "val").run([(0,) * len(problem.network.sites)], range(3)).sums[0].tolist()
    expected = []
    for chip in (problem.chips("val").all_weights(k) for k in range(3)):
        values = {parameter: value.detach().clone() for parameter, value in model.named_parameters()}
        for site in problem.network.sites:
            site.matrix(values[site.parameter]).copy_(chip[site.name])
        if name == "closed_over":  # its closure holds the user's own layer
            outputs = -2 * F.linear(images.flatten(1), values["1.weight"], values["1.bias"])
        else:
            outputs = torch.func.functional_call(model, values, (images,))
        expected.append(int((outputs.argmax(1) == labels).sum()))
    assert counted == expected
    assert len(set(counted)) > 1  # the chips differ
