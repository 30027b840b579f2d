"""What watches over the bits while they are learnt."""

from typing import TYPE_CHECKING, Any

from keras_ctxattr.runs.callbacks import StepCallback, TrainingCollapsed

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint

_MIN_VARIANCE = 1e-3  # of projections, which begin at about 1


class BitGuard(StepCallback):
    """Stops training where all bits have lost their variance, or most are dead.

    It reads `variance` and `dead_bits` at the end of each epoch; dead and duplicate bits that are
    fewer are shown on the line of progress and stand in `metrics.csv`.

    Args:
        num_attributes: K.

    Raises:
        TrainingCollapsed: during `fit`, with the reason.
    """

    def __init__(self, num_attributes: int) -> None:
        super().__init__()
        self.num_attributes = num_attributes

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the epoch's means."""
        super().on_epoch_end(epoch, logs)
        found = logs or {}
        if found.get("variance", 1.0) < _MIN_VARIANCE:
            self._stop(f"the projections' variance is {found['variance']:.1e}")
        if found.get("dead_bits", 0) > self.num_attributes / 2:
            self._stop(f"{found['dead_bits']:.0f} of {self.num_attributes} bits are dead")

    def _stop(self, reason: str) -> None:
        raise TrainingCollapsed(
            f"Attributes collapsed: {reason}. Raise `alpha`, lower `learning_rate`, or set "
            "`literal_eq2` to False, in another run folder."
        )


class SlopeSchedule(StepCallback):
    """Makes the sigmoid steeper by the same factor every step, from one slope to another.

    Args:
        first: at step 0.
        last: at the end.
        num_steps: steps of the whole run.
        resumed: the checkpoint that training goes on from.
    """

    def __init__(
        self, first: float, last: float, num_steps: int, *, resumed: "Checkpoint | None" = None
    ) -> None:
        super().__init__(resumed=resumed)
        self.first = first
        self.factor = last / first
        self.num_steps = num_steps

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the slope of this step."""
        share = min(1.0, self.step / self.num_steps)
        self.model.slope.assign(self.first * self.factor**share)
