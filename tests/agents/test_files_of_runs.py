"""Files of runs are data: nothing that they name is imported, and changed digits are noticed."""

import os
import re
import sys

import numpy as np
import pytest
import yaml

from agents.algorithms import before_opening, new_model
from agents.config import AgentConfig
from agents.environment import make_env
from agents.evaluate import evaluate, load_policy
from agents.run_folder import CONFIG, MODEL, PLACEMENTS, RESULT, read_placements, read_result
from cimenv.core.errors import ConfigError
from cimenv.core.inert import in_markdown
from cimenv.tasks import TableEvaluator
from experiments.agents.page import page
from experiments.agents.results import rows_of
from experiments.lab.journal import Journal, sign_journal
from experiments.lab.rows import write_csv
from experiments.lab.table_files import tables_digest

OWN = "own_network_of_a_run"


@pytest.fixture
def marker(tmp_path, monkeypatch):
    marker = tmp_path / "was-here"
    (tmp_path / f"{OWN}.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop(OWN, None)


@pytest.fixture
def run(tmp_path):
    """A folder that looks like a finished run."""
    folder = tmp_path / "run-0"
    folder.mkdir()
    (folder / RESULT).write_text('{"final": [0, 0], "best": [0, 0]}')
    (folder / MODEL).write_bytes(b"no zip")

    def made(**fields):
        (folder / CONFIG).write_text(yaml.safe_dump({"name": "run", **fields}))
        return folder

    return made


@pytest.mark.parametrize("backbone", ["os:system", f"{OWN}:made", f"{OWN}.py:made"])
@pytest.mark.parametrize("where", ["mapping", "overrides", "file", "data"])
def test_a_run_folder_imports_nothing_by_name(run, marker, tmp_path, backbone, where):
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({"extends": "toy-4site", "backbone": backbone}))
    command = {"backbone": backbone, "backbone_args": {"command": f"touch {marker}"}}
    named = {
        "mapping": {"env_arguments": {"task": {"extends": "toy-4site", **command}}},
        "overrides": {"env_arguments": {"task": "toy-4site"}, "task_overrides": [f"backbone={backbone}"]},
        "file": {"env_arguments": {"task": str(tmp_path / "task.yaml")}},
        "data": {"env_arguments": {"task": {"extends": "toy-4site", "data": backbone}}},
    }[where]
    said = []
    with pytest.raises(ConfigError, match=rf"config.yaml names '{re.escape(backbone)}' as its .*or --trust"):
        evaluate(run(**named), say=said.append)
    assert not marker.exists() and OWN not in sys.modules and said == []


def test_a_policy_is_opened_after_a_line_that_says_what_that_means(run):
    said = []
    folder = run(env_arguments={"task": "toy-4site"})
    row = {"evaluation": 1, "task": "k", "placement": [0], "objective": 0.5, "best_so_far": 0.5}
    write_csv(folder / PLACEMENTS, [row])
    with pytest.raises(ConfigError, match=r"model.zip is missing, damaged|holds no placement"):
        evaluate(folder, say=said.append)
    assert said == [before_opening(folder / MODEL)] and "a pickle and runs whatever code it holds" in said[0]


def test_a_policy_that_is_no_file_is_not_opened(run):
    folder = run()
    config = AgentConfig(name="run")
    env = make_env(config, TableEvaluator("lstm-3"))
    (folder / MODEL).unlink()
    os.mkfifo(folder / MODEL)
    with pytest.raises(ConfigError, match="missing, damaged or not of maskable_ppo"):
        load_policy(folder / MODEL, config, env)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy_kwargs": {"features_extractor_class": f"{OWN}:made"}},
        {"policy_kwargs": {"optimizer_class": "os:system"}},
        {"policy_kwargs": f"{OWN}:made"},
        {"policy_kwargs": {"activation_fn": f"{OWN}:made"}},
        {"rollout_buffer_class": f"{OWN}:made"},
    ],
)
def test_hyper_parameters_name_no_classes(marker, settings):
    config = AgentConfig(name="run", hyper_parameters={"n_steps": 8, "batch_size": 8, **settings})
    with pytest.raises(ConfigError, match=r"hyper_parameters[.:]"):
        new_model(config, make_env(config, TableEvaluator("lstm-3")))
    assert not marker.exists() and OWN not in sys.modules


