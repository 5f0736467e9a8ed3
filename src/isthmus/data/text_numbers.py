"""Numbers that a table holds as text: with a decimal comma, a separator of thousands, or a percent sign."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from isthmus.data.headers import is_number
from isthmus.data.read_options import ReadOptions
from isthmus.errors import InputError

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
        affix: text before or after every number, such as "$" or "kg", which is removed.

    Example:
        >>> NumberFormat(",", ".").pattern.fullmatch("-1.234,5") is not None
        True
        >>> import pandas as pd
        >>> NumberFormat(percent=True).parsed(pd.Series(["12%", "5.5 %"])).tolist()
        [12.0, 5.5]
        >>> NumberFormat(affix="$").parsed(pd.Series(["$0.50", "-$3"])).tolist()
        [0.5, -3.0]
    """

    decimal: str = "."
    thousands: str = ""
    percent: bool = False
    affix: str = ""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression of a number in this form."""
        digits = rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|\d+" if self.thousands else r"\d+"
        number = rf"(?:(?:{digits})(?:{re.escape(self.decimal)}\d*)?|{re.escape(self.decimal)}\d+)(?:[eE][-+]?\d+)?"
        sign, after = rf"\s*[-+{MINUS}]?", r"\s*%\s*" if self.percent else r"\s*"
        if not self.affix:
            return re.compile(sign + number + after)
        affix = re.escape(self.affix)
        return re.compile(
            rf"{sign}\s*{affix}\s*{number}{after}|\s*{affix}{sign}{number}{after}|{sign}{number}\s*{affix}\s*"
        )

    def parsed(self, values: pd.Series) -> pd.Series:
        """Return the numbers of texts in this form, float64; others become NaN."""
        import pandas as pd

        texts = values.astype("string").str.strip()
        texts = texts.where(texts.str.fullmatch(self.pattern.pattern), None)
        if self.percent:
            texts = texts.str.rstrip("%").str.strip()
        if self.affix:
            texts = texts.str.replace(self.affix, "", regex=False).str.replace(r"\s", "", regex=True)
        texts = texts.str.replace(MINUS, "-", regex=False)
        if self.thousands:
            texts = texts.str.replace(self.thousands, "", regex=False)
        if self.decimal != ".":
            texts = texts.str.replace(self.decimal, ".", regex=False)
        return pd.to_numeric(texts, errors="coerce").astype("float64")

    def __str__(self) -> str:
        parts = [f"{self.decimal!r} as decimal sign"] if self.decimal != "." else []
        parts += [f"{self.thousands!r} between thousands"] if self.thousands else []
        parts += ["a percent sign"] if self.percent else []
        parts += [f"{self.affix!r}, which is removed"] if self.affix else []
        return "numbers with " + " and ".join(parts) if parts else "numbers"


MINUS = "\N{MINUS SIGN}"
"""The sign that word processors write for a hyphen before a number."""

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})?")
"""A whole number below a million with a dot between thousands."""

_CURRENCY = re.compile(r"[$\u20ac\u00a3\u00a5]|[A-Z]{3}")
_UNIT = re.compile(r"[^\W\d_]{1,8}|[\u00b0\u00b5][^\W\d_]{0,4}")
_AFFIXED = re.compile(
    rf"\s*[-+{MINUS}]?\s*(?P<before>[^\s\d.,+{MINUS}-]*)\s*[-+{MINUS}]?\d[\d., ]*(?P<space>\s?)(?P<after>[^\s\d.,]*)\s*"
)

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


def affix_of(values: pd.Series) -> str:
    """Return the text that stands before or after every number of a text column; empty if there is none.

    A currency may stand on both sides, a unit of letters only after a space: "4wd" and "Flat 12" are text.

    Example:
        >>> import pandas as pd
        >>> affix_of(pd.Series(["3 kg", "4.5 kg"])), affix_of(pd.Series(["$1", "$2.50"])), affix_of(pd.Series(["4wd"]))
        ('kg', '$', '')
    """
    found = ""
    for text in values.dropna().astype(str).head(MAX_SAMPLE):
        parts = _AFFIXED.fullmatch(text)
        if parts is None or bool(parts["before"]) == bool(parts["after"]):
            return ""
        affix = parts["before"] or parts["after"]
        is_unit = (
            parts["after"] and (parts["space"] or " " in text or not affix[0].isalpha()) and _UNIT.fullmatch(affix)
        )
        if not (_CURRENCY.fullmatch(affix) or is_unit) or found not in ("", affix):
            return ""
        found = affix
    return found


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


NUMBERS = ("real", "count")
"""Declared types of columns that hold numbers."""

NO_NUMBERS = ("category", "date", "text", "id", "ignore")
"""Declared types of columns whose text is never read as numbers."""


def _formats(options: ReadOptions) -> tuple[NumberFormat, ...]:
    """Return the forms of numbers that are tried: those of the options, if some are given."""
    if options.decimal is None and options.thousands is None:
        return FORMATS
    decimal = options.decimal or "."
    thousands = ("", "." if decimal == "," else ",", " ") if options.thousands is None else (options.thousands,)
    return tuple(NumberFormat(decimal, sign, percent) for percent in (False, True) for sign in thousands)


def _unambiguous(values: pd.Series, form: NumberFormat, delimiter: str, options: ReadOptions) -> NumberFormat:
    """Return the form of the numbers; of "1,234" alone, thousands in a file with commas, a decimal comma in others."""
    thousands = NumberFormat(".", ",")
    if options.decimal or form != NumberFormat(",") or delimiter != ",":
        return form
    return thousands if number_format(values, (thousands,))[1] == 1.0 else form


def is_text(values: pd.Series) -> bool:
    """Return whether a column holds texts."""
    import pandas as pd

    return pd.api.types.is_string_dtype(values) and not isinstance(values.dtype, pd.CategoricalDtype)


def refuse_text(name: str, values: pd.Series, numbers: pd.Series, declared: str | None) -> None:
    """Raise for the first text that is not a number."""
    wrong = np.flatnonzero((numbers.isna() & values.notna()).to_numpy())
    if len(wrong):
        text = str(values.iloc[wrong[0]])
        raise InputError(
            f"column {name!r} holds {text!r} at row {wrong[0]}, which is not a number as dtype {declared!r} says; if "
            f"it stands for a missing value, give na={text!r} (--na {shlex.quote(text)})"
        )


def suspected_thousands(
    frame: pd.DataFrame, fields: Mapping[str, Sequence[str]], forms: Mapping[str, NumberFormat], delimiter: str
) -> tuple[list[str], list[str]]:
    """Return the columns whose numbers, such as 1.234, are thousands if the file has decimal commas, and notes.

    If no other column has decimal commas, there are no such columns. If columns are separated by semicolons, as where
    decimal commas are common, a note names the other reading.

    Args:
        frame: the table, with numbers.
        fields: the first texts of each column.
        forms: the forms of the columns that were text.
        delimiter: of the file.

    Example:
        >>> import pandas as pd
        >>> frame, fields = pd.DataFrame({"a": [1.234, 20.5]}), {"a": ["1.234", "20.500"]}
        >>> suspected_thousands(frame, fields, {"b": NumberFormat(",")}, ";")[0]
        ['a']
    """
    found: list[str] = []
    notes: list[str] = []
    has_commas = any(form.decimal == "," for form in forms.values())
    for name in map(str, frame.columns):
        texts = [text.strip() for text in fields.get(name, ()) if text.strip()]
        dotted = [text for text in texts if "." in text]
        if name in forms or frame[name].dtype.kind != "f" or not dotted or not all(map(_THOUSANDS.fullmatch, texts)):
            continue
        if has_commas:
            found.append(name)
        elif delimiter == ";" and len(dotted) > 1:
            notes.append(
                f"column {name!r}: {dotted[0]} and the like were read with '.' as decimal sign; if it separates "
                "thousands, give --decimal , --thousands ."
            )
    return found, notes


def _with_affix(values: pd.Series, formats: tuple[NumberFormat, ...], known: str | None) -> tuple[NumberFormat, ...]:
    """Return the forms that are tried for a column: with its affix, if it has one or had one in training."""
    affix = affix_of(values) if known is None else known
    return tuple(replace(form, affix=affix) for form in formats if not form.percent) if affix else formats


def _in_other_forms(values: pd.Series, tried: tuple[NumberFormat, ...]) -> str:
    """Return what a text column of numbers has that are not in one of the forms; empty if they are no numbers."""
    form, share = number_format(values)
    if share == 1.0 and form not in tried:
        option = f"--thousands {shlex.quote(form.thousands)}" if form.thousands else f"--decimal {form.decimal}"
        return f"is text, but its values are {form}; if they are numbers, give {option}"
    if 0 < share < 1.0 and all(any(one.pattern.fullmatch(text) for one in FORMATS) for text in _present(values)):
        odd = exceptions(values, form)[0]
        return f"is text: some of its values are {form}, others are not, such as {odd!r}; write them in one form"
    return ""


def _present(values: pd.Series) -> list[str]:
    return [str(text) for text in values.dropna().head(MAX_SAMPLE)]


def with_numbers(
    frame: pd.DataFrame,
    options: ReadOptions,
    delimiter: str,
    codes: Sequence[str],
    thousands: Collection[str] = (),
) -> tuple[pd.DataFrame, list[str], dict[str, NumberFormat]]:
    """Return a table whose text columns of numbers are numbers, without further missing markers, and notes.

    The form of each column that was text is returned, too.

    Args:
        frame: as the file was read.
        options: how to read it.
        delimiter: of the file, which decides what a comma before three digits is.
        codes: columns of digits that stay text.
        thousands: columns whose dots separate thousands, if all their texts have this form.

    Raises:
        InputError: a column that is declared as a number holds something else.

    Example:
        >>> import pandas as pd
        >>> found, notes, _ = with_numbers(pd.DataFrame({"a": ["1,5", "20,25"]}), ReadOptions(), ";", ())
        >>> found["a"].tolist(), notes
        ([1.5, 20.25], ["column 'a' was read as numbers with ',' as decimal sign"])
    """
    notes, changed, forms = [], {}, dict[str, NumberFormat]()
    markers = [float(text) for text in options.na if is_number(text)]
    formats = _formats(options)
    for name in frame.columns:
        values, declared = frame[name], options.dtypes.get(str(name))
        if values.dtype.kind in "iuf" and markers:
            changed[name] = values.mask(values.isin(markers))
        if not is_text(values) or (name in codes and declared not in NUMBERS) or declared in NO_NUMBERS:
            continue
        if options.na and values.isin(options.na).any():
            values = changed[name] = values.mask(values.isin(options.na))
        of_column = (NumberFormat(",", "."), NumberFormat()) if name in thousands else formats
        tried = _with_affix(values, of_column, options.affixes.get(str(name)))
        form, share = number_format(values, tried)
        if share == 1.0 or declared in NUMBERS:
            form = _unambiguous(values, form, delimiter, options)
            numbers = form.parsed(values)
            if declared in NUMBERS:
                refuse_text(str(name), values, numbers, declared)
            share = 1.0 if declared in NUMBERS else float(numbers.notna().sum() / max(1, values.notna().sum()))
        if share == 1.0:
            changed[name] = numbers
            forms[str(name)] = form
            if str(form) != "numbers" and not (options.decimal or options.thousands or options.affixes.get(str(name))):
                notes.append(f"column {name!r} was read as {form}")
        elif share >= MOSTLY:
            odd = exceptions(values, form)
            notes.append(
                f"column {name!r}: {share:.1%} of its values are {form}, and {', '.join(map(repr, odd[:3]))} "
                f"{'is' if len(odd) == 1 else 'are'} not, so it is text; if that stands for missing values, give "
                f"na={odd[0]!r} (--na {shlex.quote(odd[0])})"
            )
        elif text := _in_other_forms(values, tried):
            notes.append(f"column {name!r} {text}")
    notes += [
        f"column {name!r} has leading zeros and stays text; to read it as numbers, give dtypes={{{name!r}: 'real'}} "
        f"(--dtype {shlex.quote(f'{name}=real')})"
        for name in codes
        if options.dtypes.get(name) is None
    ]
    return (frame.assign(**changed) if changed else frame), notes, forms
