"""Records and their bytes: one safetensors blob that names its key and checks itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from cimenv.core.config import canonical, digest

Array = npt.NDArray[Any]
PREFIX = 8  # bytes of a safetensors blob that tell the length of its header


@dataclass(frozen=True)
class Record:
    """What a key stands for: JSON values and arrays."""

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def to_bytes(self, key: str) -> bytes:
        """Serialise as one safetensors blob that also holds its key and a checksum of everything in it."""
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays.items()}
        said = {"meta": canonical(self.meta), "key": key}
        checksum = _checksum(*_parts(save_tensors(arrays, metadata=said)))
        return save_tensors(arrays, metadata={**said, "checksum": checksum})

    @staticmethod
    def from_bytes(data: bytes) -> Record:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is not what that wrote.
        """
        try:
            return Record(json.loads(_parts(data)[0]["__metadata__"]["meta"]), load_tensors(data))
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"no record: {error}") from None


def key_of(data: bytes) -> str | None:
    """Return the key of a blob that is whole, else None; blobs of older versions have no checksum, and are believed."""
    try:
        header, body = _parts(data)
        said = dict(header["__metadata__"])
        checksum = said.get("checksum")
        if checksum is not None and checksum != _checksum(header, body):
            return None
        Record.from_bytes(data)
        return str(said["key"])
    except (ValueError, TypeError, KeyError):
        return None


def kind_of(key: str) -> str:
    """Return the stage that a key names, such as `backbone` or `evaluation`; `other` where it names none."""
    try:
        return str(json.loads(key)["stage"])
    except (ValueError, TypeError, KeyError):
        return "other"


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the body of a safetensors blob."""
    length = int.from_bytes(data[:PREFIX], "little")
    header = json.loads(data[PREFIX : PREFIX + length])
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise ValueError("no header with metadata")
    return header, data[PREFIX + length :]


def _checksum(header: dict[str, Any], body: bytes) -> str:
    """Return a checksum that does not know the order in which safetensors writes metadata."""
    said = {name: value for name, value in header["__metadata__"].items() if name != "checksum"}
    text = canonical({**header, "__metadata__": said})
    return digest(text.encode() + body)
