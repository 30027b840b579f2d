"""Context prediction as in the code released with Doersch, Gupta, Efros 2015.

Plain gradient descent: rate 1e-5 on the loss *summed* over about 2 400 pairs, which is .025 on a
mean; no momentum, no decay, up to 1.7 million steps of about 512 patches (four weeks on the GPU of
its day).

    python -m training.pretrain_context --images IMAGENET --run runs/released --recipe released \
        --steps 1700000

Published: 38.4 % on VOC 2007, 39.5 % on ImageNet training images, 40.3 % on validation images.
Not run to its end by us.
"""

from keras_ctxattr.context.recipe import ContextRecipe


def recipe() -> ContextRecipe:
    """Gives the released recipe."""
    return ContextRecipe(
        backbone_options={"num_features": 4096},
        hidden_units=4096,
        optimizer="sgd",
        learning_rate=0.025,
        momentum=0.0,
        warmup=0.0,
        decay="constant",
        evaluate_every=2000,
        checkpoint_minutes=10.0,
    )
