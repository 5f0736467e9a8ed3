"""The packages of the extra `search`, which are imported when they are first used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from isthmus.errors import InputError


def faiss() -> Any:
    """Return the module faiss.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    return _imported("faiss")


def lancedb() -> Any:
    """Return the module lancedb, which logs errors alone.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    os.environ.setdefault("LANCE_LOG", "error")  # it logs each new table as a warning, once it is imported
    return _imported("lancedb")


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            f"the search of similar rows needs the package {name}; install it with pip install 'isthmus[search]'"
        ) from None
