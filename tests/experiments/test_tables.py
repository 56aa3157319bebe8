"""The tables that ship: their plan, and how one is made."""

import os
from pathlib import Path

import numpy as np
import pytest

from cimenv.core.errors import ConfigError
from cimenv.core.store import Store
from cimenv.tasks import Problem, TableEvaluator, load_task, shipped_tables
from cimenv.tasks.engines import engine_of
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, load_table
from cimenv.tasks.problem import SHIPPED
from cimenv.tasks.requests import Compute
from cimenv.tasks.space import PlacementSpace
from experiments.lab.table_files import located, tables_digest
from experiments.tables.__main__ import main
from experiments.tables.make import fits, make, ship
from experiments.tables.plan import plans


def test_every_plan_can_be_enumerated():
    for name, plan in plans().items():
        task = plan.made()
        count = sum(1 for _ in PlacementSpace(task).all_placements())
        assert count <= (4_096 if plan.ships else 4_374) and name.startswith(plan.task), name


@pytest.mark.parametrize("name", shipped_tables())
def test_what_ships_is_what_is_planned(name):
    assert load_table(name).header.task.key == plans()[name].made().key
    assert fits(SHIPPED_TABLES / f"{name}.csv.xz", plans()[name].made())
    assert sum(path.stat().st_size for path in SHIPPED_TABLES.glob("*")) < 10 * 2**20


LARGE = {"vgg16-two-digit-400-chips": (512, 400, 2_000), "vgg16-two-digit-8-sites": (4_374, 100, 500)}


@pytest.mark.parametrize("name", LARGE)
def test_what_the_comparison_is_judged_on(name):
    """Made on a GPU from the networks and blocks that ship: placements, chips, images as the README says."""
    assert fits(Path(located(name)), plans()[name].made())
    found = load_table(located(name))
    assert (len(found.rows), found.header.chips, found.header.images) == LARGE[name]
    assert located("mlp-4") == "mlp-4" and not any(row.per_chip == found.rows[0].per_chip for row in found.rows[1:])


@pytest.mark.slow
@pytest.mark.skipif("CIMENV_DATA" not in os.environ, reason="needs the whole of MNIST")
def test_a_cpu_agrees_with_the_gpus_table(tmp_path):
    """Within two of 2,000 images; measured on 16 chips and placements: one at most."""
    found = load_table(located("vgg16-two-digit-400-chips"))
    problem = Problem.build(found.header.task, Store(tmp_path, layers=(SHIPPED,)))
    assert problem.weights_digest == found.header.weights_digest
    rows = [found.rows[0], found.rows[300], found.best]
    tally = engine_of(problem, "val", Compute(2)).run([row.placement for row in rows], range(4))
    assert np.abs(tally.sums - [row.per_chip[:4] for row in rows]).max() <= 2


def test_a_table_is_made_and_found_fit(toy, tmp_path, capsys):
    made = make("toy", toy.task, tmp_path / "tables", toy.store, tmp_path / "work")
    assert fits(made, toy.task) and not fits(made, load_task("mlp-4"))
    assert not fits(tmp_path / "none.csv.xz", toy.task)
    assert TableEvaluator(made).evaluate((1, 0, 0, 0)).value("mean") == toy.evaluate((1, 0, 0, 0)).value("mean")
    assert main(["mlp-5"]) == 2
    assert "Unknown table 'mlp-5'" in capsys.readouterr().err


def test_what_is_behind_a_table_is_shipped(toy, tmp_path):
    """A store over the new layer has nothing to train, whatever the torch version: it stays empty."""
    ship(toy.task, toy.store, tmp_path / "layer")
    fresh = Store(tmp_path / "own", layers=(tmp_path / "layer",))
    assert Problem.build(toy.task, fresh).weights_digest == toy.problem.weights_digest
    assert fresh.keys() == [] and not (tmp_path / "layer/locks").exists()


def test_jobs_know_a_table_s_numbers_not_its_file(tmp_path):
    one = tables_digest(["lstm-3"])
    assert one == tables_digest(["lstm-3"]) != tables_digest(["lstm-3", "mlp-4"])
    with pytest.raises(ConfigError, match=r"there is no .*none.csv; python -m experiments.tables makes it"):
        tables_digest([str(tmp_path / "none.csv")])
