"""Whether the files of a collection are still what the scan found."""

import hashlib
import os
from collections.abc import Iterator

import numpy as np

from keras_ctxattr.data.manifest.table import Manifest


def find_change(manifest: Manifest, *, since: float = 0.0) -> str | None:
    """Looks for an image that is no longer as it was at the scan.

    It first asks the file system alone. Only files that changed after `since` are then read.

    Args:
        manifest: Usable rows.
        since: When the scan ended, seconds since 1970; 0 reads all files.

    Returns:
        The first image that changed and how, a clause; None if none did.

    Example:
        >>> import pathlib, tempfile, numpy as np, cv2
        >>> from keras_ctxattr.data.manifest import find_change, scan_images
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> _ = cv2.imwrite(str(path), np.zeros([20, 30], np.uint8))
        >>> manifest = scan_images(path)
        >>> find_change(manifest) is None
        True
        >>> path.unlink()
        >>> find_change(manifest).startswith("grey.png is gone")
        True
    """
    newer = []
    for row, key, path in _first_rows(manifest):
        try:
            status = os.stat(path)  # noqa: PTH116 - a name need not be UTF-8
        except OSError as error:
            how = "gone" if isinstance(error, FileNotFoundError) else f"closed: {error.strerror}"
            return f"{key} is {how} ({path})"
        if status.st_size != manifest.totals[row]:
            return f"{key} has {status.st_size} bytes, {manifest.totals[row]} before ({path})"
        if status.st_ctime >= since:
            newer.append(path)
    changed = (_find_change_inside(manifest, path) for path in newer)
    return next(filter(None, changed), None)


def _first_rows(manifest: Manifest) -> Iterator[tuple[int, str, str]]:
    """Gives (row, key, path) for every file, with the first row of those in one container."""
    _, rows = np.unique(manifest.paths.astype(str), return_index=True)
    for row in np.sort(rows):
        yield int(row), manifest.keys[row], manifest.paths[row]


def _find_change_inside(manifest: Manifest, path: str) -> str | None:
    """Compares the bytes of all images in one file with the digests of the scan."""
    try:
        with open(os.fsencode(path), "rb") as stream:  # noqa: PTH123 - a name need not be UTF-8
            for row in np.flatnonzero(manifest.paths == path):
                # A converted image is named by the digest of what it was made from.
                if manifest.digests[row] in path:
                    continue
                stream.seek(int(manifest.offsets[row]))
                encoded = stream.read(int(manifest.lengths[row]))
                if hashlib.blake2b(encoded, digest_size=16).hexdigest() != manifest.digests[row]:
                    return f"{manifest.keys[row]} has other content ({path})"
    except OSError as error:
        return f"{path} is closed: {error.strerror}"
    return None
