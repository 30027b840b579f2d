"""Context prediction in minutes on a small machine (ours, in no paper).

AlexNet of the released code with 1024 instead of 4096 units in fc6 to fc8, released sampling and
processing, SGD with momentum and a rate that follows a half cosine to 0 at the end of the budget.

    python -m training.pretrain_context --images PHOTOS --run runs/photos --minutes 15

Result on 600 photographs: see "Results" in the README.
"""

from keras_ctxattr.context.recipe import ContextRecipe


def recipe() -> ContextRecipe:
    """Gives the defaults of `ContextRecipe`."""
    return ContextRecipe()
