"""Surface normals in minutes on a small machine (ours, in no paper).

    python -m training.finetune_normals --frames FRAMES --backbone MODULE --run runs/normals

Photographs of 320 x 240 pixels, two convolutions on the map of conv5, the cosine as loss, Adam.
"""

from keras_ctxattr.tasks.normals.recipe import NormalsRecipe


def recipe() -> NormalsRecipe:
    """Gives the recipe."""
    return NormalsRecipe()
