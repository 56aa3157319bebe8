"""Evaluators: pure functions of their keys, whatever the order, process, executor or store."""

import lzma
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from forged_enumerations import signed, with_header
from safetensors.torch import save_file
from torch import nn

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import BudgetError, ConfigError, DataError, PlacementError, UnknownNameError
from cimenv.core.store import Store
from cimenv.data import load_data
from cimenv.networks import build_backbone
from cimenv.search import run_search
from cimenv.tasks import (
    Ledger,
    MonteCarloEvaluator,
    Problem,
    TableEvaluator,
    UserObjects,
    load_task,
)
from cimenv.tasks.requests import Compute
from cimenv.training import Recipe

QUICK = [
    "recipe.epochs=1",
    "reference.epochs=1",
    "bank.steps=30",
    "tuned.steps=10",
    "chips=3",
    "images=200",
    "report_chips=4",
]


def quick(store, *overrides, **fields):
    return MonteCarloEvaluator(load_task("toy-4site", [*QUICK, *overrides]).with_changes(**fields), store)


def test_miss_hit_and_other_store_agree(tmp_path):
    one, two = quick(Store(tmp_path / "a")), quick(Store(tmp_path / "b"))
    p = (1, 0, 2, 1)
    first = one.evaluate(p)
    again = MonteCarloEvaluator(one.task, Store(tmp_path / "a")).evaluate(p)
    other = two.evaluate_many([(0, 0, 0, 0), p, (1, 0, 2, 0)])[1]
    for evaluation in (again, other):
        assert evaluation.key == first.key
        assert (evaluation.correct == first.correct).all()
        assert (evaluation.site_errors == first.site_errors).all()


@pytest.mark.slow
def test_two_processes_train_equal_bits(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from cimenv.core.store import Store\n"
        "from cimenv.tasks import MonteCarloEvaluator, load_task\n"
        f"e = MonteCarloEvaluator(load_task('toy-4site', {QUICK!r}), Store(sys.argv[1]))\n"
        "v = e.evaluate((1, 2, 1, 2), 'test', 'tuned')\n"
        "print(e.problem.weights_digest, v.correct.tolist(), v.site_errors.tobytes().hex())\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    runs = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name), root], capture_output=True, check=True)
        for name in "ab"
    ]
    assert runs[0].stdout == runs[1].stdout != b""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors_agree_with_one_process(toy, kind):
    placements = [(0, 0, 0, 0), (1, 2, 0, 1), (1, 2, 2, 2), (2, 0, 0, 1), (0, 0, 1, 2)]
    evaluator = MonteCarloEvaluator(toy.task, toy.store)
    context = {"mp_context": get_context("spawn")} if kind == "processes" else {}
    pool = (ProcessPoolExecutor if kind == "processes" else ThreadPoolExecutor)(2, **context)
    with pool:
        parts = evaluator._made(evaluator.requests(placements, chips=8), pool)
        found = [evaluation for part in parts for evaluation in part]
    assert sorted(evaluation.placement for evaluation in found) == sorted(placements)  # as they were done
    for evaluation in found:
        assert (evaluation.correct == toy.evaluate(evaluation.placement).correct).all()


def test_val_and_test_use_different_images_and_chips(toy):
    problem = toy.problem
    val, test = problem.chips("val").weights("fc2", 0), problem.chips("test").weights("fc2", 0)
    assert not torch.allclose(val, test)
    assert toy.evaluate((0, 0, 0, 0), "test").images == 2000
    assert toy.evaluate((0, 0, 0, 0)).images == 500


def test_report_images_are_spaced_evenly_over_the_test_split(toy):
    fewer = MonteCarloEvaluator(toy.task.with_changes(report_images=300), toy.store)
    _, labels = fewer.problem.evaluated("test")
    every = torch.arange(300) * 2_000 // 300  # every sixth or seventh of 2,000
    assert every[-1] == 1_993 and set(every.diff().tolist()) == {6, 7}
    assert torch.equal(labels, fewer.problem.data.test.labels[every])
    assert fewer.evaluate(fewer.space.empty(), "test", chips=2).images == 300


def test_tuned_blocks_fit_better_than_none(toy):
    none = toy.evaluate((0, 0, 0, 0), "test")
    tuned = toy.evaluate((2, 2, 2, 1), "test", "tuned")
    gain = tuned.accuracy - none.accuracy  # the same 50 chips: paired
    assert gain.mean() > 5 * gain.std(ddof=1) / np.sqrt(len(gain))


@pytest.mark.parametrize("placement", [(0, 0, 0), (0, 0, 0, 9), (0, 0, 0, -1)])
def test_bad_placements(toy, placement):
    with pytest.raises(PlacementError):
        toy.evaluate(placement)


@pytest.mark.parametrize("arguments", [("train",), ("val", "exact"), ("val", "bank", 0)])
def test_bad_arguments(toy, arguments):
    with pytest.raises(ConfigError):
        toy.evaluate((0, 0, 0, 0), *arguments)


