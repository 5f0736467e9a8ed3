"""The first line of a CSV file: column names, or a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

SAMPLE_LINES = 200
"""Lines below the first one that decide whether it is a header."""

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""Fields that are missing values by default."""


def is_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line of a CSV file holds column names.

    - Of numbers alone it is a row, unless the numbers are evenly spaced and the lines below are not: wavelengths or
      years are names. A line ",0,1,2,..." or "0,1,2,..." that pandas writes for columns without names is a header.
    - Of texts alone it is a header, unless all of them, at least two, occur again below in their columns.
    - Of both it is a row if a text of it occurs again below in its column, as the class of a row does; otherwise it is
      a header if it has a text above numbers alone, if the lines below have text where it has a number, or if its
      numbers are evenly spaced, as years, and those of most lines below are not.

    Args:
        first: the fields of the first line.
        body: the fields of some lines below.

    Example:
        >>> is_header(["a", "b"], [["1", "2"]]), is_header(["1", "2"], [["3", "4"]])
        (True, False)
        >>> is_header(["5.1", "3.5", "setosa"], [["4.9", "3.0", "setosa"]])
        False
        >>> is_header(["country", "2000", "2001", "2002"], [["Chile", "1.5", "1.7", "1.6"]])
        True
        >>> is_header(["400.0", "402.5", "405.0", "407.5"], [["0.11", "0.19", "0.12", "0.2"]])
        True
    """
    fields = [field.strip() for field in first]
    if not fields[0] and fields[1:] == [str(i) for i in range(len(fields) - 1)]:
        return True
    numeric = [j for j, field in enumerate(fields) if is_number(field)]
    texts = [j for j, field in enumerate(fields) if field and not is_number(field) and field not in MISSING_TEXTS]
    lines = [line for line in body if len(line) == len(fields)]
    again = [any(fields[j] == line[j].strip() for line in lines) for j in texts]
    if not numeric:
        return bool(texts) and not (len(texts) > 1 and all(again))
    numbers = [[float(line[j]) for j in numeric] for line in lines if all(is_number(line[j]) for j in numeric)]
    n_even = sum(map(_evenly_spaced, numbers))
    names = _evenly_spaced([float(fields[j]) for j in numeric]) and (not n_even or 2 * n_even < len(numbers))
    if not texts:
        return names and bool(lines)
    if any(again):
        return False
    if lines and any(all(is_number(line[j]) for line in lines) for j in texts):
        return True
    below = any(is_number(line[j]) for j in numeric for line in lines)
    return names or not below


def is_number(field: str) -> bool:
    """Return whether a field is a finite number in digits.

    Example:
        >>> [is_number(field) for field in ("1e-3", " 7 ", "1_000", "nan", "", "12a")]
        [True, True, False, False, False, False]
    """
    try:
        return "_" not in field and math.isfinite(float(field))
    except ValueError:
        return False


def _evenly_spaced(numbers: Sequence[float]) -> bool:
    """Return whether at least three numbers have equal differences that are not 0.

    Example:
        >>> _evenly_spaced([1.0, 3.0, 5.0]), _evenly_spaced([1.0, 3.0, 4.0]), _evenly_spaced([1.0, 2.0])
        (True, False, False)
    """
    if len(numbers) < 3:
        return False
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1)
    return step != 0 and all(
        math.isclose(number, numbers[0] + i * step, abs_tol=1e-6 * abs(step)) for i, number in enumerate(numbers)
    )
