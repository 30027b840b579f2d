"""The run folder itself: opened by one process, resumed, finished."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from keras_ctxattr.runs.checkpoints import (
    DAMAGED_SUFFIX,
    Checkpoint,
    checkpoint_paths,
    checkpoint_step,
    read_checkpoint,
    save_checkpoint,
    set_aside,
)
from keras_ctxattr.runs.identity import (
    FORMAT,
    LOCK_NAME,
    RunError,
    RunWarning,
    check_empty,
    check_kind,
    check_same,
    lock_folder,
    read_config,
    read_object,
    versions,
)
from keras_ctxattr.runs.table import MetricsTable
from keras_ctxattr.runs.traces import Traces
from keras_ctxattr.runs.writing import (
    json_types,
    remove_partials,
    write_atomically,
    write_json,
)


class Run(AbstractContextManager["Run"]):
    """A run folder. Use `Run.open` to train in it and `Run.read` to look at it.

    Args:
        path: The folder.
        kind: What is trained, such as "context".
        config: The configuration stored in it.
        lock: The locked file of the process that trains here; None when only reading.

    Attributes:
        path: The folder.
        kind: What is trained.
        config: The configuration, as JSON holds it (tuples are lists).
        metrics: The rows of `metrics.csv`, a `MetricsTable`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "first"
        >>> with Run.open(folder, {"seed": 0, "steps": 100}, kind="demo") as run:
        ...     run.finish({"accuracy": 0.25})
        >>> with Run.open(folder, {"seed": 0, "steps": 100}, kind="demo") as run:
        ...     run.finished
        True
        >>> Run.read(folder).summary
        {'accuracy': 0.25}
    """

    def __init__(self, path: Path, kind: str, config: dict[str, Any], lock: IO[str] | None) -> None:
        self.path = path
        self.kind = kind
        self.config = config
        self.metrics = MetricsTable(path / "metrics.csv")
        self._lock = lock
        self._traces: Traces | None = None  # of a new run, until there is something to lose

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        kind: str,
        extendable: Iterable[str] = (),
    ) -> Run:
        """Starts a run in a new or empty folder, or goes on with the same run.

        The folder belongs to this process until `close`, or until it dies. As a context manager, a
        new run whose block fails before `commit` (the first checkpoint commits, too) is given up:
        the folder is as it was, free for the corrected command.

        Args:
            path: The folder; made if missing.
            config: Every choice that the result depends on; JSON types, paths and numpy scalars.
            kind: What is trained. Another kind in the same folder is refused.
            extendable: Keys of budgets (steps, minutes) that may be larger on resume. A finished
                run whose budget grew is unfinished again.

        Raises:
            RunError: The folder holds something else or a run of another configuration, or another
                process is training in it.
        """
        folder = Path(path)
        received = json_types(dict(config))
        if not (folder / "config.json").exists():
            check_empty(folder)
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        lock = lock_folder(folder)
        try:
            is_new = not (folder / "config.json").exists()
            run = cls._start_or_resume(folder, kind, received, frozenset(extendable), lock)
        except BaseException:
            lock.close()
            raise
        run._traces = Traces(folder, missing) if is_new else None
        return run

    @classmethod
    def read(cls, path: str | Path, *, kind: str | None = None) -> Run:
        """Opens a run to look at it: takes no lock and changes nothing, also while it trains.

        Raises:
            RunError: There is no run, or one of another kind.
        """
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is no run folder (no config.json in it): give the folder that training "
                "wrote."
            )
        stored_kind, config = read_config(folder)
        check_kind(folder, kind or stored_kind, stored_kind)
        return cls(folder, stored_kind, config, None)

    @classmethod
    def _start_or_resume(
        cls,
        folder: Path,
        kind: str,
        received: dict[str, Any],
        extendable: frozenset[str],
        lock: IO[str],
    ) -> Run:
        for place in (folder, folder / "checkpoints"):
            remove_partials(place)
        if (folder / "config.json").exists():
            stored_kind, stored = read_config(folder)
            check_kind(folder, kind, stored_kind)
            check_same(folder, stored, received, extendable)
            if stored != received:
                # Unfinished first: killed between the two, the next start does both again.
                (folder / "summary.json").unlink(missing_ok=True)
        else:
            stored = None
        if stored != received:
            write_json(folder / "config.json", {"format": FORMAT, "kind": kind, "config": received})
        run = cls(folder, kind, received, lock)
        run._recordversions()
        return run

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """The folder of the TensorBoard logs."""
        return self.path / "logs"

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return (self.path / "summary.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """What `finish` was given; empty while the run is not finished.

        Raises:
            RunError: `summary.json` is damaged.
        """
        if not self.finished:
            return {}
        remedy = (
            "delete it and give the training command again, which goes on from the last "
            "checkpoint and writes it anew"
        )
        return read_object(self.path / "summary.json", remedy)

    def commit(self) -> None:
        """Keeps the folder whatever happens from now on: there is something to lose in it."""
        self._traces = None

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Declares the run finished. Write everything that it makes before."""
        self._check_writable()
        self.commit()
        write_json(self.path / "summary.json", dict(summary))

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Gives a path to write something the run makes to; it gets its `name` once it is whole."""
        return write_atomically(self.place(name))

    def place(self, name: str) -> Path:
        """Gives the path of something the run makes, for a function that itself writes it whole."""
        self._check_writable()
        if self._traces is not None:
            self._traces.add(self.path / name)
        return self.path / name

    def save_checkpoint(
        self, model: Any, step: int, state: Mapping[str, Any] | None = None, *, keep: int = 2
    ) -> Path:
        """Saves all variables of a model, its optimiser and its metrics; then deletes older ones.

        Args:
            model: A built `keras.Model`.
            step: Number of training steps done, counted in batches (the optimiser's `iterations`
                stands still where float16 skips an update).
            state: What else is needed to go on; JSON types.
            keep: How many checkpoints remain, at least 1; 2 leaves one to fall back on.

        Raises:
            DiskFullError: No space left. The earlier checkpoints are intact.
        """
        self._check_writable()
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: {keep}")
        path = save_checkpoint(self.checkpoints, model, step, state or {}, self._reassurance())
        self.commit()
        older = [
            other for other in checkpoint_paths(self.checkpoints) if checkpoint_step(other) < step
        ]
        for other in older[keep - 1 :]:
            other.unlink(missing_ok=True)
        return path

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, byte for byte; None if there is none."""
        whole = (read_checkpoint(path) for path in checkpoint_paths(self.checkpoints))
        return next((checkpoint for checkpoint in whole if checkpoint is not None), None)

    def restore(self, model: Any) -> Checkpoint | None:
        """Puts the newest whole checkpoint into a model; None if training starts at step 0.

        When training (not after `Run.read`), the rows of `metrics.csv` past the checkpoint are
        removed: they will be written again. Damaged newer checkpoints get the suffix `.damaged`,
        with a `RunWarning`.

        Raises:
            ValueError: The checkpoint comes from a model of another structure.
            RunError: `metrics.csv` is damaged.
        """
        checkpoint = self.latest_checkpoint()
        if checkpoint is not None:
            checkpoint.restore(model)
        if self._lock is not None and not self.finished:
            step = checkpoint.step if checkpoint is not None else -1
            self.metrics.drop_after(step)
            self._set_aside_after(step)
        return checkpoint

    def close(self) -> None:
        """Lets other processes train here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        traces = self._traces
        if traces is not None and exception is not None and not traces.is_worth_keeping(exception):
            # The configuration goes late: being killed before leaves a run like any other.
            traces.remove(
                ("metrics.csv", "checkpoints", "logs", "versions.json", "config.json", LOCK_NAME)
            )
        self.close()

    def _set_aside_after(self, step: int) -> None:
        paths = checkpoint_paths(self.checkpoints)
        damaged = [path for path in paths if checkpoint_step(path) > step]
        if not damaged:
            return
        set_aside(damaged)
        which = "No checkpoint" if step < 0 else f"No checkpoint after step {step}"
        warnings.warn(
            f"{which} in {self.checkpoints} is whole: training "
            f"{'starts over' if step < 0 else 'goes on from there'}. The damaged "
            f"{'one is' if len(damaged) == 1 else 'ones are'} kept under the suffix "
            f"{DAMAGED_SUFFIX}; delete what you do not need.",
            RunWarning,
            stacklevel=3,
        )

    def _reassurance(self) -> str:
        paths = checkpoint_paths(self.checkpoints)
        if not paths:
            return "there is no earlier checkpoint"
        return f"the last checkpoint, step {checkpoint_step(paths[0])}, is intact"

    def _check_writable(self) -> None:
        if self._lock is None:
            raise RunError(f"{self.path} was opened to be read: use `Run.open` to write in it.")

    def _recordversions(self) -> None:
        path = self.path / "versions.json"
        now = versions()
        if not path.exists():
            write_json(path, {"made_with": now, "resumed_with": []})
            return
        remedy = "delete it and give the command again; it only tells which packages trained here"
        stored = read_object(path, remedy)
        if not ("made_with" in stored and isinstance(stored.get("resumed_with"), list)):
            raise RunError(f"{path} is damaged: {remedy}.")
        if now != [stored["made_with"], *stored["resumed_with"]][-1]:
            stored["resumed_with"].append(now)
            write_json(path, stored)
