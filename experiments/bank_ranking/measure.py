"""What one job measures: the accuracy of a placement with the bank's blocks, and with blocks fitted for it alone."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import Placement
from cimenv.core.precision import arithmetic
from cimenv.core.progress import silent
from cimenv.core.seeding import torch_generator
from cimenv.core.threads import torch_threads
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.engines import engine_of
from cimenv.tasks.problem import default_store
from cimenv.training import fit_placement
from experiments.bank_ranking.plan import Job, Plan
from experiments.lab.rows import Row


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    evaluator = MonteCarloEvaluator(plan.made(), default_store(folder / "store"), threads=1)
    bank = evaluator.evaluate(job.placement).value("mean")
    alone = stand_alone_accuracy(evaluator, job.placement) if plan.stand_alone else math.nan
    tuned = evaluator.evaluate(job.placement, fidelity="tuned").value("mean")
    return [{"placement": list(job.placement), "bank": bank, "stand_alone": alone, "tuned": tuned}]


def stand_alone_accuracy(evaluator: MonteCarloEvaluator, placement: Placement) -> float:
    """Return the accuracy with blocks that were initialised afresh and fitted for this placement alone."""
    problem, task = evaluator.problem, evaluator.task
    generator = torch_generator("stand-alone", placement, task.training_seed)
    threads, precision = torch_threads(task.training_threads), arithmetic(task.training_precision)
    with threads, precision, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        bank = CompensationBank(problem.options).eval()
        fit_placement(problem.network, bank, placement, problem.data.train, task.tuned, generator, silent, task.times_s)
    engine = engine_of(problem, "val", evaluator.compute, bank)
    tally = engine.run([placement], range(task.chips))
    return float(tally.sums.mean() / tally.images)
