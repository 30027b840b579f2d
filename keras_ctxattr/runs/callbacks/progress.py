"""One line that says how training goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from keras_ctxattr.runs.callbacks.steps import StepCallback, TimeLimit

if TYPE_CHECKING:
    from keras_ctxattr.runs import Checkpoint


_BAR_WIDTH = 20  # letters
_UP_AND_CLEAR = "\x1b[1A\x1b[2K"


class ProgressLine(StepCallback):
    """Shows step, pairs or steps per second, loss, accuracy and time left, on the error stream.

    A terminal gets one line with a bar, drawn over; a file gets a line now and then. Nothing has to
    be closed: when `fit` ends in an error, the message stands below the last line. Time left counts
    training only.

    Args:
        clock: Measures the training time, and may limit it.
        num_steps: Steps of the whole run; None if only the time is limited.
        count_pairs: Gives the number of pairs that the epoch has seen, for the rate; None shows
            steps per second.
        every_seconds: Time between two lines where there is no terminal.
        console: Where to write; the error stream by default.
        resumed: The checkpoint that training goes on from.
    """

    def __init__(
        self,
        clock: TimeLimit,
        *,
        num_steps: int | None = None,
        count_pairs: Callable[[], float] | None = None,
        every_seconds: float = 30.0,
        console: Console | None = None,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__(resumed=resumed)
        self.clock = clock
        self.num_steps = num_steps
        self.count_pairs = count_pairs
        self.every_seconds = every_seconds
        self.console = console or Console(stderr=True)
        self._pairs_per_step: float | None = None
        self._held_out: float | None = None
        self._logs: dict[str, float] = {}
        self._drawn = False
        self._shown_at = -float("inf")
        self._first = (self.step, clock.elapsed_seconds)
        self._num_warm = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts measuring the rate."""
        self._num_warm = 0
        self._shown_at = time.monotonic()
        self._drawn = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows where training is, if it is time to."""
        super().on_train_batch_end(batch, logs)
        self._logs = logs or {}
        if self._num_warm < 2:
            # The first step compiles; and the clock, last in the list, lags one step behind.
            self._num_warm += 1
            self._first = (self.step, self.clock.elapsed_seconds)
        pause = 0.5 if self.console.is_terminal else self.every_seconds
        if time.monotonic() - self._shown_at >= pause:
            self._count()
            self._show()

    def _count(self) -> None:
        """Measures the pairs in a step while the epoch's metrics stand: its end resets them."""
        if self.count_pairs is not None and self.epoch_step:
            self._pairs_per_step = self.count_pairs() / self.epoch_step

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the held-out accuracy."""
        super().on_epoch_end(epoch, logs)
        self._held_out = (logs or {}).get("val_accuracy", self._held_out)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the last line."""
        self._show()

    def describe(self) -> str:
        """The line itself."""
        total = f" of {self.num_steps}" if self.num_steps else ""
        parts = [f"step {self.step}{total}", self._rate_text()]
        parts += [f"{name} {self._logs[name]:.3f}" for name in ("loss",) if name in self._logs]
        if "accuracy" in self._logs:
            parts.append(f"accuracy {self._logs['accuracy']:.1%}")
        for name in ("dead_bits", "duplicate_bits"):
            if round(self._logs.get(name, 0)):
                parts.append(f"{self._logs[name]:.0f} {name.replace('_', ' ')}")
        if self._held_out is not None:
            parts.append(f"held out {self._held_out:.1%}")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"{_duration(left)} left")
        return " · ".join(part for part in parts if part)

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        line = self.describe()
        if self.console.is_terminal:
            done = round(_BAR_WIDTH * self._fraction())
            line = f"{'━' * done}{'╌' * (_BAR_WIDTH - done)} {line}"[: self.console.width - 1]
            # Up and over the line before, rather than a live display, which an error leaves behind.
            line = (_UP_AND_CLEAR if self._drawn else "") + line
        self._drawn = True
        self.console.file.write(line + "\n")
        self.console.file.flush()

    def _fraction(self) -> float:
        by_steps = self.step / self.num_steps if self.num_steps else 0.0
        return min(1.0, max(by_steps, self.clock.fraction))

    def _steps_per_second(self) -> float:
        seconds = self.clock.elapsed_seconds - self._first[1]
        return (self.step - self._first[0]) / seconds if seconds > 0 else 0.0

    def _rate_text(self) -> str:
        rate = self._steps_per_second()
        if not rate:
            return ""
        if self._pairs_per_step is None:
            return f"{rate:.1f} steps/s"
        return f"{rate * self._pairs_per_step:.0f} pairs/s"

    def _seconds_left(self) -> float | None:
        """The nearer of the two ends, in seconds of training."""
        ends = []
        if self.clock.limit_seconds is not None:
            ends.append(max(0.0, self.clock.limit_seconds - self.clock.elapsed_seconds))
        rate = self._steps_per_second()
        if self.num_steps and rate:
            ends.append(max(0.0, (self.num_steps - self.step) / rate))
        return min(ends, default=None)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
