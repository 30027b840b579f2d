"""The bytes of one image from a file or from a range of a container, in graph."""

import os

import tensorflow as tf


@tf.autograph.experimental.do_not_convert
def read_encoded(
    path: tf.Tensor, offset: tf.Tensor, length: tf.Tensor, total: tf.Tensor
) -> tf.Tensor:
    """Gives the bytes of one image: a whole file, or a range of a container such as a `.tar`.

    A range costs about half a millisecond here; `encoded_reader` reads the ranges of a few known
    containers ten times faster.

    Args:
        path: String scalar, the file.
        offset: Int64 scalar, the first byte.
        length: Int64 scalar >= 1, the number of bytes.
        total: Int64 scalar, the size of the file in bytes; it must still have that size.

    Returns:
        String scalar.
    """
    offset, length, total = (tf.cast(value, tf.int64) for value in (offset, length, total))

    def read_range() -> tf.Tensor:
        # A one-record file: what lies before the range is its header, what lies behind it its
        # footer.
        records = tf.data.FixedLengthRecordDataset(
            path, record_bytes=length, header_bytes=offset, footer_bytes=total - offset - length
        )
        return records.get_single_element()

    is_whole = (offset == 0) & (length == total)
    return tf.cond(is_whole, lambda: tf.io.read_file(path), read_range)


def read_region(
    path: str | os.PathLike[str], total: int, offset: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """Gives a range of bytes of one container whose name is known when the graph is built.

    The container is mapped into memory for the moment of the call only, so memory stays flat
    however large it is.

    Args:
        path: The container on a local disk.
        total: Its size in bytes.
        offset: Int64 scalar, the first byte.
        length: Int64 scalar >= 1, the number of bytes.

    Returns:
        String scalar.
    """
    region = _map_file(os.fsencode(path), total)
    # TensorFlow has no op from bytes to a string, but a serialised uint8 tensor ends with its bytes
    # as they are.
    message = tf.io.serialize_tensor(tf.slice(region, [offset], [length]))
    start = tf.cast(tf.strings.length(message), tf.int64) - length
    return tf.strings.substr(message, start, length)


def _map_file(path: bytes, total: int) -> tf.Tensor:
    """Gives all bytes of a file, uint8 `[total]`, mapped while a graph runs instead of read."""
    if tf.executing_eagerly():
        return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[total], memory_region_name=path)
    # The runtime would evaluate this op when it prepares the graph, in vain, and copy the whole
    # file: it takes the op for a constant to fold. It leaves alone what has a scoped allocator;
    # an empty list of those changes nothing else.
    attributes = {
        "dtype": tf.compat.v1.AttrValue(type=tf.uint8.as_datatype_enum),
        "shape": tf.compat.v1.AttrValue(shape=tf.TensorShape([total]).as_proto()),
        "memory_region_name": tf.compat.v1.AttrValue(s=path),
        "_scoped_allocator": tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue()),
    }
    graph = tf.compat.v1.get_default_graph()
    return graph.create_op("ImmutableConst", [], [tf.uint8], attrs=attributes).outputs[0]
