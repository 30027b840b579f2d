r"""Contours as Huang, Loy, Tang 2016 train them, in either of their two stages.

python -m training.learn_contours --images BSDS500 --split train --recipe contours_paper \
    --run runs/edges
python -m training.learn_contours --images BSDS500 --split train --recipe contours_paper \
    --start runs/edges --attributes runs/contour_attributes --run runs/contours

Section 5: 64 patches of 45 x 45 pixels a step, momentum .9, a rate of .01 that falls to a tenth
every 40 000 of 150 000 steps; the network is DeepContour's. It was run for a few steps only.
(Attributes of a million patches: `--num-patches 1000000` of
`training.cluster_features`.)
"""

from keras_ctxattr.tasks.contours.recipe import ContourRecipe


def recipe() -> ContourRecipe:
    """Gives the recipe."""
    return ContourRecipe(
        normalize=False,
        local_response=True,
        examples="patches",
        patches_per_batch=64,
        optimizer="sgd",
        learning_rate=0.01,
        drop_steps=40_000,
        optimizer_steps=150_000,
    )
