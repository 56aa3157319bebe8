"""Recipe `standard`: plain cross-entropy, the reference for every accuracy."""

from __future__ import annotations

from typing import Literal

from cimenv.training.recipe import Recipe


class Standard(Recipe):
    """Plain training."""

    name: Literal["standard"] = "standard"
