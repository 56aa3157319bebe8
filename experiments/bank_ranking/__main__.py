"""Does the one-shot bank rank placements as fits of their own do?

`python -m experiments.bank_ranking [OUT] [TASK] [key=value ...] [--tuned-only]`. For 40 random placements: accuracy
with the bank's blocks, with blocks fitted from scratch for this placement alone (not with --tuned-only: deep networks
need as long for that as for everything else together), and with the bank's blocks tuned further. Writes ranking.csv
(resumable, a row a placement), targets.json and ranking.png.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import Placement
from cimenv.core.checked_rows import appending, read_rows
from cimenv.core.errors import ConfigError
from cimenv.core.files import CONFIGURATION, read_text
from cimenv.core.precision import arithmetic
from cimenv.core.progress import bar
from cimenv.core.seeding import numpy_generator, torch_generator
from cimenv.core.threads import torch_threads
from cimenv.core.writing import only_process, whole, write_whole, writing
from cimenv.evaluation.metrics import rank_correlation
from cimenv.tasks import MonteCarloEvaluator, load_task
from cimenv.training import fit_placement

COLUMNS = ("placement", "bank", "stand_alone", "tuned")
COUNT = 40


def draw(evaluator: MonteCarloEvaluator, count: int = COUNT, seed: int = 0) -> list[Placement]:
    """Return distinct random non-empty placements of allowed options."""
    generator, space = numpy_generator("bank-ranking", seed), evaluator.space
    choices = [np.flatnonzero(row) for row in space.candidates]
    found: dict[Placement, None] = {}
    while len(found) < count:
        placement = tuple(int(generator.choice(row)) for row in choices)
        if any(placement) and space.feasible(placement):
            found[placement] = None
    return list(found)


def stand_alone_accuracy(evaluator: MonteCarloEvaluator, placement: Placement) -> float:
    """Return the accuracy with blocks that were initialised afresh and fitted for this placement alone."""
    problem, task = evaluator.problem, evaluator.task
    generator = torch_generator("stand-alone", placement, task.training_seed)
    threads, precision = torch_threads(task.training_threads), arithmetic(task.training_precision)
    with threads, precision, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        bank = CompensationBank(problem.options).eval()
        fit_placement(problem.network, bank, placement, problem.data.train, task.tuned, generator, bar, task.times_s)
    engine = problem.engine("val", bank, evaluator.threads)
    tally = engine.run([placement], range(task.chips))
    return float(tally.correct.mean() / tally.images)


def run(folder: Path, evaluator: MonteCarloEvaluator, tuned_only: bool = False) -> dict[str, float]:
    """Fill ranking.csv, skipping rows it has, and return the figures of merit.

    Raises:
        ConfigError: another process fills it, it is of another task, or it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    taken = f"Another process measures into {folder}; wait until it has finished, or give another folder."
    with only_process(folder / ".lock", taken):
        _check_same(folder / "task.key", evaluator.task.key)
        return merits(np.array(list(_filled(folder / "ranking.csv", evaluator, tuned_only).values())))


def _filled(path: Path, evaluator: MonteCarloEvaluator, tuned_only: bool) -> dict[Placement, tuple[float, ...]]:
    known = {placement: found for placement, found in _read(path).items() if tuned_only or not math.isnan(found[1])}
    append = appending(path, COLUMNS)
    for placement in draw(evaluator):
        if placement in known:
            continue
        bank = evaluator.evaluate(placement).value("mean")
        alone = math.nan if tuned_only else stand_alone_accuracy(evaluator, placement)
        tuned = evaluator.evaluate(placement, fidelity="tuned").value("mean")
        known[placement] = (bank, alone, tuned)
        append([" ".join(map(str, placement)), bank, alone, tuned])
    return known


def _check_same(path: Path, key: str) -> None:
    if path.exists() and read_text(path, CONFIGURATION).strip() != key:
        raise ConfigError(f"{path.parent} holds the ranking of another task; give another folder.")
    write_whole(path, key + "\n")


def merits(values: np.ndarray) -> dict[str, float]:
    """Return Kendall's tau and the gap of the bank's top five, from rows of (bank, stand-alone, tuned)."""
    bank, alone, tuned = values.T
    top = np.argsort(-bank)[:5]
    return {
        "tau_stand_alone": rank_correlation(bank, alone),
        "tau_tuned": rank_correlation(bank, tuned),
        "top5_gap_tuned": float(tuned.max() - tuned[top].max()),
        "top5_gap_stand_alone": float(alone.max() - alone[top].max()),
        "mean_bank": float(bank.mean()),
        "mean_stand_alone": float(alone.mean()),
        "mean_tuned": float(tuned.mean()),
    }


def write_targets(folder: Path, found: dict[str, float], command: str) -> None:
    """Write targets.json."""
    own = "tuned" if math.isnan(found["tau_stand_alone"]) else "stand_alone"
    tau = f"Kendall tau of bank and {own.replace('_', '-')} fits, {COUNT} random placements"
    rows = [
        (tau, ">= 0.6", found[f"tau_{own}"], 0.6, 1),
        ("best tuned of the bank's top five below the best of all 40", "<= 0.005", found["top5_gap_tuned"], 0.005, -1),
    ]
    targets = [
        {"target": t, "bound": b, "measured": m, "met": bool((m - limit) * sign >= 0), "command": command}
        for t, b, m, limit, sign in rows
    ]
    write_whole(folder / "targets.json", json.dumps(targets, indent=2) + "\n")


def draw_figure(folder: Path) -> None:
    """Save bank accuracy against stand-alone and tuned accuracy."""
    from matplotlib.figure import Figure

    values = np.array(list(_read(folder / "ranking.csv").values()))
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    if not np.isnan(values[:, 1]).any():
        axes.plot(values[:, 0], values[:, 1], "o", ms=4, label="fitted alone from scratch")
    axes.plot(values[:, 0], values[:, 2], "x", ms=5, label="bank, tuned further")
    ends = [np.nanmin(values), np.nanmax(values)]
    axes.plot(ends, ends, color="#999999", lw=1, ls=":")
    axes.set_xlabel("mean accuracy with the bank's blocks")
    axes.set_ylabel("mean accuracy with fitted blocks")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with whole(folder / "ranking.png") as part:
        figure.savefig(part, dpi=120)


def _read(path: Path) -> dict[Placement, tuple[float, ...]]:
    rows = read_rows(path, COLUMNS) if path.exists() else []
    try:
        return {
            tuple(map(int, row["placement"].split())): tuple(float(row[name]) for name in COLUMNS[1:]) for row in rows
        }
    except ValueError:
        raise ConfigError(f"{path} is no ranking of placements; give another folder or delete it.") from None


def main(arguments: list[str]) -> None:
    """Run the experiment."""
    tuned_only = "--tuned-only" in arguments
    names = [argument for argument in arguments if "=" not in argument and argument != "--tuned-only"]
    if unknown := [name for name in names if name.startswith("-")]:
        raise ConfigError(f"{unknown[0]}: unknown option; known: --tuned-only.")
    folder, task = Path(names[0] if names else "results/bank_ranking"), (names[1:] or ["lenet5-fashion-mini"])[0]
    overrides = [argument for argument in arguments if "=" in argument]
    found = run(folder, MonteCarloEvaluator(load_task(task, overrides), progress=bar), tuned_only)
    write_targets(folder, found, " ".join(["python -m experiments.bank_ranking", *arguments]))
    draw_figure(folder)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
