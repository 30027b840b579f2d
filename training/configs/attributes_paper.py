"""Attributes with the loss of Huang, Loy, Tang 2016: all terms, the hardest of a whole batch.

python -m training.learn_attributes --clusters runs/clusters --recipe attributes_paper --run runs/a

Optimiser, passes and joint learning rates are ours.
"""

from keras_ctxattr.attributes import AttributeRecipe


def recipe() -> AttributeRecipe:
    """Gives the recipe with the paper's loss."""
    return AttributeRecipe(alpha=1.0, beta=1.0, contrast_size=None)
