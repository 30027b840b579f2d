"""Reusable SavedModels: the features of any image, wherever TensorFlow runs.

A *module* is a folder that needs nothing of this package:

    module/
      saved_model.pb, variables/   for `tf.saved_model.load`, `keras.layers.TFSMLayer`, `hub.load`
      module.json                  what it computes, what it learnt from, and its versions
      network.json                 its layers, for who trains on from them (`load_network`)
      model.onnx                   the same for ONNX runtimes, where `export_onnx` was asked for it

`module(images)` takes float32 RGB `[batch, height, width, 3]` in [0, 1] and gives float32
`[batch, num_features]`; all preprocessing is inside and deterministic.
"""

from keras_ctxattr.export.copying import copy_module, export_version, version_folder
from keras_ctxattr.export.module import PHOTO_PIXELS, FeatureModule
from keras_ctxattr.export.network import load_network
from keras_ctxattr.export.onnx_file import check_onnx_packages, export_onnx
from keras_ctxattr.export.writing import (
    check_target,
    export_module,
    is_module,
    locate_module,
    read_module,
)

__all__ = [
    "PHOTO_PIXELS",
    "FeatureModule",
    "check_onnx_packages",
    "check_target",
    "copy_module",
    "export_module",
    "export_onnx",
    "export_version",
    "is_module",
    "load_network",
    "locate_module",
    "read_module",
    "version_folder",
]
