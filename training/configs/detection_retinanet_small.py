"""RetinaNet in a quarter of an hour on a small machine (ours, in no paper)."""

from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe


def recipe() -> RetinaNetRecipe:
    """Gives the recipe."""
    return RetinaNetRecipe()
