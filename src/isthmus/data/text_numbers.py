"""Numbers that a table holds as text: with a decimal comma, a separator of thousands, or a percent sign."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MAX_SAMPLE = 10_000
"""Values of a column that decide how its text is read; all values are then read in this way."""

MOSTLY = 0.9
"""Fraction of numbers among the values of a text column above which the others are suspected to mean missing."""


@dataclass(frozen=True)
class NumberFormat:
    """The form of numbers in text.

    Attributes:
        decimal: the decimal sign.
        thousands: the separator of thousands; empty without one.
        percent: True if every number is followed by a percent sign, which is removed.

    Example:
        >>> NumberFormat(",", ".").pattern.fullmatch("-1.234,5") is not None
        True
        >>> import pandas as pd
        >>> NumberFormat(percent=True).parsed(pd.Series(["12%", "5.5 %"])).tolist()
        [12.0, 5.5]
    """

    decimal: str = "."
    thousands: str = ""
    percent: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression of a number in this form."""
        digits = rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|\d+" if self.thousands else r"\d+"
        number = rf"\s*[-+]?(?:(?:{digits})(?:{re.escape(self.decimal)}\d*)?|{re.escape(self.decimal)}\d+)"
        return re.compile(number + r"(?:[eE][-+]?\d+)?" + (r"\s*%\s*" if self.percent else r"\s*"))

    def parsed(self, values: pd.Series) -> pd.Series:
        """Return the numbers of texts in this form, float64; others become NaN."""
        import pandas as pd

        texts = values.astype("string").str.strip()
        texts = texts.where(texts.str.fullmatch(self.pattern.pattern), None)
        if self.percent:
            texts = texts.str.rstrip("%").str.strip()
        if self.thousands:
            texts = texts.str.replace(self.thousands, "", regex=False)
        if self.decimal != ".":
            texts = texts.str.replace(self.decimal, ".", regex=False)
        return pd.to_numeric(texts, errors="coerce").astype("float64")

    def __str__(self) -> str:
        parts = [f"{self.decimal!r} as decimal sign"] if self.decimal != "." else []
        parts += [f"{self.thousands!r} between thousands"] if self.thousands else []
        parts += ["a percent sign"] if self.percent else []
        return "numbers with " + " and ".join(parts) if parts else "numbers"


FORMATS = (
    NumberFormat(), NumberFormat(","), NumberFormat(".", ","), NumberFormat(",", "."), NumberFormat(",", " "),
    NumberFormat(percent=True), NumberFormat(",", percent=True),
)  # fmt: skip
"""Forms that are tried, in this order."""


def number_format(values: pd.Series, formats: tuple[NumberFormat, ...] = FORMATS) -> tuple[NumberFormat, float]:
    """Return the first form that most values of a text column have, and the fraction of values that have it.

    Missing values do not count.

    Example:
        >>> import pandas as pd
        >>> found, share = number_format(pd.Series(["20,5", "1,25", None]))
        >>> found.decimal, share
        (',', 1.0)
        >>> number_format(pd.Series(["12", "?", "7", "1"]))[1]
        0.75
    """
    present = values.dropna().astype(str).head(MAX_SAMPLE)
    if not len(present):
        return formats[0], 0.0
    shares = [float(present.map(lambda text, p=one.pattern: p.fullmatch(text) is not None).mean()) for one in formats]
    best = max(range(len(formats)), key=lambda i: (shares[i], -i))
    return formats[best], shares[best]


def exceptions(values: pd.Series, form: NumberFormat) -> list[str]:
    """Return the different texts that are not numbers in this form, the most frequent first.

    Example:
        >>> import pandas as pd
        >>> exceptions(pd.Series(["1", "?", "n/a", "?", "2"]), NumberFormat())
        ['?', 'n/a']
    """
    present = values.dropna().astype(str)
    odd = present[~present.map(lambda text: form.pattern.fullmatch(text) is not None)]
    return [str(text) for text in odd.value_counts(sort=True).index]
