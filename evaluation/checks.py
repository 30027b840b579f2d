"""What every evaluation asks of the numbers on its command line."""

import math
from typing import Any

MAX_SEED = 2**31 - 1


def check_counts(config: Any, *names: str, at_least: int = 1) -> None:
    """Raises `ValueError` unless these fields of a config are at least so many."""
    for name in names:
        if getattr(config, name) < at_least:
            raise ValueError(
                f"`{_flag(name)}` must be at least {at_least}. Received: {getattr(config, name)}"
            )


def check_positive(config: Any, *names: str) -> None:
    """Raises `ValueError` unless these fields of a config are None, or finite and over 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{_flag(name)}` must be a finite number over 0. Received: {value}")


def check_seed(config: Any) -> None:
    """Raises `ValueError` unless the field `seed` of a config is one that all draws can take."""
    if not 0 <= config.seed <= MAX_SEED:
        raise ValueError(f"`--seed` must be between 0 and {MAX_SEED}. Received: {config.seed}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
