"""R-CNN with the network of Doersch et al. on a small machine (ours, in no paper).

    python -m training.finetune_detection --data VOCdevkit --backbone MODULE --method rcnn \
        --run runs/rcnn

Departs from the papers for the sake of time: 300 proposals of a photograph, 256 and 512 units in
conv6b and fc7, 32 crops a step, one rate for all layers, gradients clipped.
"""

from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe


def recipe() -> RcnnRecipe:
    """Gives the recipe."""
    return RcnnRecipe()
