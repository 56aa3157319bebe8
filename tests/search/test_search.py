"""Searches against the enumerated toy task."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import cimenv
from cimenv.core.errors import ConfigError, DataError, MappingError, UnknownNameError
from cimenv.core.store import Store
from cimenv.data import DataSplits, ImageSet
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, load_task


def test_exhaustive_finds_the_maximum(toy, toy_values):
    found = run_search(toy, "exhaustive")
    assert found.evaluations == len(toy_values) == 81
    assert found.objective == max(toy_values.values()) and toy_values[found.best] == found.objective


def test_knapsack_needs_sites_times_options_plus_two(toy, toy_values):
    found = run_search(toy, "knapsack")
    assert found.evaluations <= 4 * 2 + 2  # none, every single block, the solution
    single = {(s, o): toy_values[tuple(o if k == s else 0 for k in range(4))] for s in range(4) for o in (1, 2)}
    best = tuple(max((0, 1, 2), key=lambda o: single.get((s, o), 0.0)) for s in range(4))
    assert best in [step.placement for step in found.steps]


def test_greedy_ends_where_no_single_change_helps(toy, toy_values):
    found = run_search(toy, "greedy")
    for s in range(4):
        for option in range(3):
            change = (*found.best[:s], option, *found.best[s + 1 :])
            assert toy_values[change] <= found.objective + 1e-9


def test_random_is_reproducible_and_distinct(toy):
    runs = [run_search(toy, "random", 20, seed) for seed in (1, 1, 2)]
    placements = [[step.placement for step in run.steps] for run in runs]
    assert placements[0] == placements[1] != placements[2]
    assert len(set(placements[0])) == runs[0].evaluations == 20
    assert runs[0].best_so_far == np.maximum.accumulate([s.objective for s in runs[0].steps]).tolist()


@pytest.mark.parametrize("method", ["random", "greedy", "knapsack", "exhaustive"])
def test_budgets_are_kept(toy, method):
    task = toy.task.with_changes(budget={"weights": 0.02, "macs": 0.05})
    evaluator = MonteCarloEvaluator(task, toy.store)
    found = run_search(evaluator, method, 9)
    assert found.evaluations <= 9
    for step in found.steps:
        shares = evaluator.space.shares(step.placement)
        assert shares["weights"] <= 0.02 + 1e-9 and shares["macs"] <= 0.05 + 1e-9


def test_bad_arguments(toy):
    with pytest.raises(UnknownNameError, match="Did you mean 'greedy'"):
        run_search(toy, "gredy")
    with pytest.raises(ConfigError, match="budget"):
        run_search(toy, "random", 0)


@pytest.fixture
def tiny_data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    images = torch.randn(400, 1, 8, 8, generator=generator) * 0.3 + torch.eye(4)[labels].repeat(1, 16).view(
        400, 1, 8, 8
    )
    parts = [ImageSet(images[k], labels[k]) for k in (slice(0, 240), slice(240, 320), slice(320, 400))]
    return DataSplits("blobs", *parts, classes=4)


def trained(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.train.inputs()), data.train.labels).backward()
        optimizer.step()
    return model.eval()


def test_place_on_a_users_own_network(tiny_data, tmp_path):
    model = trained(tiny_data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = cimenv.place(
        model,
        tiny_data,
        cimenv.CrossbarConfig(device=cimenv.LogNormal(sigma=0.8)),
        budget={"weights": 0.5},
        method="exhaustive",
        store=Store(tmp_path),
        bank={"steps": 50},
        tuned={"steps": 20},
        chips=5,
        report_chips=80,
    )
    assert result.shares["weights"] <= 0.5 and len(result.placement) == 2
    assert result.tuned.correct.shape == (1, 80) and result.tuned.images == 80
    assert "fresh chips" in str(result) and result.tuned.interval("percentile") is not None
    x = tiny_data.test.inputs()
    plain = model(x)
    with result.inserted(model) as network:
        assert network is model and any(result.placement) == (not torch.equal(model(x), plain))
    assert torch.equal(model(x), plain)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Recurrent(nn.Module):
    """Rows of an image, one by one."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])


