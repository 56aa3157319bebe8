"""Metrics and statistics of the user's own, and files of earlier versions."""

import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError
from cimenv.core.store import Store
from cimenv.evaluation.metrics import METRICS, Metric
from cimenv.evaluation.statistics import STATISTICS, Statistic
from cimenv.tasks import MonteCarloEvaluator, Task, load_task
from cimenv.tasks.engines import engine_of
from cimenv.tasks.evaluators.table import TableEvaluator
from cimenv.tasks.files.enumeration_file import read_enumeration
from cimenv.tasks.files.header import MAGIC
from cimenv.tasks.requests import Compute

OLD = Path(__file__).parent / "old/lstm-3-version-3.csv.xz"
CHIPS = 3


class Likelihood(Metric):
    """The mean logarithm of the probability of the right class."""

    kind = "likelihood"

    def update(self, outputs, targets):
        return -F.cross_entropy(outputs.double(), targets, reduction="sum")


class TopTwo(Metric):
    """The share of images whose class is among the two largest outputs."""

    kind = "top_two"
    share = True

    def update(self, outputs, targets):
        return (outputs.topk(2).indices == targets[:, None]).any(1).sum()


class Yield(Statistic):
    """The share of chips with at least half of the images right."""

    kind = "half"

    def value(self, values, quantile=0.05):
        return float((values >= 0.5).mean())


def own(toy, **fields):
    return MonteCarloEvaluator(toy.task.with_changes(chips=CHIPS, **fields), toy.store)


@pytest.mark.parametrize("metric", [Likelihood, TopTwo])
def test_a_metric_of_ones_own_is_what_the_outputs_of_every_chip_give(toy, metric):
    evaluator = own(toy, metric=f"{__name__}:{metric.__name__}")
    found, problem = evaluator.evaluate((0, 0, 0, 0)), evaluator.problem
    assert found.key != toy.evaluate((0, 0, 0, 0), chips=CHIPS).key
    images, labels = problem.evaluated("val")
    for k in range(CHIPS):
        with torch.no_grad(), problem.network.programmed(problem.chips("val").all_weights(k)) as model:
            expected = float(metric().update(model(images), labels)) / len(labels)
        assert found.values[0, k] == pytest.approx(expected, rel=1e-5)
    assert (found.correct is None) is not metric.share
    again = MonteCarloEvaluator(evaluator.task, toy.store).evaluate((0, 0, 0, 0))
    assert (again.values == found.values).all() and again.cost == evaluator.space.shares((0, 0, 0, 0))
    assert evaluator.clean_accuracy() == pytest.approx(
        float(metric().update(problem.segments.model(images), labels)) / len(labels), rel=1e-5
    )


def test_a_metric_that_is_no_share_is_enumerated_as_values(toy, tmp_path):
    task = load_task(
        "toy-4site", [f"metric={__name__}:Likelihood", "chips=2", "candidates=[conv2]", "cost_weight=0.001"]
    )
    found = enumerate_placements(task, tmp_path / "all.csv", store=toy.store, compute=Compute(1))
    assert "values" in found.header.columns and len(found.rows) == 3
    again = read_enumeration(tmp_path / "all.csv", trust=True)
    assert again.rows == found.rows
    evaluator = MonteCarloEvaluator(task, toy.store)
    for row in again.rows:
        assert row.per_chip == tuple(evaluator.evaluate(row.placement).values[0].tolist())
    table = TableEvaluator(tmp_path / "all.csv", trust=True)
    assert table.evaluate((0, 0, 0, 0)).values.tolist() == [list(found.rows[0].per_chip)]


def test_a_statistic_of_ones_own_judges(toy):
    evaluator = own(toy, statistic=f"{__name__}:Yield")
    found = evaluator.evaluate((0, 0, 0, 0))
    assert found.value(evaluator.task.statistic) == float((found.accuracy >= 0.5).mean())
    assert found.key == toy.evaluate((0, 0, 0, 0), chips=CHIPS).key  # what chips are worth is the same
    assert evaluator.task.key != own(toy).task.key


def test_a_registered_name_is_written_as_where_the_class_is(monkeypatch):
    for registry, entry in ((METRICS, TopTwo), (STATISTICS, Yield)):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        registry.register(entry)
    with pytest.raises(ConfigError, match="the name 'mean' is taken"):
        STATISTICS.register(Yield, "mean")
    task = load_task("toy-4site", ["metric=top_two", "statistic=half"])
    assert (task.metric, task.statistic) == (f"{__name__}:TopTwo", f"{__name__}:Yield")
    assert Task.model_validate_json(task.model_dump_json()) == task


def test_a_file_of_version_3_is_read_and_renewed(tmp_path):
    """Its header says the statistic as `metric`, its rows are those of the table that ships now."""
    old, new = read_enumeration(OLD), TableEvaluator("lstm-3").enumeration
    assert old.header.version == 3 and old.header.task.statistic == "mean" and old.header.task.metric == "accuracy"
    assert old.rows == new.rows and old.header.task == new.header.task and old.header.terms == new.header.terms
    assert TableEvaluator(OLD).extremes == TableEvaluator("lstm-3").extremes
    path = tmp_path / "old.csv"
    path.write_bytes(lzma.decompress(OLD.read_bytes()))
    found = enumerate_placements(old.header.task, path, store=Store(tmp_path / "store"))
    assert found.new == 0 and read_enumeration(path).header == new.header
    assert path.read_bytes().startswith(MAGIC.encode())


def test_an_engine_adds_up_what_the_metric_says(toy):
    engine = engine_of(own(toy, metric=f"{__name__}:Likelihood").problem, "val")
    tally = engine.run([(0, 0, 0, 0), (1, 0, 0, 0)], range(2))
    assert tally.sums.dtype == np.float64 and (tally.sums < 0).all()


def test_classes_of_ones_own_travel_with_the_task():
    task = load_task("toy-4site", [f"metric={__name__}:TopTwo", f"statistic={__name__}:Yield"])
    state = task.__getstate__()
    assert state["own"] == [TopTwo, Yield]
    assert pickle.loads(pickle.dumps(task)) == task
