"""From the journal to results/aimc: results.csv, sensitivity.csv, table.md, targets.json and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cimenv.analysis import sensitivity_file
from cimenv.analysis.non_idealities import NON_IDEALITIES
from cimenv.analysis.sensitivity import Row as SensitivityRow
from cimenv.evaluation.intervals import normalised_accuracy
from experiments.aimc.plan import HOUR_S, Plan
from experiments.lab.figures import panels
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import NAN, Floats, Row, select, with_interval, write_csv
from experiments.lab.targets import Target, target, write_targets

COMMAND = "python -m experiments.aimc"
ERROR = 0.1  # of the standard matrix, where non-idealities are compared
CLASSES = 10  # of MNIST and of Fashion-MNIST
LABELS = {1.0: "1 s", HOUR_S: "1 h", 86_400.0: "1 day", 31_536_000.0: "1 year"}
BLOCKS = {"affine": "affine", "knapsack": "placed blocks", "digital": "digital channels", "all largest": "all blocks"}


class Results:
    """Rows with the questions that tables, targets and figures ask of them."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan = plan
        self.rows = journal.finished(plan.stages())
        self.points = [row for row in self.rows if row["kind"] != "sensitivity"]
        self.sensitivity = [
            SensitivityRow(task=row["network"], weights="", kind=row["what"], **{f: row[f] for f in FIELDS})
            for row in self.rows
            if row["kind"] == "sensitivity"
        ]

    def times_s(self, row: Row) -> list[float]:
        """Return the times that a row is measured at."""
        return list(row.get("times_s", self.plan.times_s))

    def star(self, row: Row, t_s: float) -> Floats:
        """Return A* of every chip at a time."""
        accuracy = np.array(row["correct"][self.times_s(row).index(t_s)]) / row["images"]
        stars: Floats = np.array([normalised_accuracy(value, row["fp"], CLASSES) for value in accuracy])
        return stars

    def mean(self, kind: str, network: str, t_s: float, blocks: str | None = None) -> float:
        """Return the mean A* of a network at a time; NaN where it is not measured."""
        first = next(iter(select(self.points, kind=kind, network=network, blocks=blocks)), None)
        return float(self.star(first, t_s).mean()) if first is not None else NAN

    def of_family(self, family: str) -> list[str]:
        """Return the networks of a family."""
        return [name for name, network in self.plan.networks.items() if network.family == family]


FIELDS = ("non_ideality", "wanted", "strength", "mvm_error", "accuracy", "low", "high", "normalised", "chips", "images")


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    results = Results(plan, journal)
    if not results.rows:
        return
    stars = [
        {**row, **{f"a_star_{t_s:g}s": float(results.star(row, t_s).mean()) for t_s in results.times_s(row)}}
        for row in results.points
    ]
    write_csv(out / "results.csv", stars, leave_out=["correct", "history"])
    (out / "table.md").write_text(over_time(results) + sensitivity_table(results))
    (out / "summary.md").write_text(summary(results))
    write_targets(out, targets(results))
    if results.points:
        figure(results).savefig(out / "times.png", dpi=120)
    if results.sensitivity:
        write_csv(out / "sensitivity.csv", [vars(row) for row in results.sensitivity])
        sensitivity_file.figure(results.sensitivity).savefig(out / "sensitivity.png", dpi=120)


def name_of(row: Row) -> str:
    """Return how a row is called in tables."""
    if row["kind"] != "blocks":
        return {"direct": "direct mapping", "hwa": "HWA", "whole": "HWA, all test images"}[row["kind"]]
    noise = "" if row["noise_scale"] == 1 else f", device noise x {row['noise_scale']:g}"
    return f"HWA + {row['blocks']}{noise}"


def over_time(results: Results) -> str:
    """Return A* of every network at all times."""
    plan = results.plan
    head = ["network", "digital", "clean", *(LABELS.get(t, f"{t:g} s") for t in plan.times_s), "+weights", "+MACs"]
    caption = (
        f"Normalised accuracy A* = 1 - (e - e_digital) / (e_chance - e_digital), mean over {plan.chips} chips x "
        f"{plan.images} test images with its 95 % interval; digital: accuracy of the network before it is mapped; "
        "clean: of the fine-tuned network without its crossbar.\n\n"
    )
    lines = []
    for row in results.points:
        stars = dict.fromkeys(plan.times_s, "")
        for t_s in results.times_s(row):
            stars[t_s] = with_interval(results.star(row, t_s))
        clean, added = [f"{row['fp']:.1%}", f"{row['clean']:.1%}"], [f"{row['weights']:.2%}", f"{row['macs']:.2%}"]
        lines.append([f"{row['network']}, {name_of(row)}", *clean, *stars.values(), *added])
    return caption + table(head, lines)


