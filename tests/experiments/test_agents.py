"""The comparison of searches and agents: tuning, runs, tables and the page, on the shipped table."""

import csv
import json
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from cimenv.core.config import read_yaml
from cimenv.core.errors import ConfigError
from cimenv.tasks.evaluators.table import TableEvaluator
from experiments.agents.contender import Contender, run
from experiments.agents.measure import first_at, measure, regrets
from experiments.agents.plan import Plan
from experiments.agents.report import write_report, write_results
from experiments.agents.results import read_groups
from experiments.agents.targets import targets
from experiments.lab.journal import Journal

NAME = "lenet5-fashion-mini"
SMALL = {
    "groups": {"five_sites": [NAME]},
    "seeds": 3,
    "evaluations": 60,
    "points": [1, 10, 60],
    "tuning": {"tables": [NAME], "seeds": 1, "trials": 3, "evaluations": 20},
    "contenders": {
        "random": {"search": "random"},
        "knapsack": {"search": "knapsack"},
        "maskable_ppo": {"agent": "maskable_ppo", "settings": {"n_steps": 16, "batch_size": 16}},
        "genetic": {"search": "genetic", "ranges": {"population": {"low": 4, "high": 16}}},
    },
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")


@pytest.fixture(scope="module")
def table():
    return TableEvaluator(NAME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of the small plan."""
    out = tmp_path_factory.mktemp("agents")
    plan = Plan(**SMALL)
    journal = Journal(out / "jobs.jsonl", plan.measured())
    for stage in plan.stages(journal.rows):
        for job in stage:
            journal.add(job, measure(plan, job, out))
    write_results(plan, journal, out)
    return out


def test_a_curve_is_the_best_of_distinct_evaluations(table):
    ended = run(Contender(search="exhaustive"), {}, table, 2_000, 0)
    curve = ended.best_so_far
    assert ended.placement == table.enumeration.best.placement
    assert curve[-1] == pytest.approx(table.extremes[0], abs=1e-12) and (np.diff(curve) >= 0).all() and curve[0] == 0.0
    assert regrets(curve, table)[-1] == pytest.approx(0.0, abs=1e-12)
    assert first_at(curve, table.extremes[0]) == len(curve) - int((curve == curve[-1]).sum()) + 1
    assert first_at(curve, 9.0) is None


@pytest.mark.parametrize("agent", ["maskable_ppo", "ppo", "a2c", "dqn"])
def test_agents_are_counted_like_searches(table, agent):
    """Forty distinct placements at most, the empty one (J = 0) first; two runs of one seed are equal."""
    settings = {"learning_starts": 20} if agent == "dqn" else {"n_steps": 16}
    if agent.endswith("ppo"):
        settings["batch_size"] = 16
    ended = run(Contender(agent=agent, settings=settings), {}, table, 40, 1)
    curve = ended.best_so_far
    assert curve[-1] == table.objective.value(table.evaluate(ended.placement))
    assert len(curve) == 40 and curve[0] == 0.0 < curve[-1] <= table.extremes[0]
    assert np.array_equal(curve, run(Contender(agent=agent, settings=settings), {}, table, 40, 1).best_so_far)


def test_the_shipped_plan_names_searches_agents_and_settings_that_exist(request, table):
    plan = Plan(**read_yaml(request.config.rootpath / "configs/experiments/agents.yaml"))
    for contender in plan.contenders.values():
        if contender.search:
            ends = {n: (s[0] if isinstance(s, list) else s["low"]) for n, s in contender.ranges.items()}
            assert run(contender, ends, table, 5, 0).best_so_far[0] == 0.0


def test_winners_of_the_tuning_run(folder):
    plan = Plan(**SMALL)
    journal = Journal(folder / "jobs.jsonl", plan.measured())
    trials = next(rows for name, rows in journal.rows.items() if name.startswith("tune-genetic"))
    assert len(trials) == 3 and plan.tuned("genetic", journal.rows) in [row["settings"] for row in trials]
    assert plan.tuned("genetic", {}) is None and plan.tuned("random", {}) == {}
    tuned = read_yaml(folder / "tuned.yaml")
    assert tuned == {"genetic": {"search": "genetic", "settings": plan.tuned("genetic", journal.rows)}}
    with (folder / "trials.csv").open() as file:
        assert [json.loads(row["settings"])["population"] for row in csv.DictReader(file)]


def test_tables_say_what_the_runs_do(folder):
    results = read_groups(folder)["five_sites"]
    assert results.contenders == ["random", "knapsack", "maskable_ppo", "genetic"]
    assert results.regret("random", 60).shape == (3, 1)
    text = (folder / "table.md").read_text()
    knapsack = next(line for line in text.splitlines() if line.startswith("| knapsack"))
    assert f"{results.regret('knapsack', 60).mean():.1%}" in knapsack  # no draws: every seed alike
    assert "tables (1) x seeds (3)" in text and "## five_sites" in text
    summary = (folder / "summary.md").read_text().splitlines()
    assert summary[0] == "| distinct evaluations | five sites: 10 | five sites: 60 |" and len(summary) == 2 + 4


def test_targets_are_of_the_deep_task(folder):
    groups = read_groups(folder)
    found = {entry["target"]: entry for entry in json.loads((folder / "targets.json").read_text())}
    (beyond,) = [entry for name, entry in found.items() if "beyond knapsack" in name]
    ours, theirs = (groups["five_sites"].regret(name, 60).mean() for name in ("maskable_ppo", "knapsack"))
    assert beyond["measured"] == pytest.approx(ours - theirs)  # of three runs the middle half is all of them
    (tpe,) = [entry for name, entry in found.items() if "tpe" in name]
    assert tpe["measured"] is None and not tpe["met"]  # nobody ran it
    assert targets({"lenet5": groups["five_sites"]}) == []


def test_the_test_takes_what_most_runs_ended_with(folder):
    plan = Plan(**{**SMALL, "tested": ["random", "knapsack"]})
    rows = Journal(folder / "jobs.jsonl", plan.measured()).rows
    *_, (job,) = plan.stages(rows)
    ended = next(rows[name] for name in rows if name.startswith("run-knapsack"))
    assert job.kind == "test" and job.settings["knapsack"] == ended[0]["placement"]


class Page(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value[0] != "#"]


def test_the_page_needs_no_other_file(folder):
    page = Page()
    page.feed((folder / "index.html").read_text())
    assert not page.links and page.tags.count("svg") == 2 and page.tags.count("table") == 2


def test_the_page_in_a_browser(folder, tmp_path):
    """The script runs (a click on a head sorts the rows) and the page is drawn."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no chromium or chrome on the path")
    source = (folder / "index.html").read_text()
    click = "<script>document.querySelectorAll('table')[1].querySelectorAll('th')[1].click()</script></body>"
    (tmp_path / "page.html").write_text(source.replace("</body>", click))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "page.html").as_uri()
    shown = subprocess.run([browser, *options, "--dump-dom", address], capture_output=True, text=True, timeout=120)
    rows = shown.stdout.split("<tbody>")[2].split("</tbody>")[0].split("<tr>")[1:]
    found = [float(row.split("<td>")[2].split("%")[0]) for row in rows]
    assert len(found) == 4 and found == sorted(found)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"python -m experiments\.agents writes it"):
        write_report(tmp_path)


def test_the_report_is_written_again_from_the_csv(folder, tmp_path):
    for name in ("runs.csv", "trials.csv", "tables.csv"):
        shutil.copy(folder / name, tmp_path / name)
    write_report(tmp_path)
    assert (tmp_path / "table.md").read_text() == (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluations": 30}, "points are"),
        ({"points": [0]}, "points are"),
        ({"contenders": {"nobody": {}}}, "either a search or an agent"),
        ({"contenders": {"both": {"search": "random", "agent": "ppo"}}}, "either a search or an agent"),
        ({"tested": ["nobody"]}, "none of the contenders"),
        ({"tuning": {**SMALL["tuning"], "trials": 0}}, "trials"),
    ],
)
def test_plans_that_cannot_run_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        Plan(**{**SMALL, **changes})
