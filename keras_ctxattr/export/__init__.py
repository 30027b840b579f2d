"""Reusable SavedModels: the features of any image, wherever TensorFlow runs.

A *module* is a folder that needs nothing of this package:

    module/
      saved_model.pb, variables/   for `tf.saved_model.load`, `keras.layers.TFSMLayer`, `hub.load`
      module.json                  what it computes, what it learnt from, and its versions

`module(images)` takes float32 RGB `[batch, height, width, 3]` in [0, 1] and gives float32
`[batch, num_features]`; all preprocessing is inside and deterministic.
"""

from keras_ctxattr.export.module import PHOTO_PIXELS, FeatureModule
from keras_ctxattr.export.writing import export_module, read_module

__all__ = ["PHOTO_PIXELS", "FeatureModule", "export_module", "read_module"]
