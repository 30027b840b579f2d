"""Run folders: what a training run was asked for, how far it got, and what it made.

    run/
      config.json      kind and configuration; the same command again must give the same
      versions.json    the packages that made it, and those of each later resume
      metrics.csv      one row per held-out evaluation
      checkpoints/     step-00001200.npz: every variable, bit for bit; the last few are kept
      logs/            TensorBoard
      summary.json     there once the run is finished
      …                what the run made (`model.keras`, pictures/)

`keras_ctxattr.runs.callbacks` has the Keras callbacks that fill it; it is imported by its own name,
since it loads TensorFlow.

Anything here is written beside its place and renamed, so that a process killed at any moment
leaves either the old file or the new one.
"""

from keras_ctxattr.runs.checkpoints import Checkpoint
from keras_ctxattr.runs.folder import Run
from keras_ctxattr.runs.identity import RunError, RunWarning, digest_arrays
from keras_ctxattr.runs.table import MetricsTable
from keras_ctxattr.runs.writing import DiskFullError, write_atomically, write_json

__all__ = [
    "Checkpoint",
    "DiskFullError",
    "MetricsTable",
    "Run",
    "RunError",
    "RunWarning",
    "digest_arrays",
    "write_atomically",
    "write_json",
]
