r"""Which kind a contour is, learnt after `contours_small` in 20 minutes (ours, in no paper).

python -m training.learn_contours --images BSDS500 --split train --start runs/edges \
    --attributes runs/contour_attributes --run runs/contours
"""

from keras_ctxattr.tasks.contours.recipe import ContourRecipe


def recipe() -> ContourRecipe:
    """Gives the recipe."""
    return ContourRecipe(optimizer_steps=3000, learning_rate=5e-4)
