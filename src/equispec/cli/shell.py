"""The one place for exit codes, error messages and warnings, and what all commands print with."""

import errno
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer

from equispec.errors import EquispecError, EquispecWarning

WIDTH = 160  # characters of a table that does not go to a terminal

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

# ClickException: typer brings it from click or from a parser of its own, depending on its version, and exports a child
_PARSER_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def run_app(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; errors and our warnings become one sentence each on stderr.

    Mistakes of the program itself are not caught: they show their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? for ∥ and Å
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # of parsers and libraries: nothing a user can act on
        warnings.simplefilter("always", EquispecWarning)
        warnings.showwarning = _show_warning
        try:
            code = app(args=list(arguments), prog_name="equispec", standalone_mode=False) or 0
            sys.stdout.flush()  # here, where a broken pipe is understood
            return code
        except EquispecError as error:
            return _fail(str(error), error.exit_code)
        except _PARSER_ERROR as error:
            return _fail_usage(error)
        except (KeyboardInterrupt, typer.Abort):
            return _fail("interrupted", 130)
        except OSError as error:  # the reader of our output has left, as `head` does, or there is no room for it
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer
            return 1 if error.errno == errno.EPIPE else _fail("the output cannot be written: no space is left", 2)


def show_table(*columns: str, rows: Iterable[Sequence[str]], title: str | None = None, names: bool = True) -> None:
    """Print a plain table; names of columns of numbers begin with '>'; names=False leaves the row of names out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a file or a pipe has no width to respect
        console = Console(highlight=False, markup=False, width=WIDTH)
    made = Table(box=SIMPLE_HEAD if names else None, show_header=names, pad_edge=False)
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        made.add_row(*row)
    if title:
        console.print(title, style="bold")
    console.print(made)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def note(text: str) -> None:
    """Something to know that is not a result: on stderr, so that it never mixes with output for programs."""
    print(text, file=sys.stderr)


@contextmanager
def last_word(text: str) -> Iterator[None]:
    """What to say where work is interrupted by hand that can go on."""
    try:
        yield
    except KeyboardInterrupt:
        note(text)
        raise


def _fail(message: str, code: int) -> int:
    print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _fail_usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # a command without anything: its help is the answer
        print(error.format_message())
        return 2
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    return _fail(error.format_message().rstrip(".") + hint, 2)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, EquispecWarning):
        print(f"Warning: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=sys.stderr)
