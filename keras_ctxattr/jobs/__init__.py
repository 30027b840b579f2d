"""Work spread over processes, here or on a Ray cluster: the same function, called there.

A *job* is a value that can be sent to another process; there it is loaded once and then does
*units* of work, one at a time. What a unit is, and what becomes of its result, the caller knows:
nothing here reads an image or writes a file. A worker that dies, or is silent for too long, is
replaced and its unit done again, a stated number of times. So a unit must be one that may be done
twice.
"""

from keras_ctxattr.jobs.pool import JobError, Pool, open_pool
from keras_ctxattr.jobs.workers import ENGINES, Job, Note, Seat, Workers

__all__ = ["ENGINES", "Job", "JobError", "Note", "Pool", "Seat", "Workers", "open_pool"]
