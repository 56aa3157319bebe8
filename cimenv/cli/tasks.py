"""`cimenv tasks` and `cimenv show`: what there is; nothing is trained."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from cimenv.cli.arguments import AsJson, Overrides, TaskName
from cimenv.cli.output import print_json, print_tables, table_of

if TYPE_CHECKING:
    from cimenv.crossbar import MappedNetwork
    from cimenv.tasks import PlacementSpace

WIDTH = 60  # YAML breaks a line after the word that crosses it: this stays within 80 columns


def tasks(as_json: AsJson = False) -> None:
    """List the named tasks.

    A name serves wherever a command asks for a TASK, and in a YAML file after
    `extends:`.
    """
    from cimenv.tasks.named import named_tasks

    known = named_tasks()
    if as_json:
        print_json(known)
        return
    table = table_of("task", "what it is")
    for name, description in known.items():
        table.add_row(name, description)
    print_tables(table)


def show(task: TaskName, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show the sites, options and fields of a task.

    The options' numbers are those of --placement; their costs are shares of the
    whole backbone's. `masked` options are dearer than keeping the layer digital,
    or excluded by `candidates`. The fields are printed as YAML, ready for a task
    file of your own. Trains nothing.

    \b
    Example:
      cimenv show toy-4site --set crossbar.device.sigma=0.3
    """
    from cimenv.core.yaml_text import written
    from cimenv.tasks import PlacementSpace, load_task

    loaded = load_task(task, overrides)
    space = PlacementSpace(loaded)
    if as_json:
        mapping = _mapping(loaded.mapping())
        fields = loaded.model_dump(mode="json")
        print_json({"key": loaded.key, "task": fields, "mapping": mapping, "sites": _sites(space)})
        return
    print_tables(str(loaded.mapping()))
    _print_sites(space)
    fields = loaded.model_dump(mode="json")
    print(written(fields, flow=None, width=WIDTH), end="")


def _mapping(network: MappedNetwork) -> dict[str, object]:
    """Return what of the backbone lies on the crossbar, and what stays digital and why, for programs."""
    report = network.report
    return {
        "weight_share": report.weight_share,
        "mac_share": report.mac_share,
        "macs_between_activations": report.between_activations,
        "digital": [asdict(part) for part in report.unmapped],
        "notes": list(report.notes),
    }


def _sites(space: PlacementSpace) -> list[dict[str, object]]:
    """Return the sites with what each option adds there: what the tables show, for programs."""
    return [
        {
            "name": site.name,
            "type": site.type,
            "weights": site.weights,
            "macs": site.macs,
            "options": [
                {
                    "index": o,
                    "label": option.label,
                    "cost_shares": dict(zip(space.term_names, space.terms[s, o].tolist(), strict=True)),
                    "allowed": bool(space.candidates[s, o]),
                }
                for o, option in enumerate(space.options.per_site[s], 1)
            ],
        }
        for s, site in enumerate(space.sites)
    ]


def _print_sites(space: PlacementSpace) -> None:
    sites = table_of("site", "type", "weights", "MACs", "share of weights", right=("weights", "MACs"))
    options = table_of(
        "site", "option", "block", "+weights", "+MACs", "+energy", "", right=("+weights", "+MACs", "+energy")
    )
    for s, site in enumerate(space.sites):
        share = f"{site.weights / space.backbone.weights:.1%}"
        sites.add_row(site.name, site.type, f"{site.weights:,}", f"{site.macs:,}", share)
        for o, option in enumerate(space.options.per_site[s], 1):
            added = [f"{space.terms[s, o, k]:.2%}" for k in range(3)]
            note = "" if space.candidates[s, o] else "masked"
            options.add_row(site.name if o == 1 else "", str(o), option.label, *added, note)
    count = math.prod(int(row.sum()) for row in space.candidates)
    budget = ", before the budget" if space.task.budget else ""
    print_tables(sites, options, f"{count:,} placements{budget}; every field:\n", highlight=False)
