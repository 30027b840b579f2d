"""VOC 2007 by Fast R-CNN from context prediction: table 1 of Doersch, Gupta, Efros 2015.

Convolutions of the AlexNet-style network are transferred, the rest starts from k-means, all layers
are rescaled (Kraehenbuehl et al. 2016); no box regression. Photographs are scaled as Fast R-CNN's
released code does, and trained on for as many steps; neither text gives a number of its own.

    python -m training.finetune_detection --data VOCdevkit/VOC2007 --image-set trainval \
        --test-set test --backbone runs/released/module --recipe detection_voc07_context \
        --proposal-mode quality --run runs/voc07

Published: mAP 51.1 % (rescaled; 51.4 % for the released weights), k-means alone 45.6 % (add
`--no-transfer`), without rescaling 41.4 % (Huang, Loy, Tang 2016, table 1; add `--no-rescale`).
Ours: not run; the pre-training it starts from takes weeks.
To expect: 7.5 hours on two cores (1.5 steps a second).
"""

from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe


def recipe() -> FastRcnnRecipe:
    """Gives the recipe."""
    return FastRcnnRecipe(
        min_side=600,
        max_side=1000,
        hidden_units=4096,
        dropout=0.5,
        optimizer_steps=40_000,
        learning_rate=0.001,
        decay_steps=30_000,
        clip_norm=None,
        warmup=0.0,
        min_score=0.0001,
        checkpoint_minutes=10.0,
    )
