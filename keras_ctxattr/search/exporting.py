"""Vectors and codes of an index in files that other tools read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_ctxattr.runs import write_atomically
from keras_ctxattr.search.images import ImageIndex
from keras_ctxattr.search.records import IndexedImage

COLUMNS = ("id", "name", "path", "offset", "length", "height", "width", "digest")

_CHUNK = 8192


def export_vectors(index: ImageIndex, folder: str | Path, file_format: str = "npy") -> list[str]:
    """Writes vectors, codes and names of all images, in one order, whole or not at all.

    - `"npy"`: `vectors.npy`, float32 `[n, num_features]` of unit length; `codes.npy`, uint8
      `[n, num_attributes / 8]`; `images.csv`, a line an image.
    - `"parquet"`: `images.parquet`, a row an image, with its `code` (binary) and `vector` (a list
      of float32).
    - `"faiss"`: `vectors.faiss`, an `IndexFlatIP`; `codes.faiss`, an `IndexBinaryFlat`;
      `images.csv`.

    An index without vectors gives codes alone.

    Args:
        index: The index.
        folder: New or empty.
        file_format: One of these.

    Returns:
        Names of the files.

    Raises:
        ValueError: If the format is unknown, the folder holds something, or pyarrow is missing.
    """
    if file_format not in WRITERS:
        raise ValueError(f"`format` must be one of {tuple(WRITERS)}. Received: {file_format!r}")
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(
            f"Vectors must be written to a new or empty folder. Received: {folder}, which holds "
            "something else"
        )
    num_bytes = len(index) * (4 * int(index.store.about["num_features"]) + index.num_attributes)
    with write_atomically(target, num_bytes=num_bytes) as partial:
        partial.mkdir()
        WRITERS[file_format](index, partial)
        return sorted(path.name for path in partial.iterdir())


def _write_npy(index: ImageIndex, folder: Path) -> None:
    np.save(folder / "codes.npy", index.codes)
    _write_table(index, folder / "images.csv")
    if not index.has_vectors:
        return
    shape = (len(index), int(index.store.about["num_features"]))
    if not len(index):  # nothing can be mapped
        np.save(folder / "vectors.npy", np.empty(shape, np.float32))
        return
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.dtype(np.float32), shape)
    for part in _parts(index):
        vectors[part] = _unit_vectors(index, part)
    vectors.flush()


def _write_faiss(index: ImageIndex, folder: Path) -> None:
    import faiss

    codes = faiss.IndexBinaryFlat(index.num_attributes)
    codes.add(np.ascontiguousarray(index.codes))
    faiss.write_index_binary(codes, str(folder / "codes.faiss"))
    _write_table(index, folder / "images.csv")
    if not index.has_vectors:
        return
    vectors = faiss.IndexFlatIP(int(index.store.about["num_features"]))
    for part in _parts(index):
        vectors.add(_unit_vectors(index, part))
    faiss.write_index(vectors, str(folder / "vectors.faiss"))


def _write_parquet(index: ImageIndex, folder: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(
            f"`pyarrow` must be installed for parquet files: pip install pyarrow. Received: {error}"
        ) from error
    kinds = dict.fromkeys(("name", "path", "digest"), pa.string())
    fields = [(name, kinds.get(name, pa.int64())) for name in COLUMNS]
    fields.append(("code", pa.binary(index.num_attributes // 8)))
    if index.has_vectors:
        fields.append(("vector", pa.list_(pa.float32(), int(index.store.about["num_features"]))))
    schema = pa.schema(fields)
    with pq.ParquetWriter(str(folder / "images.parquet"), schema) as writer:
        for part in _parts(index):
            columns = dict(zip(COLUMNS, zip(*_lines(index, part), strict=True), strict=True))
            arrays = [
                pa.array([_valid(value) for value in columns[name]], schema.field(name).type)
                for name in COLUMNS
            ]
            codes = [code.tobytes() for code in index.codes[part]]
            arrays.append(pa.array(codes, schema.field("code").type))
            if index.has_vectors:
                numbers = pa.array(_unit_vectors(index, part).ravel())
                kind = schema.field("vector").type
                arrays.append(pa.FixedSizeListArray.from_arrays(numbers, type=kind))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


WRITERS: dict[str, Callable[[ImageIndex, Path], None]] = {
    "npy": _write_npy,
    "parquet": _write_parquet,
    "faiss": _write_faiss,
}


def _valid(value: int | str) -> int | str:
    """Gives a text that is valid Unicode: bytes that are none are escaped."""
    if isinstance(value, int):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unit_vectors(index: ImageIndex, part: slice) -> np.ndarray:
    """Gives vectors of unit length to the last digit, so that none is nearer than itself."""
    vectors = index.vectors(part)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _write_table(index: ImageIndex, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for part in _parts(index):
            writer.writerows(_lines(index, part))


def _lines(index: ImageIndex, part: slice) -> Iterator[tuple[int | str, ...]]:
    """Gives the values of `COLUMNS` of some rows."""
    ids = index.ids[part].tolist()
    images = index.store.images(ids)
    for image_id in ids:
        image = images.get(image_id)
        yield (image_id, "", "", 0, 0, 0, 0, "") if image is None else _line(image)


def _line(image: IndexedImage) -> tuple[int | str, ...]:
    return (
        image.image_id,
        image.name,
        image.place.path,
        image.place.offset,
        image.place.length,
        image.height,
        image.width,
        image.digest,
    )


def _parts(index: ImageIndex) -> Iterator[slice]:
    for start in range(0, len(index), _CHUNK):
        yield slice(start, min(start + _CHUNK, len(index)))
