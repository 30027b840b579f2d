"""R-CNN as in Doersch, Gupta, Efros 2015, section 4.3, with the settings of Girshick et al. 2014.

For VOC 2007 and a network with 4096 features; give `--no-rescale`, since the paper rescales none of
its R-CNNs. mAP in the paper: 46.3 % pre-trained with colour dropping, 39.8 % from scratch.
"""

from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe


def recipe() -> RcnnRecipe:
    """Gives the recipe."""
    return RcnnRecipe(
        reduced_channels=1024,
        hidden_units=4096,
        crops_per_batch=128,
        optimizer_steps=70_000,
        decay_steps=20_000,
        learning_rate=0.001,
        fresh_rate=10.0,
        warmup=0.0,
        clip_norm=None,
        max_proposals=None,
    )
