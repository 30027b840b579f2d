r"""Attributes of 32 x 32 patches of STL-10's unlabelled images, for its classification protocol.

python -m training.cluster_features --images tfds:stl10:unlabelled --unit random \
    --patches-per-image 1 --size 32 --min-pixels 9216 --max-pixels 9216 --rounds 3 --run runs/stl10
python -m training.learn_attributes --clusters runs/stl10 --recipe attributes_stl10 --run runs/a

Huang, Loy, Tang 2016, section 5.1. The network is `small` in place of the paper's 92c5-256c5-512c5-
1024f. One patch of each of the 100 000 images; on two cores twice what CIFAR-10 takes (33 minutes
for 50 000 patches, measured). Not run on the whole of STL-10 by us: no figures.
"""

from keras_ctxattr.attributes import AttributeRecipe


def recipe() -> AttributeRecipe:
    """Gives the recipe, that of small images."""
    return AttributeRecipe()
