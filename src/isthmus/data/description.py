"""Description of the columns of a table: their units and ranges, and what looks wrong in them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.data.column_units import learn_column
from isthmus.data.dates import read_times, text_formats
from isthmus.data.dtypes import LEFT_OUT, checked_dtypes, refuse_unknown_columns
from isthmus.data.table_columns import EXACT_INTEGERS, TableColumn, as_numbers
from isthmus.data.text_numbers import is_text
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

MARKERS = (-9999.0, -999.0, -99.0, 999.0, 9999.0, 99999.0)
"""Numbers that often stand for missing values."""

FAR = 3.0
"""Distance of a marker from the other values, in their range, from which it is suspected."""

SHOWN_LEVELS = 6
"""Largest number of levels that are shown."""

MIN_IDENTIFIERS = 20
"""Smallest number of different whole numbers that are suspected to be identifiers."""


@dataclass(frozen=True)
class ColumnDescription:
    """Unit, values and warnings of a column.

    Attributes:
        name: of the column.
        unit: "real", "count", "binary", "categorical", "date"; "id", "ignore" or "text" of a column declared so;
            "refused" for a column that no model reads.
        values: its levels, or its range.
        missing: the fraction of missing values.
        example: the first value.
        warnings: what looks wrong, each with the option that changes it.
    """

    name: str
    unit: str
    values: str
    missing: float
    example: str
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        return asdict(self) | {"warnings": list(self.warnings)}


def describe_table(table: pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> list[ColumnDescription]:
    """Describe each column of a table, as `fit` takes it.

    Args:
        table: the rows.
        dtypes: declared types of columns, see `isthmus.data.dtypes`.

    Example:
        >>> import pandas as pd
        >>> x = [0.5, -9999.0, *[0.1] * 28]
        >>> table = pd.DataFrame({"id": range(30), "city": ["Rome", "Oslo"] * 15, "x": x})
        >>> found = {column.name: column for column in describe_table(table)}
        >>> found["city"].unit, found["city"].values
        ('binary', 'Oslo, Rome')
        >>> found["id"].warnings
        ('30 different whole numbers: leave it out if it is an identifier (--dtype id=id)',)
        >>> found["x"].warnings  # doctest: +NORMALIZE_WHITESPACE
        ('-9999 occurs once, far from the other values: if it stands for a missing value, give na (--na -9999)',)
    """
    declared = checked_dtypes(dtypes)
    refuse_unknown_columns(declared, [str(name) for name in table.columns])
    return [_described(str(name), table.iloc[:, j], declared.get(str(name))) for j, name in enumerate(table.columns)]


def _described(name: str, values: pd.Series, declared: str | None) -> ColumnDescription:
    present = values.dropna()
    missing = 1 - len(present) / max(1, len(values))
    example = _example(present.iloc[0]) if len(present) else ""
    if declared in (*LEFT_OUT, "text"):
        return ColumnDescription(name, str(declared), _distinct(present), missing, example)
    try:
        learned = learn_column(name, values, declared)
    except InputError as error:
        return ColumnDescription(name, "refused", _distinct(present), missing, example, (str(error),))
    shown = _levels(learned.levels) if learned.levels else _range(learned, present)
    return ColumnDescription(name, learned.unit, shown, missing, example, tuple(_warnings(name, present, learned)))


def _example(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:30]


def _distinct(present: pd.Series) -> str:
    return pluralize(int(present.astype(str).nunique()), "value")


def _levels(levels: Sequence[Any]) -> str:
    more = f", ... ({len(levels)})" if len(levels) > SHOWN_LEVELS else ""
    return ", ".join(map(str, levels[:SHOWN_LEVELS])) + more


def _range(learned: TableColumn, present: pd.Series) -> str:
    if not len(present):
        return "none"
    if learned.dates is not None:
        times = read_times(present, learned.dates.text, learned.dates.zone)
        shown = "%Y-%m-%d %H:%M:%S" if learned.dates.has_times else "%Y-%m-%d"
        return f"{times.min().strftime(shown)} to {times.max().strftime(shown)}"
    if present.dtype.kind in "iu":
        ends = sorted({int(present.min()), int(present.max())})
        return " to ".join(map(str, ends))
    numbers = as_numbers(present)[0]
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        return f"{low:g}"
    digits = next((n for n in (6, 9, 12) if f"{low:.{n}g}" != f"{high:.{n}g}"), 17)
    return f"{low:.{digits}g} to {high:.{digits}g}"


def _warnings(name: str, present: pd.Series, learned: TableColumn) -> list[str]:
    """Return what looks wrong in a column that models read."""
    found, quoted, as_id, n_values = [], shlex.quote(name), shlex.quote(f"{name}=id"), present.nunique()
    if not n_values:
        return [f"it has no values: leave it out (--exclude {quoted})"]
    if n_values == 1:
        found.append(f"it has one value only ({present.iloc[0]}): it says nothing (--exclude {quoted})")
    if learned.dates is not None and is_text(present) and len(formats := text_formats(present.astype(object))) > 1:
        found.append(
            f"dates such as {present.iloc[0]!r} are read as {formats[0]}, and {formats[1]} fits them too; write dates "
            "as 2024-01-31 if that is wrong"
        )
    if is_text(present) or present.dtype.kind not in "iuf":
        return found
    numbers = present.to_numpy(np.float64)
    whole = len(numbers) > 0 and bool((numbers == np.rint(numbers)).all())
    if whole and np.abs(numbers).max() > EXACT_INTEGERS:
        found.append(f"numbers above 2^53 lose digits: leave it out if it is an identifier (--dtype {as_id})")
    elif whole and len(numbers) >= MIN_IDENTIFIERS and n_values == len(numbers) and _consecutive(numbers):
        found.append(f"{len(numbers):,} different whole numbers: leave it out if it is an identifier (--dtype {as_id})")
    found += [text for marker in MARKERS if (text := _marker(numbers, marker))]
    if whole and learned.unit == "real" and 2 < n_values <= SHOWN_LEVELS:
        found.append(
            f"whole numbers with {n_values} values, read as amounts: if they stand for classes, declare it "
            f"(--dtype {shlex.quote(f'{name}=category')})"
        )
    return found


def _consecutive(numbers: np.ndarray) -> bool:
    """Return whether different whole numbers fill most of their range, as row numbers do."""
    return float(numbers.max() - numbers.min()) < 2 * len(numbers)


def _marker(numbers: np.ndarray, marker: float) -> str:
    """Return a warning if a number that often stands for missing values occurs, far from the others."""
    others = numbers[numbers != marker]
    n = len(numbers) - len(others)
    if not n or not len(others):
        return ""
    spread = max(float(others.max() - others.min()), 1e-12)
    distance = max(float(others.min()) - marker, marker - float(others.max()))
    if distance < FAR * spread:
        return ""
    times = "once" if n == 1 else f"{n:,} times"
    return (
        f"{marker:g} occurs {times}, far from the other values: if it stands for a missing value, give na "
        f"(--na {marker:g})"
    )
