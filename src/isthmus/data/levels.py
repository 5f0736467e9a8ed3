"""Levels of categorical columns: which of them a value is, and values that are none of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from isthmus.errors import InputError, InputWarning, pluralize

UNKNOWN = ("missing", "refuse")
"""Treatments of values that a column did not have in training."""

MISSING_CODE, UNSEEN_CODE = -1, -2
"""Codes of missing values, and of values that are none of the levels."""


def plain(level: Any) -> Any:
    """Return a level of numpy as a Python value."""
    return level.item() if isinstance(level, np.generic) else level


def level_codes(levels: Sequence[Any], values: pd.Series) -> Int[np.ndarray, " rows"]:
    """Return the number of the level of each value, `MISSING_CODE` or `UNSEEN_CODE`.

    A value that equals no level is compared as text, as files hold it: the number 1.0 is the level "1", and the text
    "1" the level 1.

    Example:
        >>> level_codes(["1", "2", "A"], pd.Series([2.0, 1.0, None, 7.0])).tolist()
        [1, 0, -1, -2]
        >>> level_codes([False, True], pd.Series(["true", "False"])).tolist()
        [1, 0]
    """
    codes, unique = pd.factorize(values)
    distinct = pd.Index(unique, dtype=object)
    found = pd.Index(list(levels), dtype=object).get_indexer_for(distinct)
    spelled = _by_spelling(levels)
    for i in np.flatnonzero(found < 0):
        found[i] = next((spelled[text] for text in _spellings(distinct[i]) if text in spelled), UNSEEN_CODE)
    return np.where(codes < 0, MISSING_CODE, np.append(found, MISSING_CODE)[codes])


def _by_spelling(levels: Sequence[Any]) -> dict[str, int]:
    """Return the numbers of the levels by their texts; nothing if two levels have the same text."""
    if len({_spellings(level)[0] for level in levels}) < len(levels):
        return {}
    return {text: i for i, level in enumerate(levels) for text in _spellings(level)}


def _spellings(value: Any) -> tuple[str, ...]:
    """Return the texts that files have for a value."""
    value = plain(value)
    if isinstance(value, bool):
        return (str(value), str(value).lower(), str(value).upper())
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)), str(value))
    return (str(value),)


@dataclass
class UnseenLevels:
    """Values of a table that are none of the levels of their columns: refused, or counted as missing.

    Attributes:
        treatment: "missing" or "refuse".
        fills: True if such a cell gets the most frequent level of training, since the model refuses missing values.
        notes: for each column that has such values, their number and an example.
    """

    treatment: str = "missing"
    fills: bool = False
    notes: list[str] = field(default_factory=list)

    def treated(
        self, name: str, levels: Sequence[Any], frequent: int | None, values: pd.Series
    ) -> Int[np.ndarray, " rows"]:
        """Return the codes of the levels of a column, in which unseen values are missing or the most frequent level.

        Args:
            name: of the column.
            levels: its levels.
            frequent: the number of the most frequent one; None if it is not known.
            values: of the column.

        Raises:
            InputError: an unseen value, if these are refused or the most frequent level is needed and not known.
        """
        codes = level_codes(levels, values)
        rows = np.flatnonzero(codes == UNSEEN_CODE)
        if not len(rows):
            return codes
        example = f"{plain(values.iloc[rows[0]])!r} at row {rows[0]}"
        replacement = frequent if self.fills else MISSING_CODE
        if self.treatment == "refuse" or replacement is None:
            raise InputError(
                f"column {name!r} contains {example}, which is not one of the {len(levels)} values that it had when "
                "the model was fitted"
            )
        treated = f"read as {levels[replacement]!r}, the most frequent one" if self.fills else "read as missing"
        self.notes.append(
            f"column {name!r} has {pluralize(len(rows), 'value')} that it did not have in training, such as {example}, "
            f"{treated}"
        )
        codes[rows] = replacement
        return codes

    def warn(self) -> None:
        """Warn of the columns with unseen values in one line."""
        if self.notes:
            text = f"{'; '.join(self.notes)}; unknown='refuse' (--unknown refuse) makes this an error"
            warnings.warn(text, InputWarning, stacklevel=3)
