"""Plots drawn with OpenCV: matplotlib is a large dependency for three pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from keras_ctxattr.pictures.text import INK, WHITE, put_text, text_box, text_size

_COLOURS = (  # Okabe and Ito 2008: told apart by the colour-blind too
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
_GRID = (225, 225, 225)
_EQUAL_F = (150, 190, 150)
_SCALE = 0.45

Series = tuple[Sequence[float], Sequence[float]]


def confusion_picture(
    confusion: np.ndarray,
    labels: Sequence[str],
    *,
    cell_size: int = 64,
    title: str = "",
) -> np.ndarray:
    """Shows a confusion matrix, each row divided by its sum.

    Args:
        confusion: Counts or shares `[classes, classes]`, not negative: rows are true, columns are
            predicted.
        labels: Names of the classes.
        cell_size: Side of a cell in pixels, 40 or more.
        title: Above the picture.

    Returns:
        Uint8 `[height, width, 3]`: per cent in each cell, darker for more.

    Raises:
        ValueError: Not a square matrix, or not one label a row.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(
            "`confusion` must be square with one label a row. Received: "
            f"{list(counts.shape)} and {len(labels)} labels"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    row_width = max(text_size(label, _SCALE)[0] for label in labels) + 16
    names = [text_box(label, cell_size - 4) for label in labels]
    top = max(map(len, names)) + 4
    picture = np.full((top + cell_size * len(labels), row_width + cell_size * len(labels), 3), 255)
    picture = picture.astype(np.uint8)
    for index, (label, name) in enumerate(zip(labels, names, strict=True)):
        left = row_width + index * cell_size + 2
        picture[top - 2 - len(name) : top - 2, left : left + name.shape[1]] = name
        middle = top + index * cell_size + cell_size // 2
        put_text(picture, label, 8, middle - text_size("", _SCALE)[1] // 2, _SCALE)
    for row, column in np.ndindex(shares.shape):
        _draw_cell(
            picture,
            shares[row, column],
            row_width + column * cell_size,
            top + row * cell_size,
            cell_size,
        )
    caption = text_box("rows: true, columns: predicted, per cent of the row", picture.shape[1])
    return _stacked([text_box(title, picture.shape[1]), picture, caption])


def line_plot(
    series: Mapping[str, Series],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    levels: Mapping[str, float] | None = None,
    size: tuple[int, int] = (640, 400),
) -> np.ndarray:
    """Draws lines through points.

    Args:
        series: (horizontal, vertical) values by name, at most six; points that are not finite
            are left out.
        title: Above the plot.
        x_label: Below it.
        y_label: Above its vertical axis.
        levels: Dashed horizontal lines by name, such as chance.
        size: Width and height in pixels, without the title.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: No point, unequal lengths, or more than six lines.
    """
    points = {name: _finite_points(name, values) for name, values in series.items()}
    _check_lines(points)
    level_values = [value for value in (levels or {}).values() if math.isfinite(value)]
    every = np.concatenate([p for p in points.values() if len(p)])
    x_ticks = _ticks(every[:, 0].min(), every[:, 0].max())
    y_ticks = _ticks(
        min([every[:, 1].min(), *level_values]), max([every[:, 1].max(), *level_values])
    )
    axes = _Axes(size, x_ticks, y_ticks)
    axes.draw_grid(x_label, y_label)
    for name, value in (levels or {}).items():
        axes.draw_level(name, value)
    for colour, (_, line) in zip(_COLOURS, points.items(), strict=False):
        axes.draw_line(line, colour)
    return _stacked([text_box(title, size[0]), _legend(list(series), size[0]), axes.picture])


def precision_recall_plot(
    series: Mapping[str, Series],
    *,
    best: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
    size: tuple[int, int] = (560, 560),
) -> np.ndarray:
    """Draws precision by recall, over lines of equal F.

    Args:
        series: (recall, precision) by name, 0 to 1, at most six.
        best: (recall, precision) of a point to mark, for any of these names.
        title: Above the plot.
        size: Width and height in pixels, without the title.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: No point, unequal lengths, or more than six lines.
    """
    points = {name: _finite_points(name, values) for name, values in series.items()}
    _check_lines(points)
    ticks = [tick / 5 for tick in range(6)]
    axes = _Axes(size, ticks, ticks)
    axes.draw_grid("recall", "precision")
    for f in np.arange(1, 10) / 10:
        recall = np.geomspace(f / (2 - f), 1, 60)
        axes.draw_curve(np.stack([recall, f * recall / (2 * recall - f)], 1), _EQUAL_F, 1)
        column, row = axes.place(1.0, f / (2 - f))
        put_text(axes.picture, f"{f:.1f}", column + 3, row - 8, _SCALE)
    for colour, (name, line) in zip(_COLOURS, points.items(), strict=False):
        axes.draw_curve(line, colour, 2)
        if best and name in best:
            cv2.circle(axes.picture, axes.place(*best[name]), 5, colour, -1, cv2.LINE_AA)
    return _stacked([text_box(title, size[0]), _legend(list(series), size[0]), axes.picture])


def learning_curves(
    rows: Sequence[Mapping[str, Any]], *, chance: float | None = None, x: str = "step"
) -> np.ndarray:
    """Plots loss and accuracy of a run, training and held out.

    Args:
        rows: As `MetricsTable.rows` gives them: `step`, `loss`, `accuracy`, `val_loss`, …
        chance: Accuracy of guessing, drawn as a dashed line.
        x: The column of the horizontal axis, "step" or "seconds".

    Returns:
        Uint8 `[height, width, 3]`, the plots side by side.

    Raises:
        ValueError: The rows hold neither loss nor accuracy.
    """
    plots = []
    for name in ("loss", "accuracy"):
        series = {
            title: _column(rows, x, column)
            for title, column in (("training", name), ("held out", f"val_{name}"))
            if any(column in row for row in rows)
        }
        if series:
            levels = {"chance": chance} if name == "accuracy" and chance is not None else None
            plots.append(line_plot(series, title=name, x_label=x, levels=levels, size=(520, 360)))
    if not plots:
        raise ValueError("The rows must hold a loss or an accuracy. Received: none")
    return np.concatenate(plots, axis=1)


class _Axes:
    """Where values lie in the picture."""

    def __init__(self, size: tuple[int, int], x_ticks: list[float], y_ticks: list[float]) -> None:
        self.picture = np.full((size[1], size[0], 3), 255, np.uint8)
        self.x_ticks, self.y_ticks = x_ticks, y_ticks
        widest = max(text_size(_tick_text(tick, y_ticks), _SCALE)[0] for tick in y_ticks)
        self.left, self.right = widest + 14, size[0] - 28
        self.top, self.bottom = 28, size[1] - 46

    def place(self, x: float, y: float) -> tuple[int, int]:
        across = (x - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        up = (y - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return (
            round(self.left + across * (self.right - self.left)),
            round(self.bottom - up * (self.bottom - self.top)),
        )

    def draw_grid(self, x_label: str, y_label: str) -> None:
        height = text_size("", _SCALE)[1]
        for tick in self.x_ticks:
            column = self.place(tick, self.y_ticks[0])[0]
            cv2.line(self.picture, (column, self.top), (column, self.bottom), _GRID, 1)
            text = _tick_text(tick, self.x_ticks)
            put_text(
                self.picture,
                text,
                column - text_size(text, _SCALE)[0] // 2,
                self.bottom + 4,
                _SCALE,
            )
        for tick in self.y_ticks:
            row = self.place(self.x_ticks[0], tick)[1]
            cv2.line(self.picture, (self.left, row), (self.right, row), _GRID, 1)
            text = _tick_text(tick, self.y_ticks)
            put_text(
                self.picture,
                text,
                self.left - 6 - text_size(text, _SCALE)[0],
                row - height // 2,
                _SCALE,
            )
        middle = (self.left + self.right - text_size(x_label, _SCALE)[0]) // 2
        put_text(self.picture, x_label, middle, self.bottom + 6 + height, _SCALE)
        put_text(self.picture, y_label, 6, 2, _SCALE)

    def draw_level(self, name: str, value: float) -> None:
        row = self.place(self.x_ticks[0], value)[1]
        for column in range(self.left, self.right, 10):
            cv2.line(self.picture, (column, row), (column + 4, row), INK, 1)
        width, height = text_size(name, _SCALE)
        put_text(self.picture, name, self.right - width - 2, row - height, _SCALE)

    def draw_curve(
        self, points: np.ndarray, colour: tuple[int, int, int], thickness: int
    ) -> np.ndarray:
        places = np.array([self.place(*point) for point in points], np.int32).reshape(-1, 1, 2)
        cv2.polylines(self.picture, [places], False, colour, thickness, cv2.LINE_AA)
        return places

    def draw_line(self, points: np.ndarray, colour: tuple[int, int, int]) -> None:
        places = self.draw_curve(points, colour, 2)
        if len(points) <= 40:
            for place in places[:, 0]:
                cv2.circle(self.picture, tuple(map(int, place)), 3, colour, -1, cv2.LINE_AA)


def _draw_cell(picture: np.ndarray, share: float, left: int, top: int, size: int) -> None:
    colour = np.rint(255 + (np.array(_COLOURS[0]) - 255) * min(1.0, share)).astype(np.uint8)
    picture[top : top + size - 1, left : left + size - 1] = colour
    text = f"{100 * share:.0f}"
    width, height = text_size(text)
    ink = WHITE if share > 0.5 else INK
    put_text(picture, text, left + (size - width) // 2, top + (size - height) // 2, 0.5, ink)


def _finite_points(name: str, values: Series) -> np.ndarray:
    if len(values[0]) != len(values[1]):
        raise ValueError(
            f"A line needs as many horizontal as vertical values. Received: {name!r} with "
            f"{len(values[0])} and {len(values[1])}"
        )
    points = np.stack([np.asarray(v, np.float64) for v in values], axis=1).reshape(-1, 2)
    return points[np.isfinite(points).all(axis=1)]


def _check_lines(points: Mapping[str, np.ndarray]) -> None:
    if not any(len(p) for p in points.values()) or len(points) > len(_COLOURS):
        raise ValueError(
            f"A plot needs 1 to {len(_COLOURS)} lines with at least one point. "
            f"Received: {len(points)} lines, {sum(map(len, points.values()))} points"
        )


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose low to high."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)]


def _tick_text(tick: float, ticks: list[float]) -> str:
    step = ticks[1] - ticks[0]
    if max(map(abs, ticks)) >= 1e6:
        return f"{tick:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1  # steps of 2.5
    return f"{tick:.{decimals}f}"


def _legend(names: list[str], width: int) -> np.ndarray:
    """Names beside their colours, in as many lines as they need."""
    height = text_size("", _SCALE)[1] + 2
    places, left, row = [], 8, 0
    for name in names:
        needed = 26 + text_size(name, _SCALE)[0] + 18
        if left > 8 and left + needed > width:
            left, row = 8, row + 1
        places.append((left, row * height))
        left += needed
    legend = np.full(((row + 1) * height, width, 3), 255, np.uint8)
    for colour, name, (left, top) in zip(_COLOURS, names, places, strict=False):
        cv2.line(legend, (left, top + height // 2), (left + 20, top + height // 2), colour, 3)
        put_text(legend, name, left + 26, top, _SCALE)
    return legend


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([part for part in parts if len(part)])


def _column(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> Series:
    found = [(row[x], row[y]) for row in rows if x in row and y in row]
    return [across for across, _ in found], [up for _, up in found]
