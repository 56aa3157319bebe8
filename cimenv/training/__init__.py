"""Floor 4: recipes that train backbones, and the fitting of the bank and of tuned blocks."""

from cimenv.training.fitting import BankRecipe, TunedRecipe, fit_bank, fit_placement
from cimenv.training.recipe import RECIPES, Recipe, recipe_named
from cimenv.training.training_run import TrainedBackbone

__all__ = [
    "RECIPES",
    "BankRecipe",
    "Recipe",
    "TrainedBackbone",
    "TunedRecipe",
    "fit_bank",
    "fit_placement",
    "recipe_named",
]
