"""What the commands say: results on stdout, everything else on stderr, and one line where it fails."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from typer import Abort

from isthmus.errors import InputError, InputWarning

if TYPE_CHECKING:
    from rich.table import Table

DEBUG = "ISTHMUS_DEBUG"
"""The variable that, set to 1, lets an unexpected exception show where it came from."""

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
PIPED_WIDTH = 200
"""Columns of a table that no terminal bounds: nothing is cut off for a program that reads it."""


class JobFailed(Exception):
    """The job ran and did not succeed: one line, exit code 1."""


class Log:
    """What a command tells beside its result, on stderr; a quiet one tells nothing.

    Args:
        quiet: say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        if quiet:
            warnings.simplefilter("ignore", InputWarning)  # until the command ends: `run_command` keeps what was before

    def info(self, text: str) -> None:
        """A line of the log."""
        self._print(text, "")

    def note(self, text: str) -> None:
        """Something that was decided or is unusual, and need not be wrong."""
        self._print(f"note: {text}", "cyan")

    def warn(self, text: str) -> None:
        """Something that is wrong with a result."""
        self._print(f"warning: {text}", "yellow")

    def _print(self, text: str, style: str) -> None:
        if self.quiet:
            return
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
        console.print(one_line(text), style=style)


def one_line(text: str) -> str:
    """The text without line breaks.

    Example:
        >>> one_line("two\\n  lines")
        'two lines'
    """
    return " ".join(text.split())


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on stdout; NaN and infinities, which JSON has no words for, become null."""
    print(json.dumps(_plain(result), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and objects of them."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def print_table(table: Table) -> None:
    """A table on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def run_command(work: Callable[[], Any]) -> int:
    """Run a command and turn what it raises into one line on stderr and an exit code."""
    try:
        with _input_warnings_once():
            code = work()
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # typer has turned Ctrl-C into this already
            raise KeyboardInterrupt
        return code if isinstance(code, int) else EXIT_OK
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        _redirect_stdout_to_null()
        return EXIT_FAILURE
    except JobFailed as error:
        return _fail(str(error), EXIT_FAILURE)
    except InputError as error:
        return _fail(str(error), EXIT_USAGE)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own: wrong usage
            return _fail(
                error.format_message().rstrip(".") + _help_hint(error), getattr(error, "exit_code", EXIT_USAGE)
            )
        if os.environ.get(DEBUG) == "1":
            raise
        return _fail(_unexpected(error), EXIT_FAILURE)


@contextmanager
def _input_warnings_once() -> Iterator[None]:
    """What is first said of the input in one line on stderr, however often it is read; other warnings as ever."""
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show = warnings.showwarning

        def show_once(
            message: Warning | str, category: type[Warning], filename: str, lineno: int,
            file: TextIO | None = None, line: str | None = None,
        ) -> None:  # fmt: skip
            if not issubclass(category, InputWarning):
                show(message, category, filename, lineno, file, line)
            elif not shown:
                shown.append(str(message))
                Log().warn(str(message))

        warnings.showwarning = show_once
        yield


def _help_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"; see: {context.command_path} --help" if context is not None else ""


def _unexpected(error: Exception) -> str:
    """What went wrong where nobody foresaw it, and how to see more."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"not enough memory ({error or 'MemoryError'}); use fewer rows, a smaller batch_size or a smaller model"
    return f"{type(error).__name__}: {error}; this is not your input's fault; {DEBUG}=1 shows where it happened"


def _fail(message: str, code: int) -> int:
    with suppress(BrokenPipeError):
        print(f"isthmus: error: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def _redirect_stdout_to_null() -> None:
    """Nobody reads any more: the flush at the interpreter's end must not complain about it either."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
