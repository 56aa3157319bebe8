"""Chips in time: one programming, several times, and analog products in evaluations."""

import numpy as np
import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError
from cimenv.core.store import Store
from cimenv.data import load_data
from cimenv.tasks import MonteCarloEvaluator, UserObjects, load_task
from cimenv.tasks.stages.identity import BACKBONE_VERSIONS, Identity, arrays_digest

TIMES = (0.0, 3_600.0, 31_536_000.0)
QUICK = [
    "recipe.name=standard",
    "recipe.epochs=1",
    "reference.epochs=1",
    "bank.steps=20",
    "tuned.steps=5",
    "chips=3",
    "images=200",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("times"))


def evaluator(store, **fields):
    task = load_task("toy-4site", QUICK).with_changes(crossbar={"preset": "rasch2023"}, **fields)
    return MonteCarloEvaluator(task, store, threads=fields.pop("threads", 1))


def test_one_row_a_time_from_the_same_chips(store):
    together, bare = evaluator(store, times_s=TIMES), (0, 0, 0, 0)  # blocks are fitted for their times
    found = together.evaluate(bare)
    assert found.correct.shape == (3, 3)
    for k, t_s in enumerate(TIMES):
        alone = evaluator(store, times_s=(t_s,)).evaluate(bare)
        assert (alone.correct[0] == found.correct[k]).all() and alone.key != found.key
    assert found.value("mean") == pytest.approx(found.correct.mean() / 200)
    worst = evaluator(store, times_s=TIMES, over_times="worst").evaluate(bare)
    assert worst.value("mean") == pytest.approx(found.correct.mean(1).min() / 200)


def test_analog_evaluations_do_not_depend_on_order_threads_or_company(store, tmp_path):
    placements = [(0, 0, 0, 0), (1, 0, 2, 1), (1, 0, 2, 0), (2, 2, 2, 2)]
    many = evaluator(store, times_s=(86_400.0,)).evaluate_many(placements)
    fresh = evaluator(Store(tmp_path), times_s=(86_400.0,))
    fresh.store.put_many([])  # a store of its own: backbone and bank are trained again
    fresh._threads = 2
    for placement, known in reversed(list(zip(placements, many, strict=True))):
        again = fresh.evaluate(placement)
        assert (again.correct == known.correct).all()
        np.testing.assert_array_equal(again.site_errors, known.site_errors)


def test_per_chip_calibration_of_analog_chips_does_not_depend_on_company(store):
    class Normed(torch.nn.Sequential):
        def __init__(self):
            super().__init__(
                torch.nn.Conv2d(1, 4, 5, 4), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 10)
            )

    torch.manual_seed(0)
    objects = UserObjects(Normed(), load_data("fashion-mini"))
    task = load_task("toy-4site", QUICK).with_changes(
        crossbar={"preset": "rasch2023", "batch_norm": "per_chip", "batch_norm_images": 100}
    )
    both = [MonteCarloEvaluator(task, Store(store.root.parent / name), threads=1, objects=objects) for name in "ab"]
    together = both[0].evaluate_many([(0, 0), (1, 0)])[1]
    alone = both[1].evaluate((1, 0))
    assert (together.correct == alone.correct).all()


def test_networks_that_differ_in_an_argument_have_other_digests():
    arrays = {"w": torch.ones(2)}
    two, four = (Identity.of_backbone("vit", {"heads": heads, "depth": 1}) for heads in (2, 4))
    assert len({arrays_digest(identity, arrays) for identity in (two, four)}) == 2


def test_keys_of_built_in_networks_hold_versions_and_no_text_of_torch(monkeypatch):
    """The digest of given numbers is a number of its own: neither torch's text nor the source of a class enters."""
    identity = Identity.of_backbone("resnet8", {})
    before = arrays_digest(identity, {"w": torch.arange(4.0)})
    monkeypatch.setattr(nn.Module, "__repr__", lambda self: "another text")
    assert arrays_digest(identity, {"w": torch.arange(4.0)}) == before == "664b9f48913d2cebcaeac16592dcefc3"
    monkeypatch.setitem(BACKBONE_VERSIONS, "resnet8", 2)
    assert arrays_digest(Identity.of_backbone("resnet8", {}), {"w": torch.arange(4.0)}) != before


def test_a_task_that_contradicts_itself():
    with pytest.raises(ConfigError, match="starts from the reference"):
        load_task("toy-4site").with_changes(reference={"name": "hwa"})
    with pytest.raises(ConfigError, match="exact products"):
        load_task("toy-4site").with_changes(statistic="worst_case", crossbar={"overrides": {"fc1": {"analog": True}}})


def test_times_are_checked():
    for times in ((), (-1.0,), (1.0, 1.0)):
        with pytest.raises(ConfigError, match="times_s"):
            load_task("toy-4site").with_changes(times_s=times)


def test_an_analog_crossbar_has_another_key(store):
    keys = {
        evaluator(store).evaluate((0, 0, 0, 0)).key,
        MonteCarloEvaluator(load_task("toy-4site", QUICK), store, threads=1).evaluate((0, 0, 0, 0)).key,
        MonteCarloEvaluator(
            load_task("toy-4site", QUICK).with_changes(crossbar={"preset": "rasch2023", "adc_bits": 7}),
            store,
            threads=1,
        )
        .evaluate((0, 0, 0, 0))
        .key,
    }
    assert len(keys) == 3


def test_a_device_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    task = load_task("toy-4site", [*QUICK, "training_device=cuda"])
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        MonteCarloEvaluator(task, Store(tmp_path)).evaluate((0, 0, 0, 0))
    assert task.key == load_task("toy-4site", QUICK).key  # as threads, it stands in the training's key


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("recipe", ["standard", "hwa", "a_trice", "adversarial", "trice"])
def test_training_on_a_gpu(recipe, tmp_path):
    fields = {"training_device": "cuda", "recipe": {"name": recipe, "epochs": 2}, "reference": {"epochs": 2}}
    crossbar = {"preset": "rasch2023"} if recipe == "hwa" else {"preset": "lognormal"}
    task = load_task("toy-4site", QUICK).with_changes(**fields, crossbar=crossbar)
    found = MonteCarloEvaluator(task, Store(tmp_path), device="cuda")
    assert found.evaluate((1, 1, 1, 1), "test", "tuned").value("mean") > 0.4 and found.clean_accuracy() > 0.5


def test_a_time_that_devices_are_not_known_at_is_refused_before_anything_is_trained():
    reram = {"crossbar": {"preset": "reram_wan2022"}}
    load_task("toy-4site").with_changes(**reram, times_s=(1.0, 86_400.0))
    with pytest.raises(
        ConfigError, match=r"times_s holds 7; 'reram_wan2022' devices are known at 0, 1, 86400, 172800 s"
    ):
        load_task("toy-4site").with_changes(**reram, times_s=(1.0, 7.0))
    mixed = {"overrides": {"fc*": {"device": {"kind": "reram_wan2022"}}}}
    with pytest.raises(ConfigError, match="times_s holds 3600"):
        load_task("toy-4site").with_changes(crossbar=mixed, times_s=(3_600.0,))
