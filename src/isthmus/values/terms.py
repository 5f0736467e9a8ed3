"""The argument `penalties`: further terms of the criterion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

from torch import nn

from isthmus.errors import InputError
from isthmus.parts.own_penalties import penalty_named
from isthmus.parts.penalties import CustomPenalty, Penalty
from isthmus.values.code_penalties import MMD, BitBalance, Decorrelation, Neighbours, TotalCorrelation
from isthmus.values.contractions import Contraction
from isthmus.values.sparsities import (
    L1,
    NON_NEGATIVE,
    ElasticNet,
    GroupL2,
    KLRate,
    LogPenalty,
    Prior,
    StudentT,
    Topographic,
)

EXAMPLES = "a value such as L1(weight=0.1) or Contraction(), or a function (output, coder) -> (batch,)"


PenaltyValue = Contraction | Prior | KLRate | MMD | TotalCorrelation | BitBalance | Decorrelation | Neighbours
"""Values that the list takes."""

STRINGS: dict[str, PenaltyValue] = {
    "l1": L1(), "elastic-net": ElasticNet(), "group-l2": GroupL2(),
    "topographic": Topographic(), "student-t": StudentT(),
    "log": LogPenalty(), "kl": KLRate(), "contraction": Contraction(),
    "mmd": MMD(), "total-correlation": TotalCorrelation(),
    "bit-balance": BitBalance(), "decorrelation": Decorrelation(), "neighbours": Neighbours(),
}  # fmt: skip
"""Strings that stand for values in the list."""

RESERVED = ("reconstruction", "divergence", "bound", "sparsity", "dead_units", "gate_reconstruction", "prefixes")
"""Names of terms that no function of a user has."""


def penalties_of(
    given: Sequence[Any], code_activation: str | nn.Module, taken: Collection[str] = ()
) -> dict[str, Penalty]:
    """Return the penalties of a list by the names of their terms; a name that occurs again gets a number.

    Args:
        given: values, their strings in `STRINGS`, functions, or names of registered functions.
        code_activation: activation of the code, by name or as the module of a sparsity.
        taken: names of other terms.

    Raises:
        InputError: an entry that is none of these; a value that does not fit the code, or whose argument has no effect.

    Example:
        >>> list(penalties_of([Contraction(), Contraction(of="reconstruction")], "sigmoid"))
        ['contraction', 'contraction_2']
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"penalties={given!r}: give a list, of {EXAMPLES}")
    found: dict[str, Penalty] = {}
    for entry in given:
        term, penalty = _named_penalty(entry, code_activation)
        names = (f"{term}_{number}" for number in count(2))
        while term in (*RESERVED, *taken, *found):
            term = next(names)
        found[term] = penalty
    return found


def _named_penalty(entry: Any, code_activation: str | nn.Module) -> tuple[str, Penalty]:
    """Return the name of the term and the penalty of an entry of the list."""
    if isinstance(entry, str):
        entry = STRINGS[entry] if entry in STRINGS else penalty_named(entry)
    if isinstance(entry, PenaltyValue):
        _check_value(entry, code_activation)
        return entry.term, entry.penalty(not isinstance(code_activation, str) or code_activation in NON_NEGATIVE)
    if not callable(entry) or isinstance(entry, type):
        raise InputError(f"penalties holds {entry!r}; give {EXAMPLES}")
    penalty = CustomPenalty(entry)
    title = penalty.title.replace(".", "_")
    return f"{title}_penalty" if hasattr(nn.ModuleDict, title) else title, penalty


def _check_value(value: PenaltyValue, code_activation: str | nn.Module) -> None:
    """Refuse a value that does not fit the code, and columns of norm 1, which belong to `sparsity`."""
    if isinstance(value, MMD) and code_activation != "linear":
        name = code_activation if isinstance(code_activation, str) else type(code_activation).__name__
        raise InputError(
            f"penalties holds {value!r}, which needs codes of any sign and size, and code_activation is {name!r}; give "
            "code_activation='linear' without a sparsity"
        )
    if isinstance(value, KLRate | BitBalance | Decorrelation) and code_activation != "sigmoid":
        raise InputError(
            f"penalties holds {value!r}, which needs units in (0, 1), and code_activation is {code_activation!r}; give "
            "code_activation='sigmoid'"
        )
    if isinstance(value, Prior) and value.unit_columns is not None:
        raise InputError(f"penalties holds {value!r}: unit_columns has an effect in sparsity=... alone; leave it out")
