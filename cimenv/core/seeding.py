"""Seeds are a pure function of what is computed: a stable hash, never a global generator."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from cimenv.core.config import canonical


def seed_sequence(*parts: object) -> np.random.SeedSequence:
    """Return the SeedSequence of the canonical JSON of `parts` (strings, numbers, lists, dicts)."""
    entropy = hashlib.sha256(canonical(list(parts)).encode()).digest()
    return np.random.SeedSequence(int.from_bytes(entropy[:16], "little"))


def numpy_generator(*parts: object) -> np.random.Generator:
    """Return a numpy generator seeded by `parts`."""
    return np.random.default_rng(seed_sequence(*parts))


def torch_generator(*parts: object) -> torch.Generator:
    """Return a CPU torch generator seeded by `parts`."""
    words = seed_sequence(*parts).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) | (int(words[1] & 0x7FFFFFFF) << 32))
