"""Shared fixtures: a cache folder for the whole session, and the toy task trained in it once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is loaded: threads that wait must not spin on the cores that other workers or programs need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cimenv  # noqa: F401 - registers the environments
from cimenv.cli import main
from cimenv.tasks import MonteCarloEvaluator, Objective, load_task


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.getbasetemp()  # under pytest-xdist, its parent is common to all workers: one of them trains
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cache"
    folder.mkdir(exist_ok=True)
    before = os.environ.get("CIMENV_CACHE")
    os.environ["CIMENV_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["CIMENV_CACHE"]
    else:
        os.environ["CIMENV_CACHE"] = before


@pytest.fixture(scope="session")
def toy(cache: Path) -> MonteCarloEvaluator:
    evaluator = MonteCarloEvaluator(load_task("toy-4site"))
    evaluator.evaluate_many(list(evaluator.space.all_placements()))
    return evaluator


@pytest.fixture(scope="session")
def toy_values(toy: MonteCarloEvaluator) -> dict[tuple[int, ...], float]:
    objective = Objective.of(toy)
    return {p: objective.value(toy.evaluate(p)) for p in toy.space.all_placements()}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `cimenv ARGUMENTS` in this process; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cimenv", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return called
