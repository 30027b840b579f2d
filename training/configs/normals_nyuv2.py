r"""Surface normals on NYU Depth v2, as far as Doersch, Gupta, Efros 2015 state it (section 4.4).

python -m training.finetune_normals --frames nyu_depth_v2_labeled.mat --splits splits.mat \
    --backbone MODULE --run runs/normals_nyuv2
python -m evaluation.normals --run runs/normals_nyuv2 --out results/normals_nyuv2

795 frames to learn from, 654 to score; their mean error is 33.2 degrees. The paper says no more
than that it follows Wang, Fouhey, Gupta 2015, who classify over a code book of normals and train on
many frames more. Head, loss and optimiser here are ours. It was run for 16 steps on other frames in
NYU's format, a second each on two busy cores: five hours, and ten minutes to read the frames.
"""

from keras_ctxattr.tasks.normals.recipe import NormalsRecipe


def recipe() -> NormalsRecipe:
    """Gives the recipe."""
    return NormalsRecipe(
        longer_side=416, head_widths=(512, 256), frames_per_batch=8, optimizer_steps=20_000
    )
