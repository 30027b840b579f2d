r"""Attributes of 45 x 45 binary contour patches of BSDS500.

python -m training.cluster_features --images BSDS500 --unit contour --size 45 --features daisy \
    --num-patches 100000 --backbone small --run runs/contours
python -m training.learn_attributes --clusters runs/contours --recipe attributes_contours \
    --bits 16 --run runs/contour_attributes

Huang, Loy, Tang 2016, section 5.2: K = 16 or 32, and a million patches. A contour that is
mirrored is another contour: neither command mirrors patches, and the second transforms nothing, so
that a bit may say which way an edge runs.
"""

from keras_ctxattr.attributes import AttributeRecipe


def recipe() -> AttributeRecipe:
    """Gives the recipe for contour patches."""
    return AttributeRecipe(num_attributes=16, transformations=None)
