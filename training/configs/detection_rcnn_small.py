"""R-CNN with the network of Doersch et al. on a small machine (ours, in no paper)."""

from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe


def recipe() -> RcnnRecipe:
    """Gives the recipe."""
    return RcnnRecipe()
