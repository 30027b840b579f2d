"""Contour maps as pictures of 8 or 16 bits, and results as the benchmark's own text files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_HIGHEST = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def read_contour_map(path: str | Path) -> np.ndarray:
    """Reads a contour map.

    Args:
        path: a grey PNG of 8 or 16 bits a pixel.

    Returns:
        float64 `[height, width]` in [0, 1]: a pixel's number over the highest there is.

    Raises:
        ValueError: if it is no such picture.
    """
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise _unreadable(path, str(getattr(error, "strerror", None) or "no picture")) from error
    if pixels is None:
        raise _unreadable(path, "no picture")
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]  # grey, written as colours
    if pixels.ndim != 2 or pixels.dtype not in _HIGHEST:
        raise _unreadable(path, f"{pixels.dtype} {list(pixels.shape)}")
    return pixels / _HIGHEST[pixels.dtype]


def write_contour_map(path: str | Path, contour_map: np.ndarray) -> None:
    """Writes a contour map as a grey PNG of 16 bits a pixel.

    Args:
        path: the file.
        contour_map: float `[height, width]` in [0, 1].

    Raises:
        ValueError: if values lie outside.
    """
    values = np.asarray(contour_map)
    if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
        raise ValueError(
            "A contour map must hold numbers from 0 to 1. "
            f"Received: {values.min()} to {values.max()}"
        )
    _, encoded = cv2.imencode(".png", np.rint(values * 65535).astype(np.uint16))
    encoded.tofile(path)


def write_official_results(folder: str | Path, results: Mapping[str, Any]) -> None:
    """Writes `eval_bdry.txt`, `eval_bdry_img.txt` and `eval_bdry_thr.txt` as the benchmark does.

    Args:
        folder: where; it must exist.
        results: what `summarize_contours` gives.
    """
    ods, ois, curve = results["ods"], results["ois"], results["curve"]
    names = ("threshold", "recall", "precision", "f")
    best = [*(ods[name] for name in names), *(ois[name] for name in names[1:]), results["ap"]]
    rows = {
        "eval_bdry.txt": [best],
        "eval_bdry_img.txt": [
            [number, *(one[name] for name in names)]
            for number, one in enumerate(results["images"], 1)
        ],
        "eval_bdry_thr.txt": zip(
            *(curve[name] for name in ("thresholds", "recall", "precision", "f")), strict=True
        ),
    }
    for name, lines in rows.items():
        text = "".join(" ".join(f"{value:10.6g}" for value in line) + "\n" for line in lines)
        (Path(folder) / name).write_text(text, encoding="ascii")


def _unreadable(path: str | Path, received: str) -> ValueError:
    return ValueError(
        f"A contour map must be a grey PNG of 8 or 16 bits a pixel. Received: {path}: {received}"
    )
