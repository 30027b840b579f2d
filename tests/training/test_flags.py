import dataclasses
import shlex
from pathlib import Path

import pytest

from training.flags import format_flags, parse_flags, run_script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to do.

    It has a second paragraph.

    Attributes:
        images: folder; may be
            repeated.
        run: run folder, 100 % yours.
        steps: number of steps.
        rate: a rate.
        sizes: some sizes.
        fast: whether to hurry.
    """

    images: list[str]
    run: Path
    steps: int | None = None
    rate: float = 0.5
    sizes: tuple[int, ...] = ()
    fast: bool = False

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ValueError(f"`--rate` must be at most 1. Received: {self.rate}")


REQUIRED = ["--images", "a b", "--run", "runs/x"]


def test_every_type_is_read():
    argv = [*REQUIRED, "--images", "c", "--steps", "3", "--sizes", "1", "--sizes", "2", "--fast"]
    config = parse_flags(Config, argv)
    assert config == Config(
        images=["a b", "c"], run=Path("runs/x"), steps=3, sizes=(1, 2), fast=True
    )


def test_defaults_are_the_dataclass_s():
    assert parse_flags(Config, REQUIRED) == Config(images=["a b"], run=Path("runs/x"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*REQUIRED, "--bogus", "1"], "--bogus"),
        ([*REQUIRED, "--step", "1"], "--step"),  # no abbreviations
        ([*REQUIRED, "--steps", "many"], "many"),
        ([*REQUIRED, "--rate", "2"], "at most 1"),
        ([*REQUIRED, "--rate", "nan"], "--rate: must be a finite number. Received: nan"),
        ([*REQUIRED, "--rate", "inf"], "--rate: must be a finite number"),
        (["--images", "a"], "--run"),
        ([*REQUIRED, "word"], "word"),
    ],
)
def test_mistakes_are_one_line_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_flags(Config, argv)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_help_shows_the_docstring(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_flags(Config, ["--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "folder; may be repeated." in shown
    assert "100 % yours" in shown
    assert "(default: 0.5)" in shown


def test_formatted_flags_read_back_as_the_same():
    config = Config(images=["a b", "c"], run=Path("x"), steps=0, sizes=(4,), fast=True)
    assert parse_flags(Config, shlex.split(format_flags(config))) == config


@pytest.mark.parametrize("error", [ValueError("two\nlines"), FileNotFoundError("gone")])
def test_an_error_that_can_be_mended_is_one_line(error, capsys):
    def main(config):
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(main, None)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError):
        run_script(lambda config: {}["missing"], None)
