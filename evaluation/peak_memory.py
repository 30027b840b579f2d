"""Peak memory of reading batches: a process of its own for `evaluation.speed`.

    python -m evaluation.peak_memory --manifest RUN/images.sqlite --num-steps 100

Prints `{"peak_megabytes": ...}`, resident memory of the whole process at its highest.
"""

import dataclasses
import json
import resource
import sys
from pathlib import Path

from evaluation.checks import check_counts
from keras_ctxattr.data.grids import grid_batches
from keras_ctxattr.data.manifest import Manifest
from training.flags import parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to read.

    Attributes:
        manifest: a manifest as `Manifest.save` writes it.
        num_steps: number of batches.
    """

    manifest: Path
    num_steps: int = 100

    def __post_init__(self) -> None:
        """Checks the number."""
        check_counts(self, "num_steps")


def main(config: Config) -> dict[str, float]:
    """Reads the batches, and gives the peak."""
    for _ in grid_batches(Manifest.load(config.manifest), num_steps=config.num_steps):
        pass
    # Linux states it in kilobytes, macOS in bytes.
    unit = 1024 if sys.platform != "darwin" else 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_megabytes": peak / 1e6}


def report(config: Config) -> None:
    """Prints the peak."""
    print(json.dumps(main(config)))


if __name__ == "__main__":
    run_script(report, parse_flags(Config, sys.argv[1:]))
