"""Training on several devices, or on several machines: what `tf.distribute` leaves to be done.

`devices` opens them and divides the input; `workers` are the other processes: who writes, and what
happens where one is gone; `deadline` ends every wait;
`keras_faults` contains what Keras does wrong.
"""

from keras_ctxattr.runs.distribution.deadline import Deadline, Heartbeat
from keras_ctxattr.runs.distribution.devices import DISTRIBUTIONS, Devices, open_devices
from keras_ctxattr.runs.distribution.keras_faults import apply_summed, contained
from keras_ctxattr.runs.distribution.workers import (
    FollowedRun,
    WorkersError,
    agree,
    announce,
    open_together,
    restore_together,
    together,
)

__all__ = [
    "DISTRIBUTIONS",
    "Deadline",
    "Devices",
    "FollowedRun",
    "Heartbeat",
    "WorkersError",
    "agree",
    "announce",
    "apply_summed",
    "contained",
    "open_devices",
    "open_together",
    "restore_together",
    "together",
]
