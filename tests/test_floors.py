"""The house: a folder imports only from lower floors, siblings do not import each other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cimenv"
FLOORS = {
    "core": 0,
    "crossbar": 1,
    "networks": 1,
    "data": 1,
    "compensation": 2,
    "evaluation": 3,
    "cost": 3,
    "training": 4,
    "tasks": 5,
    "envs": 6,
    "search": 6,
    "analysis": 6,
    "sb3": 7,
    "cli": 7,
    "registries.py": 8,
    "__main__.py": 8,
}


def imports(path: Path) -> set[str]:
    text = path.read_text()
    assert not re.search(r"^\s*from \.", text, re.MULTILINE), f"{path}: relative import"
    return set(re.findall(r"^\s*(?:from|import) (cimenv\.[\w.]+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    home = path.relative_to(ROOT).parts[0]
    if home == "__init__.py":
        return
    for name in imports(path):
        other = name.split(".")[1]
        if other == home:
            continue
        target = other if other in FLOORS else f"{other}.py"
        assert FLOORS[target] < FLOORS[home], f"{path.relative_to(ROOT)} (floor {FLOORS[home]}) imports {name}"


def test_every_folder_has_a_floor():
    homes = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert homes <= set(FLOORS)


def test_files_stay_small():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_no_pickle_and_no_global_seeding():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for word in ("import pickle", "allow_pickle=True", "yaml.load(", "np.random.seed", "torch.save", "torch.load("):
            assert word not in text, f"{path.name}: {word}"