def test_place_gives_recurrent_layers_blocks_and_inserts_them(tiny_data, tmp_path):
    torch.manual_seed(0)
    model, store = Recurrent().eval(), Store(tmp_path)
    effort = {"bank": {"steps": 5}, "tuned": {"steps": 2}, "chips": 2, "report_chips": 2}
    result = cimenv.place(model, tiny_data, store=store, method="first", cost_weight=0.0, **effort)
    space = result.evaluator.space
    sites = [site.name for site in space.options.sites]
    assert sites == ["lstm.ih_l0", "lstm.hh_l0", "head"] and space.candidates[:, 1].all()
    everywhere = replace(result, placement=space.uniform("affine"))
    x = tiny_data.test.inputs()
    plain = model(x)
    with everywhere.inserted(model) as network:
        assert not torch.allclose(network(x), plain, atol=1e-5)
    assert torch.equal(model(x), plain)


def test_place_refuses_what_does_not_fit(tiny_data, tmp_path):
    with pytest.raises(MappingError, match="no layer with a matrix"):
        cimenv.place(nn.Sequential(nn.ReLU()), tiny_data, store=Store(tmp_path))
    with pytest.raises(DataError, match="does not pass"):
        cimenv.place(nn.Linear(3, 4), tiny_data, store=Store(tmp_path))
    with pytest.raises(ConfigError, match="Module"):
        cimenv.place("lenet5", tiny_data)
    model = trained(tiny_data)
    for wrong, words in (
        ({"budget": 0.05}, "budget: got 0.05; give caps by term"),
        ({"seed": -1, "method": "random"}, "seed: got -1; give an int of at least 0"),
        ({"evaluations": 2.5}, "evaluations: got 2.5; give an int of at least 1"),
        ({"recipe": "noise"}, "recipe: place takes the model and the data as they are"),
    ):
        with pytest.raises(ConfigError, match=words):
            cimenv.place(model, tiny_data, **{"store": tmp_path, "bank": {"steps": 1}, **wrong})
    with pytest.raises(ConfigError, match=r"its weights are torch.float64; give model\.float"):
        cimenv.place(trained(tiny_data).double(), tiny_data)
    with pytest.raises(DataError, match=r"data: got a list; give cimenv\.DataSplits"):
        cimenv.place(model, [])
    with pytest.raises(ConfigError, match="unknown cost term"):
        cimenv.place(trained(tiny_data), tiny_data, budget={"weight": 0.1})


def test_place_takes_what_a_task_would_and_says_why_there_is_no_block(tiny_data, tmp_path):
    effort = {"bank": {"steps": 1}, "tuned": {"steps": 1}, "chips": 2, "report_chips": 2, "store": tmp_path}
    model = trained(tiny_data)
    devices = [cimenv.LogNormal(sigma=0.3), {"device": {"kind": "log_normal", "sigma": 0.3}}, "ideal"]
    found = [cimenv.place(model, tiny_data, crossbar, evaluations=1, **effort) for crossbar in devices]
    errors = [result.none.site_errors for result in found]
    assert (errors[0] == errors[1]).all() and (errors[0][:, 0] > 0).all() and (errors[2][:, 0] == 0).all()
    assert "(greedy, 1 evaluation)" in str(found[0]) and "no placement of blocks was seen" in str(found[0])
    low, high = found[0].none.interval("mean")
    assert 0 <= low <= high <= 1  # two chips tell nothing, but an accuracy is a share
    nothing = cimenv.place(model, tiny_data, budget={"weights": 1e-6}, **effort)
    assert "no block is allowed: loosen the budget" in str(nothing)
    with pytest.raises(MappingError, match="the model has no layer"), found[0].inserted(nn.Linear(3, 3)):
        pass


def test_defaults_of_the_named_task_are_not_touched():
    assert load_task("lenet5-fashion-mini").budget == {}