def summary(results: Results) -> str:
    """Return a line a network: A* after an hour and at the last time, and what blocks add on noisier devices."""
    last = results.plan.times_s[-1]
    points = [("direct", HOUR_S), ("direct", last), ("whole", HOUR_S), ("whole", last)]
    head = [
        "A*",
        *(f"{ {'direct': 'mapped as it is', 'whole': 'HWA'}[kind] }, {LABELS[t_s]}" for kind, t_s in points),
        f"noisier devices, {LABELS[last]}",
        *(f"+ {label}" for label in BLOCKS.values()),
    ]
    lines = []
    for network in dict.fromkeys(row["network"] for row in results.points):
        stars = [results.mean(kind, network, t_s) for kind, t_s in points]
        cells = [network, *("" if star != star else f"{star:.1%}" for star in stars)]
        noisier = {row["blocks"]: row for row in results.points if row["network"] == network and "blocks" in row}
        for name in ("none", *BLOCKS):
            placed, label = noisier.get(name), ""
            if placed:
                more = f"x {placed['noise_scale']:g}" if name == "none" else f"{placed['weights']:.1%} weights"
                label = f"{results.star(placed, last).mean():.1%} ({more})"
            cells.append(label)
        lines.append(cells)
    return table(head, lines)


def sensitivity_table(results: Results) -> str:
    """Return a table of the strength of every non-ideality that every network bears."""
    rows = results.sensitivity
    if not rows:
        return ""
    networks = list(dict.fromkeys(row.task for row in rows))
    caption = (
        f"\nOne non-ideality at a time on the digital network ({rows[0].chips} chips x {rows[0].images} test images): "
        "MVM error of a standard 512 x 512 matrix up to which A* stays at 99 %, and A* where that error is 10 % "
        "(converters have whole bits: the next error below).\n\n"
    )
    lines = []
    by_name = {(row.task, row.kind, row.non_ideality): row for row in rows}
    for name in NON_IDEALITIES:
        cells = []
        for network in networks:
            borne, equal = (by_name.get((network, kind, name)) for kind in ("threshold", "equal_error"))
            if borne is None or equal is None:
                cells.append("")
                continue
            near = "" if abs(equal.mvm_error - ERROR) < 0.1 * ERROR else f" (at {equal.mvm_error:.1%})"
            cells.append(f"{borne.mvm_error:.1%}, {equal.normalised:.1%}{near}")
        lines.append([name, *cells])
    return caption + table(["non-ideality", *networks], lines)


def targets(results: Results) -> list[Target]:
    """Return every target with what was measured."""
    entries = []
    hour, year = HOUR_S, results.plan.times_s[-1]
    for family in dict.fromkeys(network.family for network in results.plan.networks.values()):
        stars = {name: results.mean("whole", name, hour) for name in results.of_family(family)}
        best = max(stars, key=lambda name: np.nan_to_num(stars[name], nan=-1.0))
        name = f"A* at 1 h after HWA, best {family} ({best})"
        entries.append(target(name, ">= 0.99", stars[best], stars[best] >= 0.99, COMMAND))
    stars = {name: results.mean("whole", name, year) for name in results.plan.networks}
    best = max(stars, key=lambda name: np.nan_to_num(stars[name], nan=-1.0))
    entries.append(
        target(f"A* at 1 year after HWA, best ({best})", ">= 0.98", stars[best], stars[best] >= 0.98, COMMAND)
    )
    for network in results.plan.networks:
        left = results.mean("blocks", network, year, "none")
        shares = {name: (results.mean("blocks", network, year, name) - left) / (1 - left) for name in BLOCKS}
        share = shares.pop("knapsack")
        others = {name: value for name, value in shares.items() if value == value}
        name = f"{network}: share of what HWA leaves open at 1 year that placed blocks recover"
        entries.append(target(name, ">= 0.5", share, share >= 0.5, COMMAND, others=others))
    return [*entries, *_order(results)]


def _order(results: Results) -> list[Target]:
    """Return whether noise at inputs and outputs hurts more than weight noise at equal MVM error."""
    entries = []
    equal = {(row.task, row.non_ideality): row for row in results.sensitivity if row.kind == "equal_error"}
    for network in results.plan.sensitivity.networks:
        rows = [equal.get((network, name)) for name in ("input_noise", "output_noise", "weight_noise")]
        if not all(rows):
            continue
        source, output, weight = (row for row in rows if row is not None)
        for row in (source, output):
            gap = weight.normalised - row.normalised
            name = f"{network}: A* under weight noise beyond that under {row.non_ideality}, MVM error 10 %"
            apart = row.high < weight.low
            entries.append(
                target(name, "> 0, intervals apart", gap, apart, COMMAND, accuracy_bounds=[weight.low, row.high])
            )
    return entries


def figure(results: Results) -> Any:
    """Return A* against time, a panel a network."""
    networks = list(dict.fromkeys(row["network"] for row in results.points))
    drawn, (axes,) = panels(len(networks), width=3.4, height=3.6, sharey=True)
    times = results.plan.times_s
    for ax, network in zip(axes, networks, strict=True):
        for row in results.points:
            if row["network"] == network and row["kind"] != "whole":
                stars = [results.star(row, t_s) for t_s in times]
                style = {"direct": ":", "hwa": "-", "blocks": "--"}[row["kind"]]
                ax.errorbar(
                    times,
                    [chips.mean() for chips in stars],
                    [chips.std(ddof=1) for chips in stars],
                    linestyle=style,
                    marker="o",
                    ms=3,
                    capsize=2,
                    label=name_of(row),
                )
        ax.axhline(0.99, color="#888888", lw=0.8, ls="--")
        ax.set(xscale="log", xlabel="seconds after programming", title=network)
        ax.grid(alpha=0.25)
        ax.legend(frameon=False, fontsize=6, loc="lower left")
    axes[0].set_ylabel("A* (mean, standard deviation over chips)")
    return drawn
