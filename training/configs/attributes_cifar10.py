"""Attributes of 32 x 32 images, from the clusters of a run of `training.cluster_features`.

python -m training.cluster_features --images CIFAR10 --features hog --rounds 2 --run runs/clusters
python -m training.learn_attributes --clusters runs/clusters --bits 64 --run runs/attributes
"""

from keras_ctxattr.attributes import AttributeRecipe


def recipe() -> AttributeRecipe:
    """Gives the recipe for small images."""
    return AttributeRecipe()
