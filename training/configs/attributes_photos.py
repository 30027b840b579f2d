"""Attributes of whole photographs, by the network of a run of `training.cluster_features`.

python -m training.cluster_features --images PHOTOS --unit random --size 96 --run runs/clusters
python -m training.learn_attributes --clusters runs/clusters --unit image --run runs/attributes

`ctxattr learn PHOTOS` does the same in one command, and pre-trains the network before.
"""

from keras_ctxattr.attributes import AttributeRecipe
from keras_ctxattr.pipeline.attributes import vector_recipe


def recipe() -> AttributeRecipe:
    """Gives the recipe for vectors of photographs."""
    return vector_recipe()
