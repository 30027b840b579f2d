"""`metrics.csv`: rows of numbers by training step, appended one at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from keras_ctxattr.runs.identity import RunError
from keras_ctxattr.runs.writing import write_atomically

Number = int | float


class MetricsTable:
    """Rows of numbers in a CSV file, one per evaluation, in the order of their `step`.

    A row is one write of one line, so that a killed process leaves at most a torn last line;
    readers skip it and the next `append` removes it. A column that appears later is added to the
    earlier rows, empty.

    Args:
        path: The CSV file; it need not exist.

    Example:
        >>> import tempfile
        >>> table = MetricsTable(Path(tempfile.mkdtemp()) / "metrics.csv")
        >>> table.append({"step": 10, "loss": 2.05})
        >>> table.append({"step": 20, "loss": 1.5, "val_accuracy": 0.25})
        >>> table.rows()[1]
        {'step': 20, 'loss': 1.5, 'val_accuracy': 0.25}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._columns: list[str] | None = None

    def append(self, row: Mapping[str, Number]) -> None:
        """Adds one row.

        Args:
            row: Numbers by column name; `step` must be among them.

        Raises:
            ValueError: There is no `step`.
            DiskFullError: No space left; the earlier rows are intact.
        """
        if "step" not in row:
            raise ValueError(f"A row of metrics must have a `step`. Received: {sorted(row)}")
        if self._columns is None:
            self._mend()
        missing = [name for name in row if name not in (self._columns or [])]
        if missing or not self._columns:
            self._rewrite([*self.rows(), dict(row)])
            return
        line = _csv_lines([[_text(row.get(name)) for name in self._columns]])
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def rows(self) -> list[dict[str, Number]]:
        """All whole rows, `step` as int and the rest as float where they have a point.

        Raises:
            RunError: A row has no `step`, or something that is no number.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            del lines[-1]
        try:
            return _parse_table(list(csv.reader(lines)))
        except (ValueError, csv.Error) as error:
            raise RunError(
                f"{self.path} is damaged ({error}): restore it, or delete it to go on without its "
                "rows; nothing else depends on them."
            ) from None

    def drop_after(self, step: int) -> None:
        """Removes the rows past `step`: training goes on from there and writes them again."""
        rows = self.rows()
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            self._rewrite(kept)
        self._columns = None

    def _mend(self) -> None:
        """Leaves whole rows only, and remembers the columns."""
        rows = self.rows()
        if rows:
            self._rewrite(rows)
        else:
            self.path.unlink(missing_ok=True)
            self._columns = []

    def _rewrite(self, rows: list[dict[str, Number]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        if "step" in columns:
            columns = ["step", *(name for name in columns if name != "step")]
        lines = [columns, *([_text(row.get(name)) for name in columns] for row in rows)]
        with write_atomically(self.path, reassurance="the earlier rows are intact") as partial:
            partial.write_text(_csv_lines(lines) if columns else "", encoding="utf-8")
        self._columns = columns


def _csv_lines(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _text(value: Number | None) -> str:
    """The shortest text that reads back as the same number."""
    if value is None:
        return ""
    number = value.item() if hasattr(value, "item") else value
    return repr(int(number)) if isinstance(number, int) else repr(float(number))


def _parse_table(table: list[list[str]]) -> list[dict[str, Number]]:
    """Rows from cells, the first row of which names the columns."""
    if not table:
        return []
    columns = table[0]
    if "step" not in columns:
        raise ValueError("no column `step`")
    numbered = enumerate(table[1:], start=2)
    return [_parse(columns, cells, line) for line, cells in numbered if len(cells) == len(columns)]


def _parse(columns: list[str], cells: list[str], line: int) -> dict[str, Number]:
    row = {name: _number(cell, line) for name, cell in zip(columns, cells, strict=True) if cell}
    if "step" not in row:
        raise ValueError(f"no `step` in line {line}")
    return row


def _number(cell: str, line: int) -> Number:
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{cell[:20]!r} in line {line} is no number") from None
