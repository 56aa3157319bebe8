"""The demonstration on the toy task: its summary, table and pictures; the shipped table from the shipped summary."""

import json

import pytest

from agents.train import TrainedAgent
from experiments.demo.figures import draw_network
from experiments.demo.measure import placements, summarise
from experiments.demo.report import COLUMNS, LABELS, shown, text_of, write_results
from experiments.lab.folders import results_of


def test_the_shipped_table_follows_from_the_shipped_summary():
    summary = json.loads((results_of("demo") / "summary.json").read_text())
    assert text_of(summary) == (results_of("demo") / "table.md").read_text()


@pytest.mark.slow
def test_summary_table_and_pictures(toy, tmp_path):
    best = max(toy.space.all_placements(), key=lambda p: toy.evaluate(p).value("mean"))
    rows = placements(toy, TrainedAgent(best, best, 7, tmp_path))
    assert list(rows) == list(LABELS) and rows["agent"] == (best, 7)
    summary = summarise(toy, rows) | {"seconds": 1.0, "peak_memory_gb": 0.5}
    assert summary["optimum"]["objective"] >= summary["greedy"]["objective"] >= 0 == summary["none"]["weights_added"]
    write_results(summary, tmp_path)
    targets = json.loads((tmp_path / "targets.json").read_text())
    assert [entry["met"] for entry in targets[:2]] == [True, True]
    table = shown(summary)
    assert table.row_count == len(LABELS) and len(table.columns) == len(COLUMNS)
    draw_network(tmp_path / "network.png", toy, best)
    assert (tmp_path / "network.png").stat().st_size > 5_000
