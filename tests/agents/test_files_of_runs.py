"""Files of runs are data: nothing that they name is imported, and changed digits are noticed."""

import os
import re
import sys

import pytest
import yaml

from agents.algorithms import before_opening, new_model
from agents.config import AgentConfig
from agents.environment import make_env
from agents.evaluate import evaluate, load_policy
from agents.run_folder import COLUMNS, CONFIG, MODEL, PLACEMENTS, RESULT, read_placements, read_result
from cimenv.core.checked_rows import write_rows
from cimenv.core.errors import ConfigError
from cimenv.tasks import TableEvaluator

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
    write_rows(folder / PLACEMENTS, COLUMNS, [(1, "k", "0", 0.5, 0.5)])
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


def test_results_of_runs_notice_changed_digits(tmp_path):
    path = tmp_path / PLACEMENTS
    write_rows(path, COLUMNS, [(1, "k", "0 1", 0.5, 0.5)])
    assert read_placements(path) == {("k", (0, 1)): 0.5}
    path.write_text(path.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(ConfigError, match="missing or damaged"):
        read_placements(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"final": 1}', "9" * 5_000])
def test_a_result_that_cannot_be_one_is_refused(tmp_path, text):
    (tmp_path / RESULT).write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        read_result(tmp_path)
