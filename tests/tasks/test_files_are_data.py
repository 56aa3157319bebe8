"""Whatever an enumeration names, nothing of it is imported, called or opened, and changed digits are noticed.

Every door is tried with files whose checksums fit, in this version's format and in the one before.
"""

import json
import lzma
import os
import pickle
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from forged_enumerations import as_version_2, signed, with_header
from typer.testing import CliRunner

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.analysis.validation import validate
from cimenv.cli import app
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.search.transfer import learned
from cimenv.tasks import MonteCarloEvaluator, Problem, TableEvaluator, load_task
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, SUFFIX
from cimenv.tasks.files.enumeration_file import read_enumeration
from cimenv.tasks.files.header import MAGIC
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.stages.weights import load_weights

OWN = "own_network_of_somebody"
DOORS = {
    "read": read_enumeration,
    "table": TableEvaluator,
    "changed table": lambda path: TableEvaluator(path, {"budget": {"weights": 0.02}}),
    "env": lambda path: gym.make("CiMCompensationTabular-v0", table=str(path)).reset(seed=0),
    "vector env": lambda path: gym.make_vec("CiMCompensationTabular-v0", num_envs=2, table=str(path)).reset(seed=0),
    "lesson": lambda path: learned(["mlp-4", str(path)]),
    "validate": validate,
    "command": lambda path: raised(CliRunner().invoke(app, ["validate", str(path)])),
    "resume": lambda path: enumerate_placements(load_task("lstm-3"), path),
    "key": lambda path: TableEvaluator(path).task.key,
    "sites": lambda path: TableEvaluator(path).task.sites(),
    "changes": lambda path: TableEvaluator(path).task.with_changes(chips=2).sites(),
    "overrides": lambda path: load_task(TableEvaluator(path).task, ["chips=2"]).sites(),
    "copy": lambda path: pickle.loads(pickle.dumps(TableEvaluator(path).task)).sites(),
    "evaluator": lambda path: MonteCarloEvaluator(TableEvaluator(path).task).space,
    "problem": lambda path: Problem.build(TableEvaluator(path).task),
}


NEED_NO_NETWORK = ("read", "table", "changed table", "env", "vector env", "lesson", "key")


def raised(result):
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception


