"""Command-line flags made from a frozen dataclass, and errors as one line.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        images: list[str]
        seed: int = 0

    if __name__ == "__main__":
        run_script(main, parse_flags(Config, sys.argv[1:]))

The help texts come from the dataclass's docstring. A field without a default is a required flag; a
list is a flag that may be repeated; a bool makes `--name` and `--no-name`. An unknown flag, or a
value that the dataclass refuses, is an error: one line, exit status 2.
"""

import argparse
import dataclasses
import inspect
import math
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from keras_ctxattr.cli.app import load_tensorflow, print_warnings_in_a_line

_ERROR_STATUS = 2
Config = TypeVar("Config")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number. Received: {text}")
    return number


_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: _finite_float,
    Path: Path,
}


def parse_flags(
    config_class: type[Config], argv: Sequence[str], *, prog: str | None = None
) -> Config:
    """Gives the config that a command line asks for.

    Args:
        config_class: a dataclass whose fields are str, int, float, bool, Path, a list (or a
            `tuple[..., ...]`) of those, or one of them or None. The lines of its docstring below
            "Attributes:" are the help texts.
        argv: the command line without the program's name.
        prog: the program's name in messages; from `sys.argv` if None.

    Returns:
        An instance of `config_class`.

    Raises:
        SystemExit: with status 2, after one line on the error stream, if a flag is unknown,
            missing or has a bad value; with status 0 after `--help`.
    """
    summary, texts = _help_texts(config_class)
    parser = _Parser(prog=prog, description=summary, allow_abbrev=False)
    kinds = typing.get_type_hints(config_class)
    for field in _fields(config_class):
        _add_flag(parser, field, kinds[field.name], texts.get(field.name, ""))
    values = vars(parser.parse_args(list(argv)))
    for name, kind in kinds.items():
        if typing.get_origin(kind) is tuple and values.get(name) is not None:
            values[name] = tuple(values[name])
    try:
        return config_class(**{name: value for name, value in values.items() if value is not None})
    except (ValueError, TypeError) as error:
        parser.error(str(error))


def format_flags(config: Any) -> str:
    """Gives the command-line flags that `parse_flags` would turn into this config.

    Flags at their defaults are left out.
    """
    words: list[str] = []
    for field in _fields(type(config)):
        value = getattr(config, field.name)
        if value is None or value == _default(field):
            continue
        flag = _flag(field.name)
        if isinstance(value, bool):
            words.append(flag if value else _flag(f"no_{field.name}"))
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for item in values for word in (flag, str(item))]
    return shlex.join(words)


def run_script(main: Callable[[Any], Any], config: Any) -> None:
    """Calls `main(config)`; an error that the user can mend becomes one line and status 2.

    TensorFlow, if it is not loaded yet, is loaded without what it prints at start-up. (A script
    that imports it by itself calls `keras_ctxattr.cli.app.load_tensorflow` before.)

    Raises:
        SystemExit: with status 2 after such an error, 130 if the user interrupted.
    """
    print_warnings_in_a_line()
    try:
        load_tensorflow()
        main(config)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(_ERROR_STATUS) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        # TensorFlow's errors derive from nothing narrower, and it need not be imported here.
        if not type(error).__module__.startswith("tensorflow."):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(_ERROR_STATUS) from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        print(f"error: {line.rstrip('.')}. See --help", file=sys.stderr)
        raise SystemExit(_ERROR_STATUS)


def _add_flag(
    parser: argparse.ArgumentParser, field: dataclasses.Field, kind: Any, text: str
) -> None:
    kind = _without_none(kind)
    default = _default(field)
    options: dict[str, Any] = {"dest": field.name, "default": None}
    options["required"] = default is dataclasses.MISSING
    if default not in (dataclasses.MISSING, None) and default != [] and default != ():
        text += f" (default: {default})"
    options["help"] = text.replace("%", "%%")
    if typing.get_origin(kind) in (list, tuple):
        kind = typing.get_args(kind)[0]
        options["action"] = "append"
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind in _CONVERTERS:
        options["type"], options["metavar"] = _CONVERTERS[kind], field.name.upper()
    else:
        raise TypeError(f"`{field.name}` must be of a type that a flag can have. Received: {kind}")
    parser.add_argument(_flag(field.name), **options)


def _fields(config_class: type) -> tuple[dataclasses.Field, ...]:
    return tuple(field for field in dataclasses.fields(config_class) if field.init)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [part for part in typing.get_args(kind) if part is not type(None)]
        return kinds[0] if len(kinds) == 1 else kind
    return kind


def _help_texts(config_class: type) -> tuple[str, dict[str, str]]:
    """Reads the summary and each attribute's text from a Google-style docstring."""
    summary, _, attributes = (inspect.getdoc(config_class) or "").partition("Attributes:")
    attributes = attributes.partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
    return summary.strip(), {name: " ".join(text.split()) for name, text in found}


def _one_line(error: BaseException) -> str:
    """Gives an error's message without line breaks; TensorFlow's long ones cut short."""
    text = str(error).split("[[{{node")[0]
    return " ".join(text.split())[:1000] or type(error).__name__
