import os
import subprocess
import sys

import numpy as np
import torch

from cimenv.core.seeding import numpy_generator, seed_sequence, torch_generator

# Golden values: were they to move, every stored result would lose its key's meaning.
KEY = ("cimenv", 1)
WORDS = [1480295844, 1264313571, 1334652252]
INTEGERS = [272, 572, 545, 647]
TORCH_INTEGERS = [671, 298, 628, 555]


def first(*parts):
    return tuple(seed_sequence(*parts).generate_state(4))


def test_golden_first_values():
    assert seed_sequence(*KEY).generate_state(3).tolist() == WORDS
    assert numpy_generator(*KEY).integers(0, 1000, 4).tolist() == INTEGERS
    assert torch.randint(0, 1000, (4,), generator=torch_generator(*KEY)).tolist() == TORCH_INTEGERS


def test_every_part_and_its_order_matter():
    keys = [("a", 1), ("a", 2), ("b", 1), (1, "a"), ("a", "1"), ("a", 1, 0), ("a",), ("a1",), (["a", 1],)]
    assert len({first(*key) for key in keys}) == len(keys)


def test_mapping_order_does_not_matter():
    assert first({"x": 1, "y": 2}) == first({"y": 2, "x": 1})


def test_global_generators_play_no_part():
    np.random.seed(0)
    torch.manual_seed(0)
    one = torch.rand(3, generator=torch_generator(*KEY))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(one, torch.rand(3, generator=torch_generator(*KEY)))
    assert torch.equal(before, torch.get_rng_state())


def test_neighbouring_streams_are_uncorrelated():
    draws = torch.stack([torch.randn(20_000, generator=torch_generator("chip", k)) for k in range(6)])
    correlations = torch.corrcoef(draws)[~torch.eye(6, dtype=torch.bool)]
    assert correlations.abs().max() < 5 / 20_000**0.5  # 5 standard errors of r = 0


def test_independent_of_pythonhashseed():
    code = (
        "from cimenv.core.seeding import numpy_generator as g, seed_sequence as s;"
        "print(g('cimenv', 1).integers(0, 1000, 4).tolist(), s({'x': 1, 'y': 2, 'z': 'w'}).generate_state(4).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    here = [int(word) for word in first({"x": 1, "y": 2, "z": "w"})]
    assert out.stdout.strip() == f"{INTEGERS} {here}"
