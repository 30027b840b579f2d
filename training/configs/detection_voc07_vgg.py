"""VOC 2007 by Fast R-CNN with VGG-16: table 1 of Doersch, Gupta, Efros 2015, "VGG-Ours-rescale".

As `detection_voc07_context`, from a run of the recipe `vgg`; regions have 7x7 bins, as VGG-16's
pool5 has.

    python -m training.finetune_detection --data VOCdevkit/VOC2007 --image-set trainval \
        --test-set test --backbone runs/vgg/module --recipe detection_voc07_vgg \
        --proposal-mode quality --run runs/voc07-vgg

Published: mAP 61.7 %; k-means alone 42.4 %. Ours: not run.
To expect: 28 hours on two cores (.4 steps a second).
"""

import dataclasses

from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from training.configs import detection_voc07_context


def recipe() -> FastRcnnRecipe:
    """Gives the recipe."""
    return dataclasses.replace(detection_voc07_context.recipe(), region_size=7)
