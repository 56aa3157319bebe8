"""The tables that ship: their plan, and how one is made."""

import pytest

from agents import tables
from cimenv.core.store import Store
from cimenv.tasks import Problem, TableEvaluator, load_task, shipped_tables
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.table import SHIPPED_TABLES, load_table


def test_every_plan_can_be_enumerated():
    for name, plan in tables.plans().items():
        task = plan.made()
        count = sum(1 for _ in PlacementSpace(task).all_placements())
        assert count <= 4_096 and name.startswith(plan.task), name


@pytest.mark.parametrize("name", shipped_tables())
def test_what_ships_is_what_is_planned(name):
    assert load_table(name).header.task.key == tables.plans()[name].made().key
    assert tables.fits(SHIPPED_TABLES / f"{name}.csv.xz", tables.plans()[name].made())
    assert sum(path.stat().st_size for path in SHIPPED_TABLES.glob("*")) < 10 * 2**20


def test_a_table_is_made_and_found_fit(toy, tmp_path, capsys):
    made = tables.make("toy", toy.task, tmp_path / "tables", toy.store, tmp_path / "work")
    assert tables.fits(made, toy.task) and not tables.fits(made, load_task("mlp-4"))
    assert not tables.fits(tmp_path / "none.csv.xz", toy.task)
    assert TableEvaluator(made).evaluate((1, 0, 0, 0)).value("mean") == toy.evaluate((1, 0, 0, 0)).value("mean")
    assert tables.main(["mlp-5"]) == 2
    assert "Unknown table 'mlp-5'" in capsys.readouterr().err
    assert tables.main(["--help"]) == 0


def test_what_is_behind_a_table_is_shipped(toy, tmp_path):
    """A store over the new layer has nothing to train, whatever the torch version: it stays empty."""
    tables.ship(toy.task, toy.store, tmp_path / "layer")
    fresh = Store(tmp_path / "own", layers=(tmp_path / "layer",))
    assert Problem.build(toy.task, fresh).weights_digest == toy.problem.weights_digest
    assert fresh.keys() == [] and not (tmp_path / "layer/locks").exists()
