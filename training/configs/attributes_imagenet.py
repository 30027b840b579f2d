r"""Attributes of 96 x 96 patches of ImageNet, for detection: the paper's largest setting.

python -m training.cluster_features --images IMAGENET --unit random --patches-per-image 1 \
    --size 96 --features fisher --backbone alexnet --rounds 3 --run runs/imagenet
python -m training.learn_attributes --clusters runs/imagenet --recipe attributes_imagenet \
    --bits 64 --run runs/imagenet_attributes

Huang, Loy, Tang 2016, section 5.3: first features SIFT and colour Fisher vectors, 30 000 clusters,
96 x 96 patches, batch 256; VOC07 detection 48.6 % mAP with 32 bits and 49.3 % with 64. The paper's
200 000 steps at 256 are some 40 passes over 1.28 million patches. It needs a GPU and days of it;
not run by us.
"""

from keras_ctxattr.attributes import AttributeRecipe


def recipe() -> AttributeRecipe:
    """Gives the recipe with the paper's loss, batch and number of passes."""
    return AttributeRecipe(alpha=1.0, beta=1.0, contrast_size=None, passes=40)
