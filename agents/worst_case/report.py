"""From the rows of finished jobs to results/worst_case: results.csv, curves.csv, table.md, targets.json, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.study import Journal, Row, target, write_csv, write_targets
from agents.worst_case.figures import draw_all
from agents.worst_case.plan import Plan

COMMAND = "python -m agents.worst_case"
LONG = ("history", "curve", "_correct", "_members")  # columns that stay in the journal
CURVE = ("member", "start", "step", "passes", "accuracy")


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = [row for stage in plan.stages() for job in stage if job in journal for row in journal.rows[job.name]]
    if not rows:
        return
    short = [{name: value for name, value in row.items() if not name.endswith(LONG)} for row in rows]
    write_csv(out / "results.csv", short)
    points = [
        {**{name: row[name] for name in ("data", "recipe", "seed")}, **dict(zip(CURVE, point, strict=True))}
        for row in rows
        for point in row.get("curve", [])
    ]
    if points:
        write_csv(out / "curves.csv", points)
    results = Results(plan, rows)
    (out / "table.md").write_text(table(results) + "\n" + blocks_table(results))
    write_targets(out, targets(results))
    draw_all(results, out)


class Results:
    """Rows with the questions that tables, targets and figures ask of them."""

    def __init__(self, plan: Plan, rows: list[Row]) -> None:
        self.plan = plan
        self.nets = [row for row in rows if "training_time" in row]
        self.placed = [row for row in rows if "placement" in row]
        self.first = plan.bounds[0]

    def of(self, data: str, recipe: str, placed_for: str | None = None) -> list[Row]:
        """Return the rows of one network over its seeds: without blocks, or with those placed for a metric."""
        pool = self.nets if placed_for is None else [row for row in self.placed if row["blocks"] == placed_for]
        return [row for row in pool if row["data"] == data and row["recipe"] == recipe]

    def mean(self, field: str, data: str, recipe: str, placed_for: str | None = None) -> float:
        """Return the mean of a column over the seeds that are done; NaN without rows."""
        values = [row[field] for row in self.of(data, recipe, placed_for)]
        return float(np.mean(values)) if values else float("nan")

    def spread(self, field: str, data: str, recipe: str, placed_for: str | None = None) -> float:
        """Return the standard deviation of a column over seeds; NaN for fewer than two."""
        values = [row[field] for row in self.of(data, recipe, placed_for)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def best(self, field: str, data: str, prefix: str, stronger: bool = False) -> str:
        """Return the recipe that VALIDATION prefers among those whose label begins so and whose seeds are all done."""
        labels = self.plan.stronger.recipes if stronger else self.plan.recipes
        known = [r for r in labels if r.startswith(prefix) and len(self.of(data, r)) == len(self.plan.seeds)]
        return max(known, key=lambda r: self.mean(f"val_{field}", data, r), default="not measured")


def _share(value: float, spread: float = float("nan")) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.1%}" if np.isnan(spread) else f"{value:.1%} ± {spread:.1%}"


def table(results: Results) -> str:
    """Return the table of networks without blocks."""
    plan = results.plan
    bounds = sorted(plan.bounds)
    head = ["data, recipe", "seeds", "clean", *(f"worst, th {b:g}" for b in bounds), "published attack"]
    head += ["mean, wv .03", "1 % pct, wv .03", "mean, σ .2", "1 % pct, σ .2", "1 % pct, σ .3", "5 % pct, σ .3"]
    head += [*(f"certified (attacked) {bound:g}" for bound in CERTIFIED), "training time"]
    lines = [
        f"LeNet-5, official test split. Worst case: the ensemble on {plan.attack_images} evenly spaced images; the "
        f"published margin attack alone at th {results.first:g} beside it. Percentiles: {plan.chips} chips x "
        f"{plan.chip_images} images. Certified: {plan.certificate_images} images. ±: standard deviation over "
        "seeds. wv: write-verify; training time: over that of standard, judging of epochs left out.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
    ]
    for data in plan.data:
        for recipe in (*plan.recipes, *plan.stronger.recipes):
            rows = results.of(data, recipe)
            if not rows:
                continue
            published = float(np.mean([row[f"worst_{results.first:g}_members"]["pgd_published"] for row in rows]))
            cells = [f"{data}, {recipe}", str(len(rows)), _share(results.mean("clean", data, recipe))]
            for bound in bounds:
                field = f"worst_{bound:g}"
                cells.append(_share(results.mean(field, data, recipe), results.spread(field, data, recipe)))
            cells.append(_share(published))
            fields = ["write_verify_0.03_mean", "write_verify_0.03_p01"]
            fields += ["sigma_0.2_mean", "sigma_0.2_p01", "sigma_0.3_p01", "sigma_0.3_p05"]
            cells += [_share(results.mean(field, data, recipe)) for field in fields]
            for bound in CERTIFIED:
                sound, found = (results.mean(f"{what}_{bound:g}", data, recipe) for what in ("certified", "attacked"))
                cells.append(f"{_share(sound)} ({_share(found)})")
            cells.append(f"{results.mean('training_time', data, recipe):.1f} x")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


CERTIFIED = (0.0001, 0.0003, 0.001)


def blocks_table(results: Results) -> str:
    """Return the table of placements for each metric."""
    plan = results.plan
    device = plan.blocks.physics
    worst = f"worst_{results.first:g}"
    lines = [
        f"Blocks placed by knapsack for each metric, at most 5 % more weights, fitted; bank, mean and percentile under "
        f"{device}, worst case at th {results.first:g}.",
        "",
        "| data, recipe | blocks placed for | seeds | +weights | clean | mean | 1 % pct | worst |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for data in plan.data:
        for recipe in plan.blocks.recipes:
            for placed_for in ("none", "affine", *plan.blocks.metrics):
                rows = results.of(data, recipe, placed_for)
                if rows:
                    fields = ("clean", f"{device}_mean", f"{device}_p01", worst)
                    cells = [
                        _share(results.mean(f, data, recipe, placed_for), results.spread(f, data, recipe, placed_for))
                        for f in fields
                    ]
                    weights = results.mean("weights", data, recipe, placed_for)
                    lines.append(
                        f"| {data}, {recipe} | {placed_for} | {len(rows)} | {weights:.2%} | " + " | ".join(cells) + " |"
                    )
    return "\n".join(lines) + "\n"


def targets(results: Results) -> list[dict[str, Any]]:
    """Return every target with what was measured; one that was not measured yet is not met."""
    return [
        *_recipe_targets(results, "mnist"),
        _stronger_target(results, "mnist"),
        _attack_target(results),
        _certificate_target(results, "mnist"),
        _soundness_target(results),
    ]


def _target(name: str, bound: str, measured: float, met: bool, **more: Any) -> dict[str, Any]:
    return target(name, bound, round(measured, 5), met, COMMAND, **more)


def _recipe_targets(results: Results, data: str) -> list[dict[str, Any]]:
    """Return what A-TRICE must gain over Gaussian noise at the first bound, and in the percentile."""
    worst, at = f"worst_{results.first:g}", f"{data}, th_g {results.first:g}"
    ours, gaussian = (results.best("worst_case", data, family) for family in ("a_trice", "gaussian"))

    def beyond(field: str, base: str) -> float:
        return results.mean(field, data, ours) - results.mean(field, data, base)

    margin, mean = beyond(worst, "gaussian_0.1"), beyond("sigma_0.2_mean", "gaussian_0.1")
    name = f"{at}: worst case of the best A-TRICE ({ours}) beyond gaussian_0.1"
    met = margin >= 0.33 and mean >= -0.03
    first = _target(name, ">= 0.33, mean at sigma .2 no more than 0.03 lower", margin, met, mean=mean)
    margin, clean = beyond(worst, gaussian), beyond("clean", gaussian)
    name = f"{at}: worst case of the best A-TRICE ({ours}) beyond the best Gaussian ({gaussian})"
    met = margin >= 0.03 and clean >= -0.015
    second = _target(name, ">= 0.03, clean within 0.015", margin, met, clean=clean)
    trice, gaussian = (results.best("percentile", data, family) for family in ("trice", "gaussian"))
    a_trice = results.best("percentile", data, "a_trice")
    ours = max((trice, a_trice), key=lambda r: np.nan_to_num(results.mean("val_percentile", data, r)))
    gain = beyond("sigma_0.3_p05", gaussian)
    name = (
        f"{data}, sigma .3: 5 % percentile of the best TRICE or A-TRICE ({ours}) beyond the best Gaussian ({gaussian})"
    )
    return [first, second, _target(name, ">= 0.02", gain, gain >= 0.02)]


def _stronger_target(results: Results, data: str) -> dict[str, Any]:
    bound = results.plan.stronger.bound
    field = f"worst_{bound:g}"
    ours, base = (results.best("worst_case", data, family, stronger=True) for family in ("a_trice", "gaussian"))
    ratio = results.mean(field, data, ours) / results.mean(field, data, base)
    name = f"{data}, th_g {bound:g}: the best A-TRICE ({ours}) over the best Gaussian ({base})"
    return _target(name, ">= 2 times", ratio, ratio >= 2)


def _attack_target(results: Results) -> dict[str, Any]:
    field = f"worst_{results.first:g}"
    gap = max((row[f"{field}_members"]["pgd_published"] - row[field] for row in results.nets), default=float("nan"))
    name = f"th_g {results.first:g}: ensemble below the published margin attack, largest gap"
    return _target(name, ">= 0.1", gap, gap >= 0.1)


def _certificate_target(results: Results, data: str) -> dict[str, Any]:
    best = results.best("worst_case", data, "gaussian")
    share = results.mean("certified_0.0003", data, best)
    return _target(f"{data}: certified at th 3e-4, noise-trained ({best})", ">= 0.9", share, share >= 0.9)


def _soundness_target(results: Results) -> dict[str, Any]:
    bounds = results.plan.certificate_bounds
    above = [row[f"certified_{b:g}"] - row[f"attacked_{b:g}"] for row in results.nets for b in bounds]
    worst = max(above, default=float("nan"))
    return _target("certified accuracy beyond attacked accuracy, largest", "<= 0", worst, worst <= 0)
