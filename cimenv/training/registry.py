"""Recipes by name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cimenv.core.errors import known_name
from cimenv.training.a_trice import ATrice
from cimenv.training.adversarial import Adversarial
from cimenv.training.gaussian import GaussianNoise
from cimenv.training.hwa import HardwareAware
from cimenv.training.lipschitz import Lipschitz, LipschitzNoise
from cimenv.training.noise import Noise
from cimenv.training.recipe import Recipe
from cimenv.training.sam import Sam
from cimenv.training.standard import Standard
from cimenv.training.trice import Trice

RECIPES: dict[str, type[Recipe]] = {
    "standard": Standard,
    "noise": Noise,
    "lipschitz": Lipschitz,
    "lipschitz_noise": LipschitzNoise,
    "gaussian": GaussianNoise,
    "trice": Trice,
    "a_trice": ATrice,
    "adversarial": Adversarial,
    "sam": Sam,
    "hwa": HardwareAware,
}
RecipeModel = (
    Standard | Noise | Lipschitz | LipschitzNoise | GaussianNoise | Trice | ATrice | Adversarial | Sam | HardwareAware
)
AnyRecipe = Annotated[RecipeModel, Field(discriminator="name")]


def recipe_named(name: str, **settings: Any) -> RecipeModel:
    """Return a recipe by name with its default settings, or with some of them replaced.

    Raises:
        UnknownNameError: no such recipe.
    """
    return RECIPES[known_name("recipe", name, RECIPES)](**settings)  # type: ignore[return-value]
