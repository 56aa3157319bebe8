"""Recipes by name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cimenv.core.errors import UnknownNameError
from cimenv.training.lipschitz import Lipschitz, LipschitzNoise
from cimenv.training.noise import Noise
from cimenv.training.recipe import Recipe
from cimenv.training.standard import Standard

RECIPES: dict[str, type[Recipe]] = {
    "standard": Standard,
    "noise": Noise,
    "lipschitz": Lipschitz,
    "lipschitz_noise": LipschitzNoise,
}
AnyRecipe = Annotated[Standard | Noise | Lipschitz | LipschitzNoise, Field(discriminator="name")]


def recipe_named(name: str, **settings: Any) -> Standard | Noise | Lipschitz | LipschitzNoise:
    """Return a recipe by name with its default settings, or with some of them replaced.

    Raises:
        UnknownNameError: no such recipe.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name](**settings)  # type: ignore[return-value]
