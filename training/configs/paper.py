"""Context prediction as the text of Doersch, Gupta, Efros 2015 describes it.

Differs from the released code: conv2 with 384 filters and stride 2 (figure 3), every layer batch
normalised, the data set's mean subtracted, Gaussian noise in place of dropped colours, colour
before downsampling, momentum .999. The text gives no learning rate; with that momentum a step
counts a thousandfold, so ours is a thousandth of the released one's order.

    python -m training.pretrain_context --images IMAGENET --run runs/paper --recipe paper \
        --steps 1700000

Not run to its end by us.
"""

from keras_ctxattr.context.recipe import ContextRecipe


def recipe() -> ContextRecipe:
    """Gives the paper's recipe."""
    return ContextRecipe(
        backbone_options={"num_features": 4096},
        hidden_units=4096,
        preset="paper",
        optimizer="sgd",
        learning_rate=1e-4,
        momentum=0.999,
        warmup=0.0,
        decay="constant",
        evaluate_every=2000,
        checkpoint_minutes=10.0,
    )
