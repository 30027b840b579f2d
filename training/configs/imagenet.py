"""Context prediction on a million photographs with a GPU, our choice of optimiser.

The released network and sampling, in mixed precision, SGD with momentum and half a cosine.

    python -m training.pretrain_context --images IMAGENET --run runs/imagenet --recipe imagenet \
        --steps 400000

Not run to its end by us.
"""

from keras_ctxattr.context.recipe import ContextRecipe


def recipe() -> ContextRecipe:
    """Gives the recipe for a large collection."""
    return ContextRecipe(
        backbone_options={"num_features": 4096},
        hidden_units=4096,
        learning_rate=0.05,
        warmup=0.01,
        evaluate_every=2000,
        checkpoint_minutes=10.0,
    )
