"""VOC 2007 by Fast R-CNN from attributes: table 1 of Huang, Loy, Tang 2016.

Conv1 to conv5 of the network that learnt attributes are transferred, the rest starts Gaussian; no
rescaling, no box regression.

    python -m training.finetune_detection --data VOCdevkit/VOC2007 --image-set trainval \
        --test-set test --backbone runs/attributes/module --recipe detection_voc07_attributes \
        --no-rescale --proposal-mode quality --run runs/voc07-attributes

Published: mAP 48.6 % (32 bits), 49.3 % (64 bits); 56.5 % from labels of ImageNet. The text adds
that photographs are of 227x227 pixels; a Fast R-CNN of that size would see most objects on a cell
or two of the map, so the released code's scale is taken. Ours: not run.
To expect: as long as `detection_voc07_context`, 7.5 hours on two cores.
"""

import dataclasses

from keras_ctxattr.tasks.detection.fast_rcnn.recipe import FastRcnnRecipe
from training.configs import detection_voc07_context


def recipe() -> FastRcnnRecipe:
    """Gives the recipe."""
    return dataclasses.replace(detection_voc07_context.recipe())