def test_ledger_counts_distinct_placements_warm_or_cold(toy):
    ledger = Ledger(toy, budget=2)
    ledger.evaluate((0, 0, 0, 0))
    ledger.evaluate((0, 0, 0, 0))
    ledger.evaluate_many([(1, 0, 0, 0), (0, 0, 0, 0)])
    assert ledger.spent == 2 and ledger.exhausted
    with pytest.raises(BudgetError, match="2 of 2"):
        ledger.evaluate((2, 0, 0, 0))
    with pytest.raises(ConfigError):
        Ledger(toy, budget=0)


def test_table_answers_as_the_real_evaluator(toy, tmp_path):
    enumerate_placements(toy.task, tmp_path / "toy.csv", store=toy.store, compute=Compute(1))
    (tmp_path / "toy.csv.xz").write_bytes(lzma.compress((tmp_path / "toy.csv").read_bytes()))
    table = pickle.loads(pickle.dumps(TableEvaluator(tmp_path / "toy.csv.xz")))
    assert table.task.key == toy.task.key
    for placement in [(0, 0, 0, 0), (2, 1, 0, 2)]:
        a, b = table.evaluate(placement), toy.evaluate(placement)
        assert (a.correct == b.correct).all() and a.site_errors == pytest.approx(b.site_errors, rel=1e-5)
    assert table.reference_accuracy() == toy.reference_accuracy()
    with pytest.raises(ConfigError, match="MonteCarloEvaluator"):
        table.evaluate((0, 0, 0, 0), "test")
    part = table.evaluate((2, 1, 0, 2), chips=range(2, 5))
    assert part.first_chip == 2 and part.correct.tolist() == [toy.evaluate((2, 1, 0, 2)).correct[0][2:5].tolist()]
    for chips in (0, range(3, 3), range(0, 8, 3), range(7, 9), 9):
        with pytest.raises(ConfigError, match=r"chips|chip 8 of 'val'"):
            table.evaluate((0, 0, 0, 0), chips=chips)
    (tmp_path / "bad.csv").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="is not an enumeration; give a file that `cimenv enumerate` wrote"):
        TableEvaluator(tmp_path / "bad.csv")
    (tmp_path / "bad.csv.xz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="make it again, and compress that by xz"):
        TableEvaluator(tmp_path / "bad.csv.xz")
    text = (tmp_path / "toy.csv").read_text()
    (tmp_path / "part.csv").write_text("".join(text.splitlines(keepends=True)[:40]))
    with pytest.raises(ConfigError, match="unfinished; finish it with `cimenv enumerate`"):
        TableEvaluator(tmp_path / "part.csv")
    (tmp_path / "other.csv").write_bytes(with_header(text.encode(), task__cost_weight=0.9))
    with pytest.raises(ConfigError, match=r"objective no longer follow.*`cimenv enumerate toy-4site --out other.csv`"):
        TableEvaluator(tmp_path / "other.csv")
    *head, last = text.splitlines()
    short = "\n".join([*head, f"{last.rsplit(' ', 1)[0]},check"]) + "\n"
    (tmp_path / "short.csv").write_bytes(signed(short.encode()))
    with pytest.raises(ConfigError, match="it needs 20 feature errors"):
        TableEvaluator(tmp_path / "short.csv")
    TableEvaluator(tmp_path / "toy.csv")
    (tmp_path / "toy.csv").write_text("changed")
    with pytest.raises(ConfigError, match="is not an enumeration"):
        TableEvaluator(tmp_path / "toy.csv")
    (tmp_path / "old.csv").write_bytes(with_header(text.encode(), version=1))
    with pytest.raises(ConfigError, match="enumeration of version 1, this cimenv reads"):
        TableEvaluator(tmp_path / "old.csv")
    with pytest.raises(UnknownNameError, match="Unknown table 'no-such'"):
        TableEvaluator("no-such")


def test_evaluator_pickles_as_paths(toy):
    size = len(pickle.dumps(toy))
    assert size < 10_000
    assert (pickle.loads(pickle.dumps(toy)).evaluate((1, 0, 0, 0)).correct == toy.evaluate((1, 0, 0, 0)).correct).all()


def test_own_weights_need_no_training(toy, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save_file(toy.problem.network.model.state_dict(), path)
    monkeypatch.setattr(Recipe, "fit", lambda *a: pytest.fail("a recipe ran"))
    own = quick(Store(tmp_path / "s"), weights=str(path))
    assert own.clean_accuracy() == own.reference_accuracy()
    with pytest.raises(ConfigError, match="cannot load"):
        quick(Store(tmp_path / "s"), weights=str(tmp_path / "none.safetensors")).problem  # noqa: B018


def test_data_with_too_many_classes_for_the_backbone(tmp_path):
    with pytest.raises(DataError, match="one logit per class"):
        quick(Store(tmp_path), backbone_args={"classes": 5}).problem  # noqa: B018


def test_killed_in_training_loses_nothing(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from cimenv.core.store import Store\n"
        "from cimenv.tasks import Problem, load_task\n"
        "print('go', flush=True)\n"
        "Problem.build(load_task('toy-4site', ['recipe.epochs=50']), Store(sys.argv[1]))\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), root], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(1.0)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert quick(Store(tmp_path)).evaluate((0, 0, 0, 0)).images == 200


def _build(arguments):
    root, marker = arguments
    original = Recipe.fit

    def counted(self, *rest):
        with open(marker, "a") as file:
            file.write(f"{self.name}\n")
        return original(self, *rest)

    Recipe.fit = counted
    return Problem.build(
        load_task("toy-4site", [*QUICK, "recipe={name: noise, epochs: 1}"]), Store(root)
    ).weights_digest


@pytest.mark.slow
def test_eight_processes_on_a_cold_store_train_once(tmp_path):
    marker = tmp_path / "fits"
    with get_context("spawn").Pool(8) as pool:
        digests = pool.map(_build, [(tmp_path / "store", marker)] * 8, chunksize=1)
    assert len(set(digests)) == 1
    assert sorted(marker.read_text().split()) == ["noise", "standard"]


class Relu(nn.Module):
    act = staticmethod(torch.relu)

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.head = nn.Linear(10, 10)

    def forward(self, x):
        return self.head(torch.relu(self.fc(x.flatten(1))))


class Sigmoid(Relu):
    def forward(self, x):
        return self.head(torch.sigmoid(self.fc(x.flatten(1))))


def test_equal_weights_in_another_network_are_another_key(tmp_path):
    torch.manual_seed(0)
    one = Relu()
    two = Sigmoid()
    two.load_state_dict(one.state_dict())
    data, task = load_data("fashion-mini"), load_task("toy-4site", [*QUICK, "bank.steps=0"])
    first, second = (
        MonteCarloEvaluator(task, Store(tmp_path), objects=UserObjects(model, data)).evaluate((0, 0))
        for model in (one, two)
    )
    assert first.key != second.key


def test_data_digest_sees_normalisation():
    data = load_data("fashion-mini")
    other = replace(data, val=replace(data.val, mean=(0.5,)))
    assert other.digest != data.digest


def test_building_a_problem_leaves_the_global_generator_alone(toy, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    quick(Store(tmp_path)).evaluate((0, 0, 0, 1), "test", "tuned")
    assert (torch.get_rng_state() == before).all()


def test_threads_tune_different_placements_at_once(toy, tmp_path):
    placements = [(0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)]
    with ThreadPoolExecutor(2) as pool:
        evaluator = quick(Store(tmp_path))
        found = evaluator.evaluate_many(placements, "val", "tuned", executor=pool)
    assert torch.get_num_threads() >= 1
    assert [evaluation.placement for evaluation in found] == placements


def test_a_layer_whose_weight_is_used_without_calling_it_counts(tmp_path):
    class Bypassing(Relu):
        def forward(self, x):
            if x.is_meta:
                return super().forward(x)
            return self.head(nn.functional.linear(x.flatten(1), self.fc.weight, self.fc.bias)) + float(x[0, 0, 0, 0])

    task = load_task("toy-4site", [*QUICK, "bank.steps=0"])
    own = UserObjects(Bypassing(), load_data("fashion-mini"))
    evaluator = MonteCarloEvaluator(task.with_changes(crossbar={"preset": "ideal"}), Store(tmp_path), objects=own)
    images, labels = evaluator.problem.evaluated("val")
    with torch.no_grad():
        correct = int((own.model(images).argmax(1) == labels).sum())
    assert evaluator.evaluate((0, 0)).correct.tolist() == [[correct] * task.chips]


def test_shipped_weights_give_the_recorded_counts():
    # Recorded when the shipped layer was made: correct of 200 validation images on chips 0-2. Within one image.
    evaluator = MonteCarloEvaluator(load_task("lenet5-fashion-mini", ["images=200"]))
    found = evaluator.evaluate_many([(0, 0, 0, 0, 0), (1, 2, 2, 3, 1)], chips=3)
    recorded = [[151, 156, 142], [156, 159, 155]]
    assert abs(np.array([e.correct[0] for e in found]) - recorded).max() <= 1


@pytest.mark.slow
def test_the_default_optimum_is_neither_none_nor_all():
    evaluator = MonteCarloEvaluator(load_task("lenet5-fashion-mini"), threads=2)
    best = run_search(evaluator, "exhaustive").best
    assert any(best) and best != evaluator.space.largest()


def test_bundled_data_feed_a_built_backbone():
    data = load_data("fashion-mini")
    assert build_backbone("toy_cnn")(data.val.inputs(slice(4))).shape == (4, 10)
