import numpy as np

from cimenv.analysis.pareto import pareto_front


def test_front_is_what_no_other_point_beats():
    generator = np.random.default_rng(0)
    costs, values = generator.integers(0, 12, 60).astype(float), generator.integers(0, 12, 60).astype(float)
    found = pareto_front(costs, values)
    points = set(zip(costs.tolist(), values.tolist(), strict=True))
    best = {(c, v) for c, v in points if not any((a <= c and b >= v) and (a, b) != (c, v) for a, b in points)}
    assert [(costs[k], values[k]) for k in found] == sorted(best)
