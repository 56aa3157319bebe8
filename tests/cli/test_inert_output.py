"""Text of files does nothing in a terminal, a figure, a page or TensorBoard."""

import numpy as np
import pytest
import yaml

from cimenv.analysis.attack_strength import curve_figure
from cimenv.analysis.pareto import pareto_figure
from cimenv.cli.output import print_row, print_tables, table_of
from cimenv.envs.render import as_text, figure
from cimenv.sb3.figures import error_bars
from cimenv.tasks import Objective, TableEvaluator

NAME = "[red]x[/red] [link=http://a]\x1b[31m\x9b2J\n=1+1 :smile: $\\nocommand{$"
SHOWN = r"[red]x[/red] [link=http://a]\x1b[31m\x9b2J\n=1+1 :smile: $\nocommand{$"


def test_a_terminal_shows_it_as_it_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_row({"task": NAME, "shares": {NAME: 0.5}}, as_json=False)
    table = table_of("task", "placements")
    table.add_row(NAME, "[bold]2[/bold]")
    print_tables(table, "[red]3[/red] placements")
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 3 and "[bold]2[/bold]" in out and "[red]3[/red] placements" in out
    assert "\x1b" not in out and "\x9b" not in out


def test_show_prints_no_escape_sequence_of_a_task_s_name(call, tmp_path):
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({"extends": "toy-4site", "name": NAME, "description": NAME}))
    code, out, _ = call("show", str(tmp_path / "task.yaml"))
    assert code == 0 and "\x1b" not in out and "\x9b" not in out
    assert yaml.safe_load(out.split("every field:")[1])["name"] == NAME


@pytest.fixture(scope="module")
def table():
    return TableEvaluator("lstm-3", {"name": NAME})


def test_figures_set_no_formula(table):
    objective, none = Objective.of(table), table.evaluate(table.space.empty())
    drawn = [
        figure(objective, none, none),
        pareto_figure(np.arange(3.0), np.arange(3.0), {NAME: (0.0, 0.0)}, title=NAME),
        curve_figure([], 0.5, NAME),
        error_bars([NAME], np.ones(1), np.ones(1), NAME),
    ]
    for each in drawn:
        each.canvas.draw()  # a formula that does not parse would raise


def test_a_rendered_table_has_a_line_a_site(table):
    none = table.evaluate(table.space.empty())
    assert len(as_text(Objective.of(table), none, none).splitlines()) == 2 + len(table.space.sites)
