"""The command line: what programs read, what people see at 80 columns, and one sentence for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cimenv
from cimenv.analysis.non_idealities import NON_IDEALITIES
from cimenv.cli import app
from cimenv.core.store import Record, Store

COMMANDS = (
    "tasks",
    "show",
    "evaluate",
    "attack",
    "sensitivity",
    "candidates",
    "search",
    "place",
    "render",
    "enumerate",
    "validate",
)
CACHE_COMMANDS = ("info", "verify", "clear")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "cimenv", *arguments], capture_output=True, text=True, check=False)


def test_help_of_sensitivity_names_every_non_ideality(call):
    listed = call("sensitivity", "--help")[1].split("Non-idealities:")[1].split(".")[0]
    assert listed.replace("\n", " ").replace(" ", "").split(",") == list(NON_IDEALITIES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "lenet5-fashon-mini"), "Did you mean"),
        (("show", "toy-4site", "--set", "crossbar.device.sigma=-1"), "sigma"),
        (("evaluate", "toy-4site", "--placement", "0,0"), "one option index for each of the 4 sites"),
        (("evaluate", "toy-4site", "--placement", "a,b"), "commas"),
        (("evaluate", "toy-4site", "--placement", "00000"), "one option index for each of the 4 sites"),
        (("evaluate", "toy-4site", "--fidelity", "tuned"), "fidelity: got 'tuned', but there is no block to tune"),
        (("evaluate", "toy-4site", "--data", "mine.py:data"), "data: 'toy-4site' is a task, which has its own"),
        (("evaluate", "mine.py:network"), "data: 'mine.py:network' has none; give --data"),
        (("evaluate", "mine.py:network", "--data", "fashion-mini"), "'mine.py': there is no such file"),
        (("evaluate", "toy-4site", "--placement", "0,0,0,0", "--split", "train"), "split: got 'train'"),
        (("evaluate", "toy-4site", "--placement", "0,0,0,0", "--chips", "0"), "'--chips'"),
        (("search", "toy-4site", "--method", "anealing"), "Did you mean 'annealing'"),
        (("search", "toy-4site", "--pareto", "missing/front.png"), "there is no folder missing"),
        (("search", "toy-4site", "--steps", "missing/steps.csv"), "there is no folder missing"),
        (("search", "toy-4site", "--pareto", "front.xyz"), "must end in one of .png, .pdf, .svg"),
        (("render", "toy-4site", "--placement", "0,0,0,9", "--out", "a.png"), "option 9 at site 3"),
        (("render", "toy-4site", "--placement", "0,0,0,0", "--out", "missing/a.png"), "there is no folder missing"),
        (("render", "toy-4site", "--placement", "0,0,0,0", "--out", "a.png", "--fidelity", "best"), "fidelity: got"),
        (("enumerate", "toy-4site", "--out", "missing/all.csv"), "there is no folder missing"),
        (("enumerate", "toy-4site", "--out", "all.csv", "--split", "train"), "split: got 'train'"),
        (("enumerate", "toy-4site", "--out", "."), "is a folder"),
        (("validate", "missing.csv"), "Cannot read missing.csv"),
        (("search", "toy-4site", "--scheduler", "nowhere"), "scheduler: nothing answers at nowhere"),
        (("enumerate", "toy-4site", "--out", "a.csv", "--scheduler", "nowhere"), "scheduler: nothing answers"),
    ],
)
def test_bad_input(toy, call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1 and words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("evaluate", "toy-4site", "--chips", "10^30"), "Invalid value for '--chips'"),
        (("evaluate", "toy-4site", "--chips", "10^30"), "(got '10^30'); see cimenv evaluate --help."),
        (("evaluate", "toy-4site", "--chips=1:30"), "(got '1:30'); see cimenv evaluate --help."),
        (("evaluate", "toy-4site", "--chips", f"{10**30}"), f"(got '{10**30}'); see cimenv evaluate --help."),
        (("evaluate", "toy-4site", "--placement", "0,0,0,0", "--chips", "9" * 5_000), "--chips"),
        (("evaluate", "toy-4site", "--placement", "9" * 5_000), "placement"),
        (("search", "toy-4site", "--evaluations", "0"), "(got '0'); see cimenv search --help."),
        (
            ("search", "toy-4site", "--max-weights", "nan"),
            "max-weights: got 'nan'",
        ),
        (("search", "toy-4site", "--max-weights", "-1"), "max-weights: got '-1'"),
        (("search", "toy-4site", "--seed", f"{10**30}"), "seed: got"),
        (("sensitivity", "toy-4site", "--error", "nan"), "(got 'nan')"),
        (("candidates", "toy-4site", "--threshold", "nan"), "(got 'nan')"),
        (("candidates", "toy-4site", "--threshold", "2"), "--threshold"),
        (("sensitivity", "toy-4site", "--chips", "1000000000"), "--chips"),
        (("show",), "Missing argument 'TASK'; see cimenv show --help."),
        (("shw",), "No such command 'shw'"),
        (("show", "toy-4site", "--sett", "a=1"), "--sett"),
        (("show", "toy-4site", "--set"), "Option '--set' requires an argument"),
        (("show", "toy-4site", "more"), "Got unexpected extra argument"),
        (("show", "toy-4site", "--set", "chips=10**12"), "Task.chips: got '10**12'; input should be a valid integer."),
        (("show", "toy-4site", "--set", f"chips={10**12}"), "Task.chips: got 1000000000000; input should be less than"),
        (("show", "toy-4site", "--set", "chips=" + "9" * 5_000), "a number of more than 30 digits"),
        (("show", "toy-4site", "--set", "images=0"), "Task.images: got 0; input should be greater than or equal to 1."),
        (
            ("show", "toy-4site", "--set", f"bank.steps={10**15}"),
            "Task.bank.steps: got 1000000000000000; input should be",
        ),
        (("show", "toy-4site", "--set", "times_s=[.inf]"), "Task.times_s.0: got inf; input should be a finite number."),
        (("show", "toy-4site", "--set", "times_s=[.nan]"), "Task.times_s.0: got nan; input should be a finite number."),
        (("show", "toy-4site", "--set", "budget=[1]"), "Task.budget: got [1]; input should be a valid dictionary."),
        (("show", "toy-4site", "--set", "settings=[1]"), "Task.settings: unknown key (got [1])"),
        (("show", "toy-4site", "--set", "backbone_args={width: 1000000}"), "backbone_args: 'toy_cnn'"),
    ],
)
def test_wrong_words_and_sizes_are_one_sentence(call, arguments, says):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and says in err and len(err) < 1_100


def test_a_command_without_words_shows_its_help(call):
    assert "Usage: cimenv" in "".join(call()[1:])


def test_evaluate_shows_what_converters_cut_off(toy, call):
    analog = ("--set", "crossbar.preset=rasch2023", "--set", "bank.steps=20")
    found = json.loads(call("evaluate", "toy-4site", "--placement", "0,0,0,0", *analog, "--json")[1])
    assert list(found["saturated_outputs"]) == ["conv1", "conv2", "fc1", "fc2"]
    assert 0 < found["clipped_inputs"]["conv2"] < 0.01  # ranges are a quantile of .9999 or less of training inputs


def test_unwritable_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIMENV_CACHE", str(tmp_path / "file"))
    found = run("evaluate", "toy-4site", "--placement", "0,0,0,0")
    assert found.returncode == 2 and "CIMENV_CACHE" in found.stderr and "Traceback" not in found.stderr


def test_evaluate_and_search_print_json(toy, toy_values, call, tmp_path):
    found = json.loads(call("evaluate", "toy-4site", "--placement", "1,0,2,0", "--json")[1])
    assert found["mean"] == toy.evaluate((1, 0, 2, 0)).value("mean")
    picture = tmp_path / "front.png"
    brief = ("--set", "tuned.steps=5", "--set", "report_chips=3", "--set", "report_images=100")
    search = ("search", "toy-4site", "--method", "exhaustive", *brief)
    searched = json.loads(call(*search, "--json", "--pareto", picture)[1])
    assert searched["objective"] == pytest.approx(max(toy_values.values()))
    assert png_size(picture) == (900, 660)  # 6 x 4.4 inches at 150 dots


def test_one_chip_tells_nothing(toy, call):
    one = ("evaluate", "toy-4site", "--placement", "0 0 0 0", "--chips", "1")
    assert json.loads(call(*one, "--json")[1])["mean_interval"] == [0.0, 1.0]
    assert "mean interval" in call(*one)[1]


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_render(toy, toy_values, call, tmp_path):
    picture = tmp_path / "placement.png"
    code, out, _ = call("render", "toy-4site", "--placement", "1,0,2,0", "--out", picture, "--json")
    assert code == 0 and json.loads(out)["objective"] == toy_values[1, 0, 2, 0]
    assert png_size(picture) == (1350, 720)  # 9 x 4.8 inches at 150 dots


def test_enumerate_then_validate(toy, toy_values, call, tmp_path):
    path = tmp_path / "all.csv"
    code, out, _ = call("enumerate", "toy-4site", "--out", path, "--json")
    found = json.loads(out)
    assert (code, found["placements"], found["new"]) == (0, 81, 81)
    assert tuple(found["optimum"]) == max(toy_values, key=toy_values.__getitem__)
    assert found["objective"] == max(toy_values.values())
    again = call("enumerate", "toy-4site", "--out", path)
    assert again[0] == 0 and "is complete: nothing was evaluated" in again[1]

    code, out, _ = call("validate", path, "--rows", 4, "--seed", 1, "--json")
    found = json.loads(out)
    assert (code, found["valid"], found["differences"], len(found["checked"])) == (0, True, [], 4)
    assert call("validate", path, "--rows", 2)[0] == 0

    lines = path.read_text().splitlines(keepends=True)
    *rest, counts, errors, check = lines[2].split(",")  # the empty placement: always evaluated again
    first, others = counts.split(" ", 1)
    path.write_text("".join([*lines[:2], ",".join([*rest, f"{int(first) + 1} {others}", errors, check]), *lines[3:]]))
    code, out, _ = call("validate", path, "--rows", 2, "--json")
    found = json.loads(out)
    assert (code, found["valid"], found["largest_gap_images"], found["allowed_gap_images"]) == (1, False, 1, 0.5)
    changed = [d for d in found["differences"] if d["column"] == "correct, chip 0"]
    assert [(d["line"], d["file"], d["here"]) for d in changed] == [(3, int(first) + 1, int(first))]
    (unfit,) = [d for d in found["differences"] if d["column"] == "check"]
    assert (unfit["line"], f"{unfit['file']}\n") == (3, check) and unfit["here"] != unfit["file"]
    code, out, _ = call("validate", path, "--rows", 2)
    assert code == 1 and "correct, chip 0" in out and "not shown" in out  # every objective rests on this row

    code, _, err = call("enumerate", "toy-4site", "--out", path)
    assert code == 2 and "Line 3 of" in err
    path.write_text("placement,objective\n")
    code, out, err = call("validate", path)
    assert (code, out) == (2, "") and "is not an enumeration" in err


def test_cache(call, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    monkeypatch.setenv("CIMENV_CACHE", str(root))
    store = Store(root)
    store.put('{"stage":"bank"}', Record({"n": 1}))
    store.put('{"stage":"evaluation"}', Record({"n": 2}))
    store.close()
    found = json.loads(call("cache", "info", "--json")[1])
    assert (found["folder"], found["entries"]) == (str(root), 2)
    assert found["kinds"]["bank"]["entries"] == found["kinds"]["evaluation"]["entries"] == 1
    (layer,) = found["layers"]
    assert layer["kinds"].keys() == {"backbone", "bank"}  # what the package ships
    assert "read-only layer" in call("cache", "info")[1]

    entries = 2 + layer["entries"]
    assert call("cache", "verify") == (0, f"All {entries} entries are sound.\n", "")
    store._own.index.write(lambda index: index.execute("UPDATE entries SET payload = x'00' WHERE key LIKE '%bank%'"))
    code, out, _ = call("cache", "verify", "--json")
    (damaged,) = json.loads(out)["damaged"]
    assert (code, damaged["kind"], damaged["repaired"]) == (1, "bank", True)
    assert call("cache", "verify")[0] == 0

    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert call("cache", "clear") == (1, "Nothing was removed.\n", "")
    assert Store(root).info()["entries"] == 1
    code, out, _ = call("cache", "clear", "--yes")
    assert code == 0 and out.startswith("Removed 1 entries")
    assert Store(root).info()["entries"] == 0


def test_cache_of_a_folder_that_is_not_there(call, tmp_path, monkeypatch):
    monkeypatch.setenv("CIMENV_CACHE", str(tmp_path / "missing"))
    for command in (("info",), ("verify",), ("clear", "--yes")):
        assert call("cache", *command)[0] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [(), *((c,) for c in COMMANDS), ("cache",), *(("cache", c) for c in CACHE_COMMANDS)]
)
def test_help_fits_80_columns(call, command):
    code, out, _ = call(*command, "--help")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("O,O,...", "").replace("[ARGS]...", "")  # no description is cut short
    if command and command[0] not in ("tasks", "cache"):
        assert f"Example:\n    cimenv {command[0]} " in out


def test_every_command_is_tested_for_its_help():
    assert {command.name for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("task", ["toy-4site", "lenet5-fashion-mini"])
def test_show_fits_80_columns_and_is_a_task_file(call, tmp_path, task):
    _, out, _ = call("show", task)
    assert max(map(len, out.splitlines())) <= 80
    label = {"toy-4site": "digital 1", "lenet5-fashion-mini": "low_rank 0.125"}[task]
    assert label in out  # in one line
    file = tmp_path / "mine.yaml"
    file.write_text(out.split("every field:\n")[1])
    shown = [json.loads(call("show", given, "--json")[1]) for given in (task, file)]
    assert shown[0] == shown[1]
    assert [option["label"] for option in shown[0]["sites"][-1]["options"]][-1] == label


def test_tasks_version_and_help_of_the_real_command(call):
    assert set(json.loads(call("tasks", "--json")[1])) >= {"toy-4site", "lenet5-fashion-mini"}
    assert run("--version").stdout.strip() == cimenv.__version__
    assert "surrogate, annealing, genetic" in " ".join(call("search", "--help")[1].split())


ANSWER_S = 3.0  # of processor time, since other programs may run beside
OWN_S = 2.0  # of them for what cimenv loads and does; torch takes the rest


def started(*arguments, first="sys"):
    """Run `cimenv ARGUMENTS`; returns seconds of processor time, exit code, heavy modules it loaded, and errors.

    The seconds count from when the module `first` is loaded.
    """
    script = (
        f"import sys, time, {first}; begin = time.process_time() if {first} is not sys else 0\n"
        f"sys.argv = {['cimenv', *arguments]!r}; from cimenv.cli import main\ntry: main()\n"
        "except SystemExit as end: code = end.code or 0\n"
        "heavy = [m for m in ('torch', 'scipy.stats', 'matplotlib') if m in sys.modules]\n"
        "print(time.process_time() - begin, code, *heavy)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, code, *heavy = found.stdout.splitlines()[-1].split()
    return float(seconds), int(code), heavy, found.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--help",), 0, ""),
        (("search", "--help"), 0, ""),
        (("tasks",), 0, ""),
        (("--version",), 0, ""),
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("search", "toy-4site", "--mthod", "greedy"), 2, "No such option"),
        (("search", "toy-4sites"), 2, "Did you mean 'toy-4site'?"),
        (("show", "lenet5-fashion-mnii", "--set", "chips=3"), 2, "Did you mean 'lenet5-fashion-mini'?"),
    ],
)
def test_help_and_typos_need_no_torch(arguments, code, words):
    seconds, ended, heavy, told = started(*arguments)
    assert (ended, heavy) == (code, []) and words in told
    assert seconds < ANSWER_S


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "toy-4site", "--set", "crossbr.sigma=1"), "Did you mean 'crossbar'?"),
        (("search", "toy-4site", "--method", "gredy"), "Did you mean 'greedy'?"),
    ],
)
def test_what_only_the_fields_and_methods_tell_takes_little_more_than_torch(arguments, words):
    seconds, ended, heavy, told = started(*arguments, first="torch")
    assert ended == 2 and words in told and heavy == ["torch"]
    assert seconds < OWN_S


def test_import_is_light():
    script = "import gymnasium, time; t = time.process_time(); import cimenv; print(time.process_time() - t)"
    assert float(subprocess.check_output([sys.executable, "-c", script])) < 0.3
    assert "place" in dir(cimenv)
