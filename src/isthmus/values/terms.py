"""The argument `penalties`: further terms of the criterion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

from isthmus.errors import InputError
from isthmus.parts.own_penalties import penalty_named
from isthmus.parts.penalties import CustomPenalty, Penalty
from isthmus.values.contractions import Contraction
from isthmus.values.sparsities import KLRate, Prior

EXAMPLES = "a value such as L1(weight=0.1) or Contraction(), or a function (output, coder) -> (batch,)"


RESERVED = ("reconstruction", "divergence", "bound", "sparsity", "dead_units", "gate_reconstruction")
"""Names of terms that no function of a user has."""


def penalties_of(given: Sequence[Any], *, non_negative: bool) -> dict[str, Penalty]:
    """Return the penalties of a list by the names of their terms; a name that occurs again gets a number.

    Args:
        given: values, functions, or names of registered functions.
        non_negative: True if the units of the code are never below 0, which decides the constant of a prior.

    Raises:
        InputError: an entry that is none of these.

    Example:
        >>> list(penalties_of([Contraction(), Contraction(of="reconstruction")], non_negative=True))
        ['contraction', 'contraction_2']
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"penalties={given!r}: give a list, of {EXAMPLES}")
    found: dict[str, Penalty] = {}
    counts = Counter(RESERVED)
    for entry in given:
        term, penalty = _named_penalty(entry, non_negative)
        counts[term] += 1
        found[f"{term}_{counts[term]}" if counts[term] > 1 else term] = penalty
    return found


def _named_penalty(entry: Any, non_negative: bool) -> tuple[str, Penalty]:
    """Return the name of the term and the penalty of an entry of the list."""
    entry = penalty_named(entry) if isinstance(entry, str) else entry
    if isinstance(entry, Contraction | Prior | KLRate):
        return entry.term, entry.penalty(non_negative)
    if not callable(entry) or isinstance(entry, type):
        raise InputError(f"penalties holds {entry!r}; give {EXAMPLES}")
    penalty = CustomPenalty(entry)
    title = penalty.title.replace(".", "_")
    return f"{title}_penalty" if hasattr(nn.ModuleDict, title) else title, penalty
