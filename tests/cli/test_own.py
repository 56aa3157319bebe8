"""A network of one's own on the command line."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

MINE = """
import torch
from torch import nn

import cimenv

PROTOTYPES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def part(seed, n=120):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    return cimenv.ImageSet(PROTOTYPES[labels] + torch.randn(n, 1, 8, 8, generator=generator), labels)


def data():
    return cimenv.DataSplits("tiny", part(0), part(1), part(2), classes=4)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


def nearest():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        model[1].weight.copy_(PROTOTYPES.flatten(1))
        model[1].bias.copy_(-PROTOTYPES.flatten(1).square().sum(1) / 2)
    return model


trained = nearest()
splits = data()
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path
    for name in sys.modules.keys() - before:
        if name.startswith("mine"):
            del sys.modules[name]


def test_evaluate_a_network_of_ones_own(call, mine):
    rows = []
    for name, data in (("mine.py:nearest", "mine.py:data"), ("mine:trained", "mine:splits")):
        code, out, err = call("evaluate", name, "--data", data, "--crossbar", "ideal", "--json")
        assert code == 0, err
        rows.append(json.loads(out))
    assert rows[0]["mean"] == rows[0]["clean_accuracy"] == rows[1]["mean"] > 0.9
    assert (rows[0]["chips"], rows[0]["images"], rows[0]["split"]) == (25, 120, "test")
    assert rows[0]["site_errors"]["1"]["error_mean"] == 0.0 and rows[0]["mean_interval"] == [rows[0]["mean"]] * 2


def test_weights_crossbar_file_and_overrides(call, mine):
    sys.path.append(str(mine))
    import mine as module  # as the command finds it

    torch.manual_seed(0)
    model = module.network()
    save_file(model.state_dict(), "mine.safetensors")
    (mine / "chip.yaml").write_text("device: {kind: log_normal, sigma: 0.1}\n")
    own = ("evaluate", "mine.py:network", "--data", "mine.py:data", "--weights", "mine.safetensors")
    data = module.data().test
    clean = (model(data.inputs()).argmax(1) == data.labels).float().mean().item()
    found = json.loads(call(*own, "--crossbar", "chip.yaml", "--chips", "2", "--json")[1])
    assert found["clean_accuracy"] == pytest.approx(clean) and 0 < found["site_errors"]["1"]["error_mean"] < 0.2
    louder = json.loads(call(*own, "--set", "crossbar.device.sigma=1.0", "--chips", "2", "--json")[1])
    assert louder["site_errors"]["1"]["error_mean"] > 1.0
    text = call(*own, "--crossbar", "rasch2023", "--chips", "2")[1]
    assert text.startswith("network: 2 chips x 120 test images") and "saturated out" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine.py:network", "--data", "mine.py:dat"), "has no attribute 'dat'"),
        (("mine.py:number", "--data", "mine.py:data"), "'mine.py:number' refuses them"),
        (("mine.py:data", "--data", "mine.py:data"), "network: 'mine.py:data' returned a DataSplits"),
        (("mine.py:network", "--data", "mine.py:network"), "data: 'mine.py:network' returned a Sequential"),
        (("mine.py:network", "--data", "mine.py:data", "--weights", "no.safetensors"), "weights: cannot load"),
        (("mine.py:network", "--data", "mine.py:data", "--crossbar", "idael"), "Did you mean 'ideal'"),
        (("mine.py:network", "--data", "mine.py:data", "--crossbar", "no.yaml"), "Cannot read no.yaml"),
        (("mine.py:network", "--data", "mine.py:data", "--set", "chipz=3"), "chipz: unknown key"),
        (
            ("mine.py:network", "--data", "mine.py:data", "--placement", "111"),
            "one option index for each of the 2 sites",
        ),
        (("mine.py:network", "--data", "mine.py:data", "--set", "recipe=noise"), "recipe: this command takes"),
    ],
)
def test_mistakes_are_one_sentence(call, mine, arguments, words):
    code, out, err = call("evaluate", *arguments)
    assert (code, out) == (2, "") and len(err.strip().splitlines()) == 1 and words in err


QUICK = ("--set", "bank.steps=5", "--set", "tuned.steps=3", "--set", "report_chips=4", "--chips", "3")


def test_place_a_network_of_ones_own(call, mine, monkeypatch):
    monkeypatch.setenv("CIMENV_CACHE", str(mine / "cache"))
    own = ("place", "mine.py:nearest", "--data", "mine.py:splits", "--set", "images=60", *QUICK)
    code, out, err = call(*own, "--max-weights", "5%", "--pareto", "front.png", "--steps", "steps.csv", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["cost_shares"]["weights"] <= 0.05 and found["method"] == "greedy"
    assert found["placement"] == (found["found"] if not found["fell_back"] else found["placement"])
    assert found["held_out"]["chips"] == 3 and found["held_out"]["images"] == 60 and found["held_out"]["fresh_images"]
    best = max(found["held_out"][name] or 0.0 for name in ("objective", "none", "affine"))
    assert found["fell_back"] == (best > found["held_out"]["objective"])
    assert (mine / "front.png").exists() and (mine / "steps.csv").read_text().count("\n") == found["evaluations"] + 1
    lines = [line for line in err.splitlines() if "search:" in line or "placement found:" in line]
    assert lines[0].startswith("greedy search: at least") and lines[1].startswith("placement found: ")
    again = call(*own, "--max-weights", "0.05")
    assert again[0] == 0 and "held out: " in again[1] and "test images" in again[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("toy-4site",), "network: got 'toy-4site'; write file.py:name"),
        (("mine.py:network",), "data: 'mine.py:network' has none"),
        (("mine.py:network", "--data", "mine.py:data", "--max-weights", "5"), "max-weights: 5 is 500%"),
        (("mine.py:network", "--data", "mine.py:data", "--max-macs", "yes"), "max-macs: got 'yes'"),
        (("mine.py:network", "--data", "mine.py:data", "--pareto", "no/a.png"), "there is no folder no"),
        (("mine.py:network", "--data", "mine.py:data", "--method", "gredy"), "Did you mean 'greedy'"),
        (("mine.py:network", "--data", "mine.py:data", "--weights", "mine.py"), "weights: cannot load"),
    ],
)
def test_mistakes_of_place_are_one_sentence(call, mine, monkeypatch, arguments, words):
    monkeypatch.setenv("CIMENV_CACHE", str(mine / "cache"))
    code, out, err = call("place", *arguments)
    assert (code, out) == (2, "") and len(err.strip().splitlines()) == 1 and words in err
    assert not (mine / "cache").exists()
