"""Why the files of a data set could not be read: a damaged file is not a missing one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def what_is_wrong(kind: Any, folder: Path, error: Exception) -> str:
    """Return why a data set could not be read: missing, in part missing, not allowed, or damaged.

    Args:
        kind: its torchvision class, which knows the names of its files.
        folder: the folder of all data sets.
        error: what its reader said.
    """
    expected = [folder / name for name in file_names(kind)]
    told = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    try:
        missing = [path for path in expected if not path.exists() and not any(path.parent.glob(f"{path.name}*"))]
        if len(missing) == len(expected):
            return f"was not found in {folder.resolve()} ({told})"
        for path in expected:
            if not path.exists():
                packed = [near.name for near in path.parent.glob(f"{path.name}.*")] if path.parent.is_dir() else []
                lies = f"{packed[0]} is there, unpacked it is not" if packed else "it is missing"
                return f"is incomplete in {folder.resolve()}: {path.relative_to(folder)}: {lies}"
            path.open("rb").close()
    except OSError as refused:
        return f"cannot be read: {refused.filename}: {refused.strerror}; give this user permission to read it"
    damaged = next((path for path in expected if _damaged(path)), None)
    which = f"{damaged.resolve()} is damaged" if damaged else f"a file in {folder.resolve()} is damaged"
    return f"cannot be read: {which} ({type(error).__name__}: {told}); remove it"


def file_names(kind: Any) -> list[str]:
    """Return the files of a torchvision data set, within the folder of all data sets."""
    if hasattr(kind, "resources"):  # MNIST and what is packed like it
        return [f"{kind.__name__}/raw/{name.removesuffix('.gz')}" for name, _ in kind.resources]
    listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    return [f"{kind.base_folder}/{name}" for name, _ in listed]


def _damaged(path: Path) -> bool:
    """Return whether an IDX file has another length than its header states; other files are not checked here."""
    head = path.read_bytes()[:16]
    if not path.name.endswith("-ubyte"):
        return path.stat().st_size == 0
    dimensions = int(path.name.split("-idx")[1][0])
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(head[at : at + 4], "big") for at in range(4, min(start, 16), 4)]
    return head[:4] != bytes([0, 0, 8, dimensions]) or path.stat().st_size != start + math.prod(sizes)
