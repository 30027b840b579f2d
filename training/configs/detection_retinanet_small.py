"""RetinaNet in a quarter of an hour on a small machine (ours, in no paper).

    python -m training.finetune_detection --data VOCdevkit --backbone MODULE --method retinanet \
        --run runs/retinanet

Departs from Lin et al. 2017 for the sake of time: photographs of 256 pixels, two
convolutions in a head, levels 3 to 6, Adam.
"""

from keras_ctxattr.tasks.detection.retinanet.recipe import RetinaNetRecipe


def recipe() -> RetinaNetRecipe:
    """Gives the recipe."""
    return RetinaNetRecipe()
