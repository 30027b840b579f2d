"""What the start of a new run leaves in its folder before there is anything to lose."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from keras_ctxattr.runs.writing import remove


class Traces:
    """Everything that a start has written, so that one that fails takes it away again.

    Args:
        folder: The run folder, new or empty before this start.
        missing: The folders that were not there before, the innermost first.
    """

    def __init__(self, folder: Path, missing: Iterable[Path]) -> None:
        self.folder = folder
        self.missing = list(missing)
        self.made: list[Path] = []

    def add(self, path: Path) -> None:
        """Notes something that the run makes, besides what every run has."""
        self.made.append(path)

    def is_worth_keeping(self, error: BaseException) -> bool:
        """Whether the folder should remain after this error.

        A scan may have taken an hour. An interrupt does not throw it away; a failure does, since
        what mends it are other values, which a folder with a configuration would refuse.
        """
        return bool(self.made) and not isinstance(error, Exception)

    def remove(self, names: Iterable[str]) -> None:
        """Leaves the folder as it was found, removing nothing but what the run wrote.

        Args:
            names: What every run has, in the order in which it goes.
        """
        for path in self.made:
            remove(path)
            if path.parent != self.folder:
                _remove_empty([path.parent])
        for name in names:
            remove(self.folder / name)
        _remove_empty(self.missing)


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):  # not empty: somebody else's, as is what holds it
        for folder in folders:
            folder.rmdir()
