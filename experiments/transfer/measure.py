"""What one job measures. Every function returns rows: plain mappings."""

from __future__ import annotations

from pathlib import Path

from cimenv.search import run_search
from cimenv.tasks.evaluators.table import TableEvaluator
from experiments.lab.rows import Row
from experiments.transfer.fronts import nsga2_front, policy_front
from experiments.transfer.plan import Job, Plan
from experiments.transfer.policy import Models, choices, first_choice, kept, tabular
from experiments.transfer.rivals import best_rule, placed, regret


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    if job.kind == "rivals":
        rows = rivals(plan, job)
    elif job.kind == "experience":
        rows = experienced(plan, job)
    else:
        rows = used(plan, job, [kept(plan, member, folder) for member in plan.members(job)])
    return [{"held_out": job.held_out, **row} for row in rows]


def used(plan: Plan, job: Job, models: Models) -> list[Row]:
    """Use a policy or a committee on all tables at once, on unseen ones also with evaluations."""
    seen, _ = plan.split(job.held_out)
    fit_log = plan.training(job).fit_log
    rows: list[Row] = []
    for table in plan.tables:
        unseen = table not in seen
        if unseen:
            front = {"table": table, "unseen": True, "seed": job.seed, "front": job.kind}
            rows.append({**front, **policy_front(plan, models, table, fit_log)})
        for number, variant in enumerate(plan.variants):
            env = tabular(plan, table, variant, fit_log)
            what = {"table": table, "variant": number, "unseen": unseen, "seed": job.seed, "method": job.kind}
            rows.append({**what, "evaluations": 0, "regret": regret(first_choice(models, env), env.table)})
            if unseen:
                few = min(regret(each, env.table) for each in choices(models, env, plan.evaluations, job.seed))
                rows.append({**what, "evaluations": plan.evaluations, "regret": few})
    return rows


def rivals(plan: Plan, job: Job) -> list[Row]:
    """Use the best rule of the training tables on those held out, and searches with as many evaluations."""
    seen, unseen = plan.split(job.held_out)
    known = [TableEvaluator(table, variant) for table in seen for variant in plan.variants]
    rule = best_rule(known)
    rows: list[Row] = []
    for table in unseen:
        for seed in range(plan.seeds):
            front = {"table": table, "unseen": True, "seed": seed, "front": "nsga2"}
            rows += [{**front, **nsga2_front(table, count, seed)} for count in plan.front_evaluations]
        for number, variant in enumerate(plan.variants):
            evaluator = TableEvaluator(table, variant)
            what = {"table": table, "variant": number, "unseen": True}
            zero = {"rule": rule, "none": "none", "affine everywhere": "first 1 1", "largest everywhere": "first 1 3"}
            for method, which in zero.items():
                reached = regret(placed(which, evaluator), evaluator)
                rows.append({**what, "seed": 0, "method": method, "evaluations": 0, "regret": reached, "which": which})
            best = run_search(evaluator, "fit_log").objective
            rows.append({**what, "seed": 0, "method": "fit_log", "evaluations": 0, "regret": evaluator.regret(best)})
            for search, settings in plan.searches.items():
                for seed in range(plan.seeds):
                    best = run_search(evaluator, search, plan.evaluations, seed, settings).objective
                    row = {"seed": seed, "method": search, "evaluations": plan.evaluations}
                    rows.append({**what, **row, "regret": evaluator.regret(best)})
            best = run_search(evaluator, "knapsack").objective
            row = {"seed": 0, "method": "knapsack", "evaluations": None}
            rows.append({**what, **row, "regret": evaluator.regret(best)})
    return rows


def experienced(plan: Plan, job: Job) -> list[Row]:
    """Let the search `transfer` learn from the training tables; use it with no, few and the knapsack's evaluations."""
    seen, unseen = plan.split(job.held_out)
    rows: list[Row] = []
    for table in unseen:
        for number, variant in enumerate(plan.variants):
            evaluator = TableEvaluator(table, variant)
            own = run_search(evaluator, "knapsack").evaluations
            for seed in range(plan.seeds):
                budget = max(plan.evaluations, own)
                result = run_search(evaluator, "transfer", budget, seed, {"tables": tuple(seen)})
                best = result.best_so_far
                reached = {
                    0: result.steps[:2][-1].objective,
                    plan.evaluations: best[: plan.evaluations][-1],
                    None: best[:own][-1],
                }
                what = {"table": table, "variant": number, "unseen": True, "seed": seed, "method": "transfer"}
                rows += [
                    {**what, "evaluations": count, "regret": evaluator.regret(value)}
                    for count, value in reached.items()
                ]
    return rows
