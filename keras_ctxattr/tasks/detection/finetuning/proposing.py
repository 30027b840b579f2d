"""Where a run keeps the proposals of photographs."""

from pathlib import Path

import numpy as np

from keras_ctxattr.tasks.detection.photographs import BoxedPhotographs
from keras_ctxattr.tasks.detection.proposals import load_proposals
from keras_ctxattr.tasks.detection.proposals.loading import Progress


def propose_for_run(
    run: Path,
    photographs: BoxedPhotographs,
    *,
    folder: Path | None = None,
    mode: str = "fast",
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """Gives the proposals of photographs; those that are not there yet are searched.

    Args:
        run: the run folder; beside it lie its proposals, in `<its name>-proposals`.
        photographs: what to search.
        folder: another place, for several runs to share.
        mode: of selective search, `"fast"` or `"quality"`.
        progress: called with (photographs that are there, all of them).

    Returns:
        For each photograph, float32 `[n, 4]`.
    """
    place = folder or run.with_name(f"{run.name}-proposals")
    found = load_proposals(photographs.manifest, place, mode=mode, progress=progress)
    return [found.of(row) for row in range(len(photographs))]


def propose_nothing(photographs: BoxedPhotographs) -> list[np.ndarray]:
    """Gives no proposals for any photograph, to methods that need none."""
    return [np.zeros((0, 4), np.float32)] * len(photographs)
