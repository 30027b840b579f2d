"""Fast R-CNN in minutes on a small machine (ours, in no paper).

    python -m training.finetune_detection --data VOCdevkit --backbone MODULE --run runs/detect

Departs from the papers for the sake of time: photographs of 400 pixels, 512 units in fc6 and fc7,
a rate that rises first and then follows half a cosine, gradients clipped.
"""

from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe


def recipe() -> FastRcnnRecipe:
    """Gives the recipe."""
    return FastRcnnRecipe()
