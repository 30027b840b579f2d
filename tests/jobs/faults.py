"""Workers of `encode_photographs` that die, wait or have no room, as a test asks them to."""

import dataclasses
import os
import resource
import signal
import time
from pathlib import Path

from keras_ctxattr.search.encoding.worker import EncodeJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaultyJob(EncodeJob):
    """Does what `EncodeJob` does, and one thing more.

    Attributes:
        fault: What happens, by the names of the methods below.
        shard: To which shard it happens.
        marks: A folder; what happened leaves a file there, named by the process.
    """

    fault: str
    shard: int
    marks: str

    def load(self, seat):
        work = super().load(seat)

        def faulty(unit, note):
            if unit.shard != self.shard and self.fault != "slow":
                return work(unit, note)
            return getattr(self, f"_{self.fault}")(work, unit, note)

        return faulty

    def _die_in_midst(self, work, unit, note):
        def dying(done):
            if done == 3:
                self._die_once()
            note(done)

        return work(unit, dying)

    def _die_after_writing(self, work, unit, note):
        work(unit, note)
        self._die_once()

    def _have_no_room(self, work, unit, note):
        # Half of the files are longer: the write itself fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        return work(unit, note)

    def _slow(self, work, unit, note):
        time.sleep(0.3)
        return work(unit, note)

    def _die_once(self):
        folder = Path(self.marks)
        if not list(folder.iterdir()):
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
