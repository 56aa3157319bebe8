"""The house: folders of the repository, and who imports whom; one name per experiment in code, plan and results."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"cimenv", "agents", "experiments", "tests", "configs", "results", "docs", ".ci"}
CODE = sorted(path for home in ("agents", "experiments") for path in (ROOT / home).rglob("*.py"))
SHARED = {"lab", "tables"}  # what experiments are made of, and the tables that some of them read
BORROWS = {("deep_bank", "bank_ranking")}  # the same plan on another task
EXPERIMENTS = {path.name for path in (ROOT / "experiments").iterdir() if (path / "__init__.py").exists()} - SHARED


def test_folders_of_the_repository():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository: what an archive holds is no question here")
    assert {name.split("/")[0] for name in listed.stdout.splitlines() if "/" in name} == FOLDERS


def imports(path: Path) -> list[str]:
    text = path.read_text()
    assert not re.search(r"^\s*from \.", text, re.MULTILINE), f"{path}: relative import"
    return re.findall(r"^\s*(?:from|import) ((?:cimenv|agents|experiments|tests)[\w.]*)", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "cimenv").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_package_stands_alone(path):
    assert [name for name in imports(path) if not name.startswith("cimenv")] == []


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_experiments_use_agents_and_agents_the_package(path):
    home, *below = path.relative_to(ROOT).parts
    for name in imports(path):
        where = name.split(".")
        allowed = {"agents": ("cimenv", "agents"), "experiments": ("cimenv", "agents", "experiments")}[home]
        assert where[0] in allowed, f"{path.relative_to(ROOT)} imports {name}"
        if home == where[0] == "experiments" and len(where) > 1 and where[1] != below[0]:
            assert where[1] == "lab" or (below[0], where[1]) in BORROWS, f"{below[0]} imports {name}"


def test_tests_of_agents_need_no_experiment():
    for path in (ROOT / "tests/agents").glob("*.py"):
        assert [name for name in imports(path) if name.startswith("experiments")] == [], path.name


def test_an_experiment_has_one_name():
    results = {path.name for path in (ROOT / "results").iterdir() if path.is_dir()}
    assert results == EXPERIMENTS
    planned = {name for name in EXPERIMENTS | {"tables"} if (ROOT / f"experiments/{name}/plan.py").exists()}
    configs = {path.stem for path in (ROOT / "configs/experiments").glob("*.yaml")}
    assert configs == planned | {"deep_bank"}
    for name in EXPERIMENTS:
        assert (ROOT / f"experiments/{name}/__main__.py").exists(), name
        assert (ROOT / f"results/{name}/README.md").exists(), name


def test_commands_in_texts_name_modules_that_exist():
    texts = [*ROOT.glob("*.md"), ROOT / "Makefile", *ROOT.glob("results/*/*.md"), *ROOT.glob("results/*/targets.json")]
    texts += [*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("agents/*.md"), *ROOT.glob("docs/**/*.md")]
    for text in texts:
        for module in re.findall(r"-m ((?:agents|experiments)[\w.]*\w)", text.read_text()):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{text.name}: {module}"


def test_files_stay_small():
    long = {str(path.relative_to(ROOT)): n for path in CODE if (n := len(path.read_text().splitlines())) > 400}
    assert long == {}
