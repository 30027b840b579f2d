"""From the bytes of an image file to upright RGB pixels, wholly in the TensorFlow graph.

Training, serving and export all decode through `decode_image`, so that one photograph always gives
the same pixels. Nothing here calls back into Python: the functions run inside `tf.data`, in remote
input workers and in SavedModel signatures.
"""

from keras_ctxattr.data.decode.orientation import apply_orientation, read_orientation
from keras_ctxattr.data.decode.pixels import decode_image
from keras_ctxattr.data.decode.reading import read_encoded, read_region

__all__ = ["apply_orientation", "decode_image", "read_encoded", "read_orientation", "read_region"]
