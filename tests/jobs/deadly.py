"""A job that kills its workers, where these can import it without what tests import besides."""

import dataclasses
import os
import signal
from pathlib import Path

from keras_ctxattr.search.spreading import DescribeJob


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DeadlyJob(DescribeJob):
    """Describes files; a worker that comes to the one of this name is killed, so many times."""

    name: str = ""
    marks: Path = Path()
    times: int = 1

    def load(self, seat):
        work = super().load(seat)

        def die_or_work(entries, note):
            count = len(list(self.marks.iterdir()))
            if count < self.times and any(entry.key.endswith(self.name) for entry in entries):
                (self.marks / str(count)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return work(entries, note)

        return die_or_work
