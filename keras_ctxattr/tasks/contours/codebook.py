"""Codes of contour patches, each with one patch that stands for all that have it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.attributes import unpack_bits

MAX_TABLE_BITS = 16
"""Attributes up to which there is an entry for every code that can be."""

_BLUR, _STEP = 2.0, 3  # pixels by which lines are blurred, and of the blurred ones the distance
_CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class CodeBook:
    """Codes that training patches have, and a patch of each.

    Attributes:
        codes: uint8 `[n, K / 8]`, all different, in rising order.
        patches: bool `[n, size, size]`, the medoid of the training patches of each code.
        counts: int64 `[n]`, how many training patches had it.
    """

    codes: np.ndarray
    patches: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def num_attributes(self) -> int:
        """K."""
        return 8 * self.codes.shape[1]

    @classmethod
    def of(cls, codes: np.ndarray, patches: np.ndarray) -> "CodeBook":
        """Chooses a patch for each code.

        A patch's distance from another is that of the two blurred by 2 pixels, so that lines side
        by side are nearly the same. The medoid is the patch whose squared distances from all others
        of its code have the least sum: the one nearest to their mean.

        Args:
            codes: uint8 `[m, K / 8]`.
            patches: bool or uint8 `[m, size, size]` or `[m, size, size, channels]`, not 0 on
                contours; an array, or a table that is sliced like one.

        Raises:
            ValueError: if there is no code, or not one for every patch.

        Reference:
            Huang, Loy, Tang 2016, section 4.3, of the neighbours that contour patches come from.
        """
        if len(codes) == 0 or len(codes) != len(patches):
            raise ValueError(
                "There must be a code for every patch, and at least one. "
                f"Received: {len(codes)} codes and {len(patches)} patches"
            )
        known, which, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        which = which.ravel()
        blurred = np.concatenate([_blur(one) for one in _chunks(patches)])
        means = np.zeros((len(known), blurred.shape[1]))
        np.add.at(means, which, blurred)
        means /= counts[:, None]
        distances = ((blurred - means[which]) ** 2).sum(axis=1)
        order = np.lexsort([distances, which])  # stable: of equals the first
        medoids = order[np.searchsorted(which[order], np.arange(len(known)))]
        chosen = np.stack([_lines(patches[row : row + 1])[0] for row in medoids.tolist()])
        return cls(codes=known, patches=chosen, counts=counts)

    def save(self, path: str | Path) -> None:
        """Writes it to one file, an npz archive."""
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                codes=self.codes,
                patches=np.packbits(self.patches, axis=-1),
                counts=self.counts,
                size=self.patches.shape[1],
            )

    @classmethod
    def load(cls, path: str | Path) -> "CodeBook":
        """Reads what `save` wrote."""
        with np.load(path) as found:
            patches = np.unpackbits(found["patches"], axis=-1, count=int(found["size"]))
            return cls(codes=found["codes"], patches=patches.astype(bool), counts=found["counts"])

    def dense_table(self) -> np.ndarray:
        """Gives for every code that can be the row of the nearest known one, int32 `[2**K]`.

        Codes are numbers whose highest bit is the first attribute. Nearest is what differs in the
        fewest bits; of equals, the first row.

        Raises:
            ValueError: if K is over 16.
        """
        bits = self.num_attributes
        if bits > MAX_TABLE_BITS:
            raise ValueError(
                f"A table of all codes is for at most {MAX_TABLE_BITS} attributes. Received: {bits}"
            )
        numbers = unpack_bits(self.codes) @ (1 << np.arange(bits)[::-1])
        unknown = len(self)
        rows = np.full(1 << bits, unknown, np.int32)
        rows[numbers] = np.arange(len(self))
        every = np.arange(1 << bits)
        while (rows == unknown).any():  # one bit farther each time
            beside = np.min([rows[every ^ (1 << bit)] for bit in range(bits)], axis=0)
            rows = np.where(rows == unknown, beside, rows)
        return rows


def _chunks(patches: np.ndarray) -> list[np.ndarray]:
    return [_lines(patches[row : row + _CHUNK]) for row in range(0, len(patches), _CHUNK)]


def _lines(patches: np.ndarray) -> np.ndarray:
    """Gives bool `[m, size, size]`."""
    given = np.asarray(patches)
    return (given[..., 0] if given.ndim == 4 else given) != 0


def _blur(lines: np.ndarray) -> np.ndarray:
    """Gives float32 `[m, features]`, blurred patches at every third pixel."""
    blurred = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), _BLUR) for one in lines]
    return np.stack(blurred)[:, ::_STEP, ::_STEP].reshape(len(lines), -1)
