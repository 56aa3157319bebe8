"""The surrogate's rank correlation on a shipped table."""

import csv

import numpy as np
import pytest

from experiments.surrogate.measure import DRAWS, rankings
from experiments.surrogate.report import write_results


def test_it_ranks_unseen_placements_and_better_the_more_it_knows():
    rows = rankings("lstm-3")
    assert [row.known for row in rows] == [12] * DRAWS + [25] * DRAWS  # 64 placements: 50 known leave 14 unseen
    few, more = (np.mean([row.tau for row in rows if row.known == known]) for known in (12, 25))
    assert few == pytest.approx(0.58, abs=0.005) and more == pytest.approx(
        0.70, abs=0.005
    )  # results/surrogate/table.md
    assert all(row.regret >= 0 for row in rows) and rows == rankings("lstm-3")


def test_rows_table_and_figure_are_written(tmp_path):
    write_results(rankings("lstm-3"), tmp_path)
    with (tmp_path / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * DRAWS and (tmp_path / "ranking.png").stat().st_size > 5_000
    taus = [float(row["tau"]) for row in rows if row["known"] == "12"]
    assert f"| lstm-3 | 64 | {np.mean(taus):.2f} (" in (tmp_path / "table.md").read_text()
