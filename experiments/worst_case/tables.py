"""The tables of results/worst_case/table.md."""

from __future__ import annotations

import numpy as np

from experiments.lab.markdown import table
from experiments.lab.rows import NAN
from experiments.worst_case.results import Results


def share(value: float, spread: float = NAN) -> str:
    """Return a share in per cent, with its spread if that is known; nothing for NaN."""
    if np.isnan(value):
        return ""
    return f"{value:.1%}" if np.isnan(spread) else f"{value:.1%} ± {spread:.1%}"


def tables(results: Results) -> str:
    """Return all tables that have rows."""
    parts = [draw(results) for draw in (tries_table, attack_table, budget_table, chips_table, blocks_table)]
    return "\n".join(part for part in parts if part)


def summary(results: Results) -> str:
    """Return baselines and the winners of the first contest in a few columns, for the README."""
    plan, first = results.plan, results.first
    name, contest = next(iter(plan.contests.items()))
    fields = ("clean", f"write_verify_{first:g}_mean", f"worst_{first:g}_published", f"worst_{first:g}")
    rows = []
    for data in plan.data:
        winners = [results.winner(data, name, family) for family in contest.families]
        for label in dict.fromkeys([*plan.baselines, *winners]):
            if results.of(data, label):
                cells = [share(results.mean(field, data, label)) for field in fields[:-1]]
                cells.append(share(results.mean(fields[-1], data, label), results.spread(fields[-1], data, label)))
                rows.append([f"{data}, {label}", str(len(results.of(data, label))), *cells])
    caption = (
        f"LeNet-5, every weight within th_g = {first:g} of its target; mean over {plan.chips} chips x "
        f"{plan.chip_images} test images; attacks on {plan.bounds[first]} test images. ±: over training seeds.\n\n"
    )
    return caption + table(["data, training", "seeds", "clean", "mean", "published attack", "ensemble"], rows)


def tries_table(results: Results) -> str:
    """Return a table of every try on validation."""
    plan = results.plan
    judges = [row for data in plan.data for row in results.kind("judge", data)]
    judged = {(row["data"], row["recipe"]): row["val_accuracy"] for row in judges}
    rows = []
    for data in plan.data:
        for name, contest in plan.contests.items():
            for family, labels in contest.families.items():
                won = plan.winner(data, name, family, results.jobs)
                for row in results.kind("try", data):
                    if row["recipe"] in labels:
                        fields = ("val_clean", "val_mean", "val_percentile", "val_worst_case")
                        mark = " **chosen**" if row["recipe"] == won else ""
                        cells = [share(row[field]) for field in fields]
                        cells.append(share(judged.get((data, row["recipe"]), NAN)))
                        rows.append([f"{data}, {name}, {family}: {row['recipe']}{mark}", *cells])
    caption = (
        f"Tries, judged on 500 VALIDATION images with training seed {plan.seeds[0]}: mean and 5 % percentile over 59 "
        f"chips of {plan.judge}; worst case at the contest's th_g by the quick attack, which chooses epochs, and by "
        "the ensemble, which chooses tries.\n\n"
    )
    head = ["data, contest, family: try", "clean", "mean", "5 % pct", "worst, quick", "worst, ensemble"]
    return caption + table(head, rows) if rows else ""


