"""Training: ``fit`` (a short loop on Lightning Fabric), checkpoints without pickle, recipe files."""

from molifold.training.arguments import RecipeError
from molifold.training.evaluation import Evaluation
from molifold.training.fit import fit
from molifold.training.pipeline import make_energy, make_ensemble, make_system, train_recipe
from molifold.training.properties import MeanError, PropertyFit, fit_property, mean_error
from molifold.training.recipe import Recipe, read_recipe
from molifold.training.restore import load_flow, load_weights
from molifold.training.result import FitResult
from molifold.training.schedule import constant, cosine
from molifold.training.step import TrainingError

__all__ = [
    "Evaluation",
    "FitResult",
    "MeanError",
    "PropertyFit",
    "Recipe",
    "RecipeError",
    "TrainingError",
    "constant",
    "cosine",
    "fit",
    "fit_property",
    "load_flow",
    "load_weights",
    "make_energy",
    "make_ensemble",
    "make_system",
    "mean_error",
    "read_recipe",
    "train_recipe",
]
