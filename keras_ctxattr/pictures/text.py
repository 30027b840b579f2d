"""Text for pictures, wrapped and shrunk to the room there is."""

from __future__ import annotations

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALES = (0.5, 0.45, 0.4, 0.35)  # below .35 the font cannot be read
_LINE_HEIGHT = 40  # pixels, of scale 1
INK = (40, 40, 40)
WHITE = (255, 255, 255)


def text_size(text: str, scale: float = 0.5) -> tuple[int, int]:
    """Width and height in pixels of one line, spacing included."""
    (width, _), _ = cv2.getTextSize(plain(text), _FONT, scale, 1)
    return width, round(_LINE_HEIGHT * scale)


def plain(text: str) -> str:
    """`text` in the letters that the font has; a question mark for each other one."""
    return text.encode("ascii", "replace").decode()


def put_text(
    picture: np.ndarray,
    text: str,
    left: int,
    top: int,
    scale: float = 0.5,
    ink: tuple[int, int, int] = INK,
) -> None:
    """Writes one line into `picture`, its box beginning at (left, top)."""
    baseline = top + round(0.72 * _LINE_HEIGHT * scale)
    cv2.putText(picture, plain(text), (left, baseline), _FONT, scale, ink, 1, cv2.LINE_AA)


def text_box(text: str, width: int, *, centred: bool = True) -> np.ndarray:
    """Writes text into a white box of a given width.

    Words are wrapped; where a word is wider than the box all of the text shrinks, and what is too
    wide still is cut and ends in two dots.

    Args:
        text: ASCII; a new line starts a line.
        width: Of the box in pixels, at least 20.
        centred: Whether lines are centred, or begin at the left.

    Returns:
        Uint8 `[height, width, 3]`, as high as the text needs; height 0 for no text.
    """
    if not text.strip():
        return np.full((0, width, 3), 255, np.uint8)
    scale = next((s for s in _SCALES if _widest_word(text, s) <= width), _SCALES[-1])
    lines = [_cut(line, width, scale) for line in _wrap(text, width, scale)]
    line_height = text_size("", scale)[1]
    box = np.full((line_height * len(lines), width, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        left = (width - text_size(line, scale)[0]) // 2 if centred else 0
        put_text(box, line, left, row * line_height, scale)
    return box


def _widest_word(text: str, scale: float) -> int:
    return max(text_size(word, scale)[0] for word in text.split())


def _wrap(text: str, width: int, scale: float) -> list[str]:
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_size(longer, scale)[0] > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _cut(line: str, width: int, scale: float) -> str:
    if text_size(line, scale)[0] <= width:
        return line
    while line and text_size(line + "..", scale)[0] > width:
        line = line[:-1]
    return line + ".."
