"""Context prediction with the convolutions of VGG-16 (Doersch, Gupta, Efros 2015, section 4.3).

Sampling and processing as released; 128 patches a step, since the network takes 20 times the work.

    python -m training.pretrain_context --images IMAGENET --run runs/vgg --recipe vgg \
        --steps 1000000

Published with it: 61.7 % mAP in detection on VOC 2007 after rescaling. Not run to its end by us.
"""

from keras_ctxattr.context.recipe import ContextRecipe
from keras_ctxattr.data.grids import GridConfig


def recipe() -> ContextRecipe:
    """Gives the VGG recipe."""
    return ContextRecipe(
        backbone="vgg16",
        backbone_options={"num_features": 4096},
        hidden_units=4096,
        grids=GridConfig(images_per_batch=4, patches_per_batch=128, pairs_per_batch=600),
        learning_rate=0.01,
        evaluate_every=2000,
        checkpoint_minutes=10.0,
    )
