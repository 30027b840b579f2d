"""Recipes, one file each: what it reproduces, the command, the time, the result.

Every module has a function `recipe()`. Add a file here and `--recipe NAME` finds it.
"""

import importlib
import pkgutil
from types import ModuleType


def recipe_names() -> list[str]:
    """Lists the recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_recipe_module(name: str) -> ModuleType:
    """Gives a recipe's module.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in recipe_names():
        raise ValueError(f"`--recipe` must be one of {', '.join(recipe_names())}. Received: {name}")
    return importlib.import_module(f"{__name__}.{name}")
