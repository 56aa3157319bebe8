"""cimenv.evaluate: a network without blocks."""

import numpy as np
import pytest
import torch
from torch import nn

import cimenv
from cimenv.core.errors import ConfigError, DataError
from cimenv.core.progress import silent
from cimenv.core.store import Store
from cimenv.data import DataSplits, ImageSet
from cimenv.evaluation.statistics import Mean
from cimenv.tasks import MonteCarloEvaluator, load_task
from cimenv.tasks.bare import evaluated, without_blocks
from cimenv.tasks.own import own_task
from cimenv.training import fitting

PROTOTYPES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def part(seed, n=120):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    return ImageSet(PROTOTYPES[labels] + torch.randn(n, 1, 8, 8, generator=generator), labels)


DATA = DataSplits("tiny", part(0), part(1), part(2), classes=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(DATA.train.inputs()), DATA.train.labels).backward()
        optimizer.step()
    return network.eval()


def test_an_ideal_crossbar_leaves_the_networks_own_accuracy(model, tmp_path):
    found = cimenv.evaluate(model, DATA, "ideal", chips=3, store=tmp_path, progress=silent)
    own = (model(DATA.test.inputs()).argmax(1) == DATA.test.labels).float().mean().item()
    assert found.accuracy.tolist() == pytest.approx([own] * 3) and found.clean_accuracy == pytest.approx(own)
    assert found.interval == pytest.approx((own, own))
    assert [error["error_max"] for error in found.site_errors.values()] == [0.0, 0.0]
    assert list(found.sites) == ["1", "3"] and found.saturation == {}


def test_accuracy_and_interval_are_those_of_the_counts(model, tmp_path):
    pcm = {"device": {"kind": "pcm"}}
    times = (0.0, 1e7)
    found = cimenv.evaluate(model, DATA, pcm, chips=6, times_s=times, images=100, store=tmp_path, progress=silent)
    correct = found.evaluation.correct
    assert correct.shape == (2, 6) and found.evaluation.images == 100 and found.evaluation.split == "test"
    assert found.accuracy.tolist() == pytest.approx((correct.mean(axis=0) / 100).tolist())
    assert found.accuracy_at[1e7].tolist() == (correct[1] / 100).tolist()
    mean, half = found.accuracy.mean(), 2.5706 * found.accuracy.std(ddof=1) / np.sqrt(6)  # t of 5 degrees
    assert found.interval == pytest.approx((mean - half, min(1.0, mean + half)), abs=1e-4)
    assert found.mean == pytest.approx(mean) and found.low == min(found.accuracy) and found.low_interval is None
    text = str(found)
    assert f"accuracy {mean:.4f} (95 % interval" in text and f"after 1e+07 s: {correct[1].mean() / 100:.4f}" in text
    assert text.splitlines()[-1].split()[:3] == ["3", "dense", "64"]


def test_nothing_is_trained_and_the_model_stays(model, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_fit", lambda *_: pytest.fail("a block was fitted"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cimenv.evaluate(model, DATA, cimenv.LogNormal(sigma=0.5), chips=2, store=tmp_path, progress=silent)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    kinds = Store(tmp_path).info()["kinds"]
    assert not kinds.keys() & {"backbone", "bank", "tuned"} and kinds["evaluation"]["entries"] == 1


def test_saturation_of_an_analog_crossbar(model, tmp_path):
    narrow = {"preset": "rasch2023", "adc_bound": 0.5}
    found = cimenv.evaluate(model, DATA, narrow, chips=2, images=50, store=tmp_path, progress=silent)
    assert list(found.saturation) == ["1", "3"] and found.saturation["1"].saturated_outputs > 0.3
    assert f"{found.saturation['1'].saturated_outputs:.2%}" in str(found) and "saturated out" in str(found)


def test_what_is_refused(model):
    with pytest.raises(ConfigError, match=r"options: evaluate runs the network without blocks"):
        cimenv.evaluate(model, DATA, options={})
    with pytest.raises(ConfigError, match=r"recipe: evaluate takes the model and the data as they are"):
        cimenv.evaluate(model, DATA, recipe="noise")
    with pytest.raises(ConfigError, match=r"unknown crossbar preset 'idael'.*Did you mean 'ideal'"):
        cimenv.evaluate(model, DATA, "idael")
    with pytest.raises(ConfigError, match="chips: got 0"):
        cimenv.evaluate(model, DATA, chips=0, progress=silent)
    with pytest.raises(DataError, match=r"data: got a list"):
        cimenv.evaluate(model, [])


def test_a_tasks_network_without_blocks_is_that_of_its_empty_placement(model, tmp_path):
    task, objects = own_task("test", model, DATA, None, {"bank": {"steps": 0}, "chips": 3})
    whole, bare = (MonteCarloEvaluator(t, Store(tmp_path), objects=objects) for t in (task, without_blocks(task)))
    found = evaluated(bare, "val")
    assert whole.space.options.count == 3 and bare.space.options.count == 0
    assert (found.evaluation.correct == whole.evaluate((0, 0)).correct).all()
    assert found.mean == Mean().value(found.accuracy) and found.accuracy.shape == (3,)


def test_the_reference_is_trained_only_where_a_recipe_starts_from_it():
    task = load_task("lenet5-fashion-mini")
    assert task.recipe.name == "lipschitz" and without_blocks(task).reference == task.recipe
    hwa = load_task("lenet5-fashion-mini", ["recipe=hwa"])
    assert without_blocks(hwa).reference == hwa.reference
