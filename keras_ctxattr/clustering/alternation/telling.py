"""What an alternation says while it works, on the error stream."""

import sys


def say(line: str) -> None:
    """Prints a line."""
    print(line, file=sys.stderr, flush=True)


def say_described(done: int, total: int | None) -> None:
    """Prints how many patches are described."""
    say(f"  {done:,} of {total or 0:,} patches described")


def say_cut(done: int, total: int | None) -> None:
    """Prints how many patches are cut."""
    say(f"  {done:,} of {total or 0:,} patches cut")
