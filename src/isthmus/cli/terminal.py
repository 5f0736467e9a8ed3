"""Output of the commands: results on stdout, log and errors on stderr. A failure prints one line."""

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
"""Environment variable. With the value 1, an unexpected exception prints its traceback."""

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
PIPED_WIDTH = 200
"""Width of a table, in characters, if stdout is not a terminal."""


class JobFailed(Exception):
    """Failure of a job whose input was valid. The message is one line; the exit code is 1."""


class Log:
    """Log of a command on stderr.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        if quiet:
            warnings.simplefilter("ignore", InputWarning)  # `run_command` restores the filters

    def info(self, text: str) -> None:
        """Print one line."""
        self._print(text, "")

    def note(self, text: str) -> None:
        """Print a note: an automatic decision or an unusual, possibly correct, fact."""
        self._print(f"note: {text}", "cyan")

    def warn(self, text: str) -> None:
        """Print a warning: a result may be wrong."""
        self._print(f"warning: {text}", "yellow")

    def _print(self, text: str, style: str) -> None:
        if self.quiet:
            return
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
        console.print(one_line(text), style=style)


def one_line(text: str) -> str:
    """Replace line breaks and runs of spaces by single spaces.

    Example:
        >>> one_line("two\\n  lines")
        'two lines'
    """
    return " ".join(text.split())


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout. NaN and infinity, which JSON cannot represent, become null."""
    print(json.dumps(_plain(result), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Convert arrays, tuples and mappings to JSON types."""
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
    """Print a table on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def run_command(work: Callable[[], Any]) -> int:
    """Run a command and return its exit code. An exception becomes one line on stderr."""
    try:
        with _input_warnings_once():
            code = work()
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # typer converts Ctrl-C to this code
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
        if hasattr(error, "format_message"):  # usage error from typer
            return _fail(
                error.format_message().rstrip(".") + _help_hint(error), getattr(error, "exit_code", EXIT_USAGE)
            )
        if os.environ.get(DEBUG) == "1":
            raise
        return _fail(_unexpected(error), EXIT_FAILURE)


@contextmanager
def _input_warnings_once() -> Iterator[None]:
    """Print only the first `InputWarning`, as one line on stderr. Other warnings are unaffected."""
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
    """Describe an unexpected exception and the next step."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"not enough memory ({error or 'MemoryError'}); use fewer rows, a smaller batch_size or a smaller model"
    return f"internal error: {type(error).__name__}: {error}; run again with {DEBUG}=1 and report the traceback"


def _fail(message: str, code: int) -> int:
    with suppress(BrokenPipeError):
        print(f"isthmus: error: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def _redirect_stdout_to_null() -> None:
    """Redirect stdout after its reader closed it, so that the final flush of the interpreter does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
