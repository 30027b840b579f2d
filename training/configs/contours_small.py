"""Contours in under an hour on a small machine (ours, in no paper).

    python -m training.learn_contours --images BSDS500 --split train --run runs/contours

The network is DeepContour's, as Huang, Loy, Tang 2016 take it; it departs from both for the sake of
time: it is evaluated at many places of a crop at once instead of on patches, with batch
normalisation in place of local response normalisation, by Adam.
"""

from keras_ctxattr.tasks.contours.recipe import ContourRecipe


def recipe() -> ContourRecipe:
    """Gives the recipe."""
    return ContourRecipe()
