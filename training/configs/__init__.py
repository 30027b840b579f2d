"""Recipes, one file each: what it reproduces, the command, the time, the result.

Every module has a function `recipe()`. Add a file here and `--recipe NAME` finds it.
"""

import importlib
import pkgutil
from typing import Any, TypeVar

Recipe = TypeVar("Recipe")


def recipe_names(kind: type | None = None) -> list[str]:
    """Lists the recipes; with a kind, those that give such a one."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if kind is None or isinstance(_read(name), kind)]


def load_recipe(name: str, kind: type[Recipe]) -> Recipe:
    """Gives a recipe.

    Raises:
        ValueError: if there is none of that name and kind.
    """
    found = _read(name) if name in recipe_names() else None
    if not isinstance(found, kind):
        raise ValueError(
            f"`--recipe` must be one of {', '.join(recipe_names(kind))}. Received: {name}"
        )
    return found


def _read(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}").recipe()