def attack_table(results: Results) -> str:
    """Return clean accuracy, worst cases, certificates and training time of the networks without blocks."""
    plan, bounds = results.plan, sorted(results.plan.bounds)
    published = f"worst_{results.first:g}_published"
    rows = []
    for data in plan.data:
        for recipe in results.labels(data):
            cells = [share(results.mean("clean", data, recipe), results.spread("clean", data, recipe))]
            for bound in bounds:
                field = f"worst_{bound:g}"
                cells.append(share(results.mean(field, data, recipe), results.spread(field, data, recipe)))
            cells.append(share(results.mean(published, data, recipe)))
            for bound in plan.certificate_bounds:
                sound, reached = (results.mean(f"{what}_{bound:g}", data, recipe) for what in ("certified", "attacked"))
                cells.append(f"{share(sound)} ({share(reached)})")
            cells.append(f"{results.mean('training_time', data, recipe):.1f} x")
            rows.append([f"{data}, {recipe}", str(len(results.of(data, recipe))), *cells])
    images = ", ".join(f"{plan.bounds[bound]} at {bound:g}" for bound in bounds)
    caption = (
        f"LeNet-5, official test split. Worst case: the ensemble on evenly spaced images ({images}); the published "
        f"margin attack alone at th_g {results.first:g} beside it. Certified (attacked): {plan.certificate_images} "
        "images. ±: standard deviation over training seeds. Training time: over that of standard, judging left out.\n\n"
    )
    head = ["data, recipe", "seeds", "clean", *(f"worst, th_g {b:g}" for b in bounds), "published attack"]
    head += [*(f"certified (attacked), {bound:g}" for bound in plan.certificate_bounds), "training time"]
    return caption + table(head, rows) if rows else ""


def budget_table(results: Results) -> str:
    """Return a table of the accuracy that ensembles of growing budgets leave."""
    budgets = results.plan.budgets
    rows = []
    for data in results.plan.data:
        rows_of = results.kind("budget", data)
        for recipe in dict.fromkeys(row["recipe"] for row in rows_of):
            worst = {row["steps"]: row["worst"] for row in rows_of if row["recipe"] == recipe}
            rows.append([f"{data}, {recipe}", *(share(worst.get(steps, NAN)) for steps in budgets.steps)])
    caption = (
        f"Is the ensemble strong enough? The same attacks at th_g {results.first:g} with more steps a descent and more "
        f"restarts, {budgets.images} test images, first training seed.\n\n"
    )
    head = ["data, recipe", *(f"{steps} steps, {restarts} restarts" for steps, restarts in budgets.steps.items())]
    return caption + table(head, rows) if rows else ""


def chips_table(results: Results) -> str:
    """Return mean and percentiles of random chips of the networks without blocks."""
    plan = results.plan
    rows = []
    for data in plan.data:
        for recipe in results.labels(data):
            cells = []
            for device in plan.physics:
                mean, p01, p05 = (results.mean(f"{device}_{what}", data, recipe) for what in ("mean", "p01", "p05"))
                cells.append(f"{share(mean)}, {share(p05)}, {share(p01)}")
            rows.append([f"{data}, {recipe}", *cells])
    caption = (
        f"The same networks on random chips: mean, 5 % and 1 % percentile over {plan.chips} chips x "
        f"{plan.chip_images} test images, mean over training seeds. write_verify_th: Gaussian of th / 2 censored at "
        "th; sigma: without write-verify.\n\n"
    )
    return caption + table(["data, recipe", *plan.physics], rows) if rows else ""


def blocks_table(results: Results) -> str:
    """Return what placements for each statistic keep."""
    plan, device = results.plan, results.plan.blocks.physics
    fields = ("clean", f"{device}_mean", f"{device}_p05", f"{device}_p01", f"worst_{results.first:g}")
    rows = []
    for data in plan.data:
        for recipe in dict.fromkeys(row["recipe"] for row in results.kind("blocks", data)):
            for placed_for in ("none", "affine", *plan.blocks.statistics):
                measured = results.of(data, recipe, placed_for)
                if measured:
                    cells = [
                        share(
                            results.mean(field, data, recipe, placed_for),
                            results.spread(field, data, recipe, placed_for),
                        )
                        for field in fields
                    ]
                    weights = results.mean("weights", data, recipe, placed_for)
                    rows.append([f"{data}, {recipe}", placed_for, str(len(measured)), f"{weights:.2%}", *cells])
    caption = (
        "Blocks placed by knapsack for each statistic, at most 5 % more weights, fitted on the training split; bank, "
        f"mean and percentiles under {device} ({plan.chips} chips x {plan.chip_images} images), worst case: the "
        f"ensemble at th_g {results.first:g} on {plan.bounds[results.first]} images.\n\n"
    )
    head = ["data, recipe", "blocks placed for", "seeds", "+weights", "clean", "mean", "5 % pct", "1 % pct", "worst"]
    return caption + table(head, rows) if rows else ""
