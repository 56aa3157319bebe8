"""Make the bundled Fashion-MNIST subset from the official files: `python -m experiments.lab.fashion_mini ROOT`.

10,000 training and 2,000 validation images from the official training images, 2,000 test images from the official
test images, class-balanced, drawn by seed 20260101. ROOT is a folder in torchvision's layout.
"""

import sys
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

SEED = 20260101
TARGET = Path(__file__).parents[2] / "cimenv/data/bundled/fashion_mini.npz"


def balanced(labels: np.ndarray, per_class: list[int], generator: np.random.Generator) -> list[np.ndarray]:
    """Draw disjoint index sets with `per_class[i]` images of every class in set i, each set shuffled."""
    sets: list[list[np.ndarray]] = [[] for _ in per_class]
    for label in range(10):
        order = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for chosen, count in zip(sets, per_class, strict=True):
            chosen.append(order[start : start + count])
            start += count
    return [generator.permutation(np.concatenate(chosen)) for chosen in sets]


def main(root: str) -> None:
    """Write the compressed file."""
    generator = np.random.default_rng(SEED)
    train, test = (FashionMNIST(root, train=flag) for flag in (True, False))
    index = dict(zip(("train", "val"), balanced(train.targets.numpy(), [1000, 200], generator), strict=True))
    index["test"] = balanced(test.targets.numpy(), [200], generator)[0]
    arrays: dict[str, np.ndarray] = {"seed": np.array(SEED)}
    for split, chosen in index.items():
        source = test if split == "test" else train
        arrays[f"{split}_images"] = source.data.numpy()[chosen]
        arrays[f"{split}_labels"] = source.targets.numpy()[chosen].astype(np.uint8)
        arrays[f"{split}_index"] = chosen.astype(np.uint16)
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main(sys.argv[1])
