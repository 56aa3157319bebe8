"""The table of seeds: shares of the optimum, counted by hand."""

from experiments.agents_seeds.report import shares, targets, text_of


def row(algorithm, seed, final, best):
    values = {"final_objective": final, "best_objective": best, "optimum": 0.5, "evaluations": 150}
    return {"algorithm": algorithm, "seed": seed, **values}


ROWS = [row("maskable_ppo", 0, 0.499, 0.5), row("maskable_ppo", 1, 0.4, 0.5), row("dqn", 0, 0.25, 0.45)]


def test_shares_and_table():
    assert shares(ROWS, "maskable_ppo", "final").tolist() == [0.998, 0.8]  # 0.499 / 0.5 and 0.4 / 0.5
    assert "| maskable_ppo | 2 | 150 | 0.899 (0.800, 0.998) | 1.000 (1.000, 1.000) | 1 of 2 |" in text_of(ROWS)
    assert "| dqn | 1 | 150 | 0.500 (0.500, 0.500) | 0.900 (0.900, 0.900) | 0 of 1 |" in text_of(ROWS)


def test_targets_say_what_is_not_met():
    first, median = targets(ROWS)
    assert first["met"] and first["measured"] == 0.998
    assert not median["met"]  # 0.899, a median of two