def test_a_yaml_file_with_a_python_tag_is_refused(run, marker):
    folder = run()
    (folder / CONFIG).write_text(f"name: !!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        evaluate(folder)
    assert not marker.exists()


def test_changed_digits_of_a_journal_are_noticed(tmp_path):
    path = tmp_path / "jobs.jsonl"
    journal = Journal(path, {"chips": 25})
    for k in range(6):
        journal.add(type("Job", (), {"name": f"job-{k}"})(), [{"x": k / 7, "correct": [901, 87 + k]}])
    text, generator = path.read_text(), np.random.default_rng(0)
    digits = [k for k, c in enumerate(text) if c.isdigit()]
    for k in generator.choice(digits, 60, replace=False):
        path.write_text(f"{text[:k]}{(int(text[k]) + 3) % 10}{text[k + 1 :]}")
        with pytest.raises(ConfigError, match="is damaged"):
            Journal(path, {"chips": 25})
    path.write_text(text)
    assert len(Journal(path, {"chips": 25}).rows) == 6


def test_a_journal_without_checksums_goes_on_with_a_notice(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"plan": {"chips": 2}}\n{"job": "a", "rows": [{"x": 0.1}]}\n{"job": "b", "ro')
    with pytest.warns(UserWarning, match="has no checksums"):
        journal = Journal(path, {"chips": 2})
    journal.add(type("Job", (), {"name": "b"})(), [{"x": 2}])
    assert sign_journal(path) and not sign_journal(path)
    assert Journal(path, {"chips": 2}).rows == {"a": [{"x": 0.1}], "b": [{"x": 2}]}


def test_results_of_runs_notice_changed_digits(tmp_path):
    path = tmp_path / PLACEMENTS
    write_csv(path, [{"evaluation": 1, "task": "k", "placement": [0, 1], "objective": 0.5, "best_so_far": 0.5}])
    assert read_placements(path) == {("k", (0, 1)): 0.5}
    path.write_text(path.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(ConfigError, match="missing or damaged"):
        read_placements(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"final": 1}', "9" * 5_000])
def test_a_result_that_cannot_be_one_is_refused(tmp_path, text):
    (tmp_path / RESULT).write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        read_result(tmp_path)


def test_a_page_shows_tags_and_bars_as_they_are(tmp_path):
    name = '<script>alert("a|b")</script>[x](javascript:1)`c`\n=1'
    write_csv(tmp_path / "runs.csv", [{"contender": name, "regret_1": 0.5}])
    (row,) = rows_of(tmp_path / "runs.csv")
    assert row["contender"] == in_markdown(name) and row["regret_1"] == "0.5"
    text = f"## {row['contender']}\n\n| who | regret |\n|---|---:|\n| {row['contender']} | 1 % |\n"
    shown, inert = page(name, text, {}), "&lt;script&gt;alert(&quot;a|b&quot;)&lt;/script&gt;[x](javascript:1)"
    assert "<script>alert" not in shown and shown.count(inert) == 4
    assert "<td>1 %</td>" in shown


def test_a_study_s_jobs_know_a_table_s_numbers_not_its_file(tmp_path):
    one = tables_digest(["lstm-3"])
    assert one == tables_digest(["lstm-3"]) != tables_digest(["lstm-3", "mlp-4"])
    with pytest.raises(ConfigError, match=r"there is no .*none.csv; python -m experiments.tables makes it"):
        tables_digest([str(tmp_path / "none.csv")])
