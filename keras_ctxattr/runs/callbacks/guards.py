"""Guards that stop a training run that has failed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ctxattr.runs.callbacks.steps import StepCallback

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint

_GROWTH_WEIGHT = 0.9  # of the past, in the running value of the update norm
_GROWTH_WARM_UP = 3  # checks before a running value means anything

HOW_TO_CHANGE = (
    "in the recipe (a file in training/configs/, or the one that your script makes), and train "
    "in a new run folder"
)


class TrainingCollapsed(RuntimeError):  # noqa: N818 (it is an outcome, not a programming error)
    """Training has failed for good. One line, with what to do."""


class CollapseGuard(StepCallback):
    """Stops training when the network collapsed, as the paper describes, or diverged.

    It raises, rather than let `fit` end: the end would save. (`Checkpointer` for its part refuses
    what is not finite: where a step breaks the weights, only the next one's loss shows it.) It
    reads these metrics from the logs of `fit`; one that the model does not report is not checked:

    - `loss`: must be a finite number; looked at after every step;
    - `prediction_spread`: standard deviation over the pairs of the predicted probabilities; 0 where
      the network answers the same for every pair;
    - `active_fraction`: share of the fused hidden units (fc7) that are above 0;
    - `update_norm`: length of the gradient times the learning rate, that is of one step of plain
      gradient descent, whatever momentum or Adam make of it. It is divided by the mean learning
      rate of the same steps, so that neither a warm-up nor a decay is taken for growth.

    Keras logs running means over the epoch; the guard looks at the mean since its last check.

    Args:
        every: Steps between two checks, at least 1.
        patience: Successive checks that must find a collapse, at least 1: networks start close to
            uniform predictions.
        min_spread: Below this spread the predictions count as uniform, in probability.
        min_active: Below this share the hidden units count as dead.
        max_growth: How many times its running value that quotient may reach.
        resumed: The checkpoint that training goes on from.

    Attributes:
        reason: Why training was stopped, one line; None while it goes well.

    Raises:
        TrainingCollapsed: During `fit`, with `reason` as its text.

    Reference:
        Doersch, Gupta, Efros 2015, section 3.2; the growth check is the released code's.
    """

    def __init__(
        self,
        every: int = 50,
        *,
        patience: int = 3,
        min_spread: float = 1e-4,
        min_active: float = 1e-3,
        max_growth: float = 10.0,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        if every < 1 or patience < 1:
            raise ValueError(
                f"`every` and `patience` must be at least 1. Received: {every}, {patience}"
            )
        self.every = every
        self.patience = patience
        self.min_spread = min_spread
        self.min_active = min_active
        self.max_growth = max_growth
        self.reason: str | None = None
        self._before: dict[str, tuple[int, float]] = {}
        self._rates = (0, 0.0)  # steps since the last check, sum of their learning rates
        self._strikes = {"prediction_spread": 0, "active_fraction": 0}
        self._usual_update: float | None = None
        self._num_updates = 0
        self._num_recent = 0  # steps that the last mean covers

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets the means of the last epoch."""
        super().on_epoch_begin(epoch, logs)
        self._before = {}
        self._rates = (0, 0.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, and every so often at the rest."""
        before = self.step
        super().on_train_batch_end(batch, logs)
        values = logs or {}
        if not math.isfinite(values.get("loss", 0.0)):
            self._stop(
                f"the loss is {values['loss']}",
                "lower `learning_rate`, or set `dtype_policy` to float32,",
            )
        self._add_rate(self.step - before)
        if self.step // self.every > before // self.every:
            self._check(values)

    def _add_rate(self, num_steps: int) -> None:
        count, total = self._rates
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        self._rates = (count + num_steps, total + num_steps * rate)

    def _check(self, means: dict[str, float]) -> None:
        values = {name: self._recent(name, mean) for name, mean in means.items()}
        if self._persists("prediction_spread", values, self.min_spread):
            self._stop(
                "the network predicts the same for every pair "
                f"(spread {values['prediction_spread']:.1e})",
                'lower `learning_rate`, or take `preset="paper"`, which normalises every layer,',
            )
        if self._persists("active_fraction", values, self.min_active):
            self._stop(
                f"the hidden units of fc7 are dead ({values['active_fraction']:.1e} are above 0)",
                'lower `learning_rate`, or take `preset="paper"`, which normalises every layer,',
            )
        if "update_norm" in values:
            self._check_growth(values["update_norm"])
        self._rates = (0, 0.0)

    def _persists(self, name: str, values: dict[str, float], threshold: float) -> bool:
        """Counts the successive checks that find a value too low (or not a number)."""
        if name not in values:
            return False
        self._strikes[name] = 0 if values[name] >= threshold else self._strikes[name] + 1
        return self._strikes[name] >= self.patience

    def _check_growth(self, update_norm: float) -> None:
        count, total = self._rates
        # After a resume within an epoch, the first mean covers steps whose rates are not known.
        if count < self._num_recent or total <= 0 or not math.isfinite(update_norm):
            return
        update = update_norm * count / total
        usual = self._usual_update if self._usual_update is not None else update
        self._num_updates += 1
        if self._num_updates > _GROWTH_WARM_UP and update > self.max_growth * usual:
            self._stop(
                f"the gradient grew to {update / usual:.0f} times its usual size",
                "lower `learning_rate` or `momentum`",
            )
        self._usual_update = _GROWTH_WEIGHT * usual + (1 - _GROWTH_WEIGHT) * update

    def _recent(self, name: str, mean: float) -> float:
        """Mean since the last check, from the running mean over the epoch."""
        count, earlier = self._before.get(name, (0, 0.0))
        self._before[name] = (self.epoch_step, mean)
        self._num_recent = self.epoch_step - count
        return (self.epoch_step * mean - count * earlier) / max(1, self._num_recent)

    def _stop(self, finding: str, remedy: str) -> None:
        self.reason = f"Training stopped at step {self.step}: {finding}; {remedy} {HOW_TO_CHANGE}."
        raise TrainingCollapsed(self.reason)