@pytest.fixture(scope="module")
def table():
    return lzma.decompress((SHIPPED_TABLES / f"lstm-3{SUFFIX}").read_bytes())


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that exists once the module is imported, or a command was run."""
    marker = tmp_path / "was-here"
    touch = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    network = "from cimenv.networks import build_backbone\n\ndef made(**how):\n    return build_backbone('lstm_rows')\n"
    (tmp_path / f"{OWN}.py").write_text(touch + network)
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop(OWN, None)


@pytest.mark.filterwarnings("ignore:.*has no checksums")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", ["command", "module", "data", "data of a module"])
def test_no_door_imports_or_calls_what_a_file_names(table, marker, tmp_path, door, old, what):
    named = {
        "command": {"task__backbone": "os:system", "task__backbone_args": {"command": f"touch {marker}"}},
        "module": {"task__backbone": f"{OWN}:made"},
        "data": {"task__data": "os:getcwd"},
        "data of a module": {"task__data": f"{OWN}:made"},
    }[what]
    path = tmp_path / "table.csv"
    path.write_bytes((as_version_2 if old else with_header)(table, **named))
    if not old and door in NEED_NO_NETWORK:
        DOORS[door](path)
    else:
        with pytest.raises(ConfigError, match=r"give trust=True, or --trust|holds another enumeration") as caught:
            DOORS[door](path)
        assert "\n" not in str(caught.value)
    assert not marker.exists() and OWN not in sys.modules


@pytest.mark.filterwarnings("ignore:.*has no checksums")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "named",
    [
        {"task__crossbar__device__kind": f"{OWN}:Device"},
        {"task__recipe__name": f"{OWN}:Recipe"},
        {"task__options__dense": [{"kind": f"{OWN}:Block"}]},
    ],
)
def test_no_door_imports_a_class_that_a_file_names(table, marker, tmp_path, door, old, named):
    path = tmp_path / "table.csv"
    path.write_bytes((as_version_2 if old else with_header)(table, **named))
    with pytest.raises(ConfigError, match=r"is named by .*table\.csv.* give trust=True, or --trust"):
        DOORS[door](path)
    assert not marker.exists() and OWN not in sys.modules


@pytest.mark.filterwarnings("ignore:.*has no checksums")
def test_a_network_of_one_s_own_is_imported_where_the_file_is_trusted(table, marker, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(as_version_2(table, task__backbone=f"{OWN}:made"))
    with pytest.raises(ConfigError, match=f"table.csv names '{OWN}:made' as its backbone.*trust=True, or --trust"):
        TableEvaluator(path)
    assert not marker.exists()
    trusted = TableEvaluator(path, trust=True)
    assert marker.exists()
    shapes = TableEvaluator("lstm-3").enumeration.header.sites
    assert SiteShape.of(trusted.space.sites) == shapes == SiteShape.of(trusted.task.sites())
    assert pickle.loads(pickle.dumps(trusted)).extremes == TableEvaluator("lstm-3").extremes
    assert gym.make("CiMCompensationTabular-v0", table=str(path), trust=True).reset(seed=0)[1]["objective"] == 0


def test_reading_needs_no_network(table, tmp_path, monkeypatch):
    monkeypatch.setattr("cimenv.tasks.task.build_backbone", None)
    monkeypatch.setattr("cimenv.tasks.task.without_weights", None)
    path = tmp_path / "table.csv"
    path.write_bytes(table)
    found = TableEvaluator(path)
    assert [site.name for site in found.space.sites] and found.space.shares(found.space.largest())["weights"] > 0


def test_150_changed_digits_are_noticed_150_times(table, tmp_path):
    path, text, generator = tmp_path / "table.csv", table.decode(), np.random.default_rng(0)
    digits = [k for k, c in enumerate(text) if c.isdigit()]
    noticed = 0
    for k in generator.choice(digits, 150, replace=False):
        other = (int(text[k]) + int(generator.integers(1, 10))) % 10
        path.write_text(f"{text[:k]}{other}{text[k + 1 :]}")
        with pytest.raises(ConfigError):
            read_enumeration(path)
        noticed += 1
    assert noticed == 150


@pytest.mark.parametrize("change", ["delete", "swap", "repeat"])
def test_rows_that_are_moved_are_noticed(table, tmp_path, change):
    lines = table.decode().splitlines(keepends=True)
    rows = {"delete": lines[:9] + lines[10:], "swap": [*lines[:9], lines[10], lines[9], *lines[11:]]}
    (tmp_path / "table.csv").write_text("".join(rows.get(change, [*lines, lines[-1]])))
    with pytest.raises(ConfigError, match="does not belong there"):
        read_enumeration(tmp_path / "table.csv")


def test_a_file_without_checksums_is_read_with_a_notice(table, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(as_version_2(table))
    with pytest.warns(UserWarning, match=r"table.csv has no checksums: .*experiments.lab.add_checksums") as caught:
        found = read_enumeration(path)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert found.rows == TableEvaluator("lstm-3").enumeration.rows and found.finished


BOMB = 2**27
MANY = {kind: [{"kind": "affine"}] * 100 for kind in ("conv", "dense", "lstm")}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: lzma.compress(bytes(BOMB), preset=0), "unpacks to more than 64 MiB"),
        (lambda t: lzma.compress(t)[:-9], "is damaged"),
        (lambda t: lzma.compress(b"\n" * 1_000_003), "has 1,000,003 lines"),
        (lambda t: lzma.compress(MAGIC.encode() + b"[" * 2**21 + b"\n"), "longer than any header"),
        (lambda t: lzma.compress(MAGIC.encode() + b"[" * 200_000 + b"\n"), "JSON cannot be read"),
        (lambda t: lzma.compress(MAGIC.encode() + b'{"version":' + b"9" * 5_000 + b"}\n"), "JSON cannot be read"),
        (lambda t: forged(t, task__backbone_args={"x": float("nan")}), "JSON cannot be read"),
        (
            lambda t: lzma.compress(t.replace(b'"backbone_args":{', b'"backbone_args":{"x":1e999,', 1)),
            "JSON cannot be read",
        ),
        (lambda t: forged(t, sites=many_sites(t, 1_500), task__options=MANY), "more than 100,000 blocks"),
        (lambda t: forged(t, sites=[{**many_sites(t, 1)[0], "fan_in": 10**30}]), "sites.0.fan_in: "),
        (lambda t: forged(t, sites=[{**many_sites(t, 1)[0], "fan_in": -1}]), "sites.0.fan_in: "),
        (lambda t: forged(t, sites=[]), "sites"),
        (lambda t: forged(t, gains={"mean": [[1.0]], "error": [[1.0]]}), "gains has not one number for every block"),
        (lambda t: forged(t, chips=10**9), "it needs 1000000000 counts"),
        (lambda t: forged(t, clean_accuracy=7.0), "clean_accuracy"),
    ],
)
def test_bombs_and_forgeries_are_refused_in_one_sentence(table, tmp_path, make, words):
    path = tmp_path / "table.csv.xz"
    path.write_bytes(make(table))
    begun = time.process_time()
    with pytest.raises(ConfigError, match=words) as caught:
        TableEvaluator(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2_000
    assert time.process_time() - begun < 5


def forged(table, **fields):
    return lzma.compress(with_header(table, **fields))


def many_sites(table, count):
    return json.loads(table.split(b"\n", 1)[0].decode().removeprefix(MAGIC))["sites"][:1] * count


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "large"])
@pytest.mark.parametrize("door", ["read", "table", "env", "lesson", "validate", "resume"])
def test_what_is_no_file_is_refused_before_it_is_read(tmp_path, door, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    words = {"device": "is a device", "pipe": "is a pipe", "folder": "is a folder", "large": "GiB at most"}
    begun = time.process_time()
    with pytest.raises(ConfigError, match=words[kind]):
        DOORS[door](tmp_path / kind)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "device",
    [
        {"kind": "table", "path": "/dev/zero"},
        {"kind": "stuck", "device": {"kind": "table", "path": "/etc/passwd"}},
    ],
)
def test_no_other_file_is_opened(table, tmp_path, device):
    path = tmp_path / "table.csv"
    path.write_bytes(with_header(table, task__crossbar__device=device))
    with pytest.raises(ConfigError, match="path of another file, and reading opens none"):
        TableEvaluator(path)


def test_weights_that_a_file_names_are_not_read(table, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    for named in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path / "large"), str(tmp_path), "/none"):
        path = tmp_path / "table.csv"
        path.write_bytes(with_header(table, task__weights=named))
        assert len(TableEvaluator(path).enumeration.rows) > 1
        if named != str(tmp_path / "large"):
            assert len(TableEvaluator(path).task.key) == 32
            with pytest.raises(ConfigError, match=r"is a device|is a pipe|is a folder|cannot load"):
                load_weights(None, named)
        else:
            with pytest.raises(ConfigError, match="GiB at most"):
                TableEvaluator(path).task.key  # noqa: B018
            with pytest.raises(ConfigError, match="GiB at most"):
                load_weights(None, named)


@pytest.mark.parametrize("hook", ["os:system", f"{OWN}:made", "os.system", "__import__('os')"])
def test_reset_hooks_of_a_file_are_names_of_recipes(marker, hook):
    spec = gym.spec("CiMCompensation-v0").to_json()
    with pytest.raises(UnknownNameError, match="Unknown recipe"):
        gym.make(gym.envs.registration.EnvSpec.from_json(spec), task="toy-4site", reset_hooks=[hook])
    assert not marker.exists() and OWN not in sys.modules


def test_a_name_with_markup_is_inert_where_it_is_shown(table, tmp_path):
    path = tmp_path / "table.csv"
    name = "[red]x[/] \x1b[31m\n=1+1"
    path.write_bytes(signed(with_header(table, task__name=name, task__cost_weight=0.9)))
    with pytest.raises(ConfigError) as caught:
        TableEvaluator(path)
    assert r"[red]x[/] \x1b[31m =1+1" in str(caught.value) and str(caught.value).isprintable()
