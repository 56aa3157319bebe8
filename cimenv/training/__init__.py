"""Floor 4: recipes that train backbones, and the fitting of the bank and of tuned blocks."""

from cimenv.training.course import TrainedBackbone
from cimenv.training.fitting import BankRecipe, TunedRecipe, fit_bank, fit_placement
from cimenv.training.recipe import Recipe
from cimenv.training.registry import RECIPES, AnyRecipe, recipe_named

__all__ = [
    "RECIPES",
    "AnyRecipe",
    "BankRecipe",
    "Recipe",
    "TrainedBackbone",
    "TunedRecipe",
    "fit_bank",
    "fit_placement",
    "recipe_named",
]
