"""VOC 2007 by R-CNN from context prediction: Doersch, Gupta, Efros 2015, section 4.3 and figure 6.

Settings of Girshick et al. 2014, for a network with 4096 features. Nothing is rescaled, since the
paper rescales none of its R-CNNs.

    python -m training.finetune_detection --data VOCdevkit/VOC2007 --image-set trainval \
        --test-set test --backbone runs/released/module --method rcnn --no-rescale \
        --recipe detection_voc07_rcnn --proposal-mode quality --run runs/voc07_rcnn

Published: mAP 46.3 % pre-trained with colours dropped, 39.8 % from scratch (add `--no-transfer`).
Ours: not run; the pre-training it starts from takes weeks.
To expect: 28 hours on two cores (.7 steps a second), then the SVMs.
"""

from keras_ctxattr.tasks.detection.rcnn.recipe import RcnnRecipe


def recipe() -> RcnnRecipe:
    """Gives the recipe."""
    return RcnnRecipe(
        reduced_channels=1024,
        hidden_units=4096,
        crops_per_batch=128,
        optimizer_steps=70_000,
        decay_steps=20_000,
        learning_rate=0.001,
        fresh_rate=10.0,
        warmup=0.0,
        clip_norm=10.0,  # ours: without it the loss was nan after seven steps
        max_proposals=None,
    )
