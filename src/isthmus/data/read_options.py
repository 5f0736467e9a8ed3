"""Options of reading text tables: separator, decimal sign, encoding, header, missing values, units of columns."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from isthmus.data.dtypes import checked_dtypes
from isthmus.errors import InputError

_BARRED = {"sep": '"\r\n', "thousands": '"\r\n+-'}
"""Characters, in addition to letters and digits, that are no such signs."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a text table; what is None is guessed from the file.

    Attributes:
        sep: separator of columns, one character.
        decimal: decimal sign, "." or ",".
        thousands: separator of thousands in numbers.
        encoding: encoding of the text, such as "latin-1"; None is UTF-8.
        header: True if the first line holds column names, False if it is a row.
        na: further texts, or numbers as text, that are missing values.
        dtypes: declared types of columns, in `isthmus.data.dtypes.DTYPES`.
        affixes: texts that stand before or after the numbers of columns, such as "kg"; found when a file is read.

    Raises:
        InputError: an unknown encoding or type; a sign of another length, or a letter, digit or quote; equal signs of
            decimals and thousands.

    Example:
        >>> ReadOptions(sep=";", decimal=",").to_dict()
        {'sep': ';', 'decimal': ','}
    """

    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    header: bool | None = None
    na: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)
    affixes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sep = {"tab": "\t", "\\t": "\t"}.get(self.sep or "", self.sep)
        object.__setattr__(self, "sep", sep)
        object.__setattr__(self, "na", (self.na,) if isinstance(self.na, str) else tuple(map(str, self.na)))
        for name, sign in (("sep", self.sep), ("decimal", self.decimal), ("thousands", self.thousands)):
            if sign is not None and len(sign) != 1:
                raise InputError(f"{name}={sign!r}: it must be one character (--{name})")
            if sign is not None and name in _BARRED and (sign.isalnum() or sign in _BARRED[name]):
                raise InputError(f"{name}={sign!r}: it can be part of a value; give a sign such as ';' (--{name})")
        if self.decimal not in (None, ".", ","):
            raise InputError(f"decimal={self.decimal!r}: it must be '.' or ',' (--decimal)")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise InputError(f"thousands={self.thousands!r}: the decimal sign is the same character (--decimal)")
        self._check_encoding()
        object.__setattr__(self, "dtypes", checked_dtypes(self.dtypes))

    def _check_encoding(self) -> None:
        if self.encoding is None:
            return
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise InputError(
                f"encoding={self.encoding!r} is unknown; give one such as utf-8, latin-1, cp1252 or utf-16 (--encoding)"
            ) from None

    @property
    def is_given(self) -> bool:
        """True if an option differs from its default."""
        return self != ReadOptions()

    @property
    def reads_text(self) -> list[str]:
        """The names of the given options that only text files have."""
        return [name for name in ("sep", "encoding", "header") if getattr(self, name) is not None]

    @property
    def reads_numbers(self) -> bool:
        """True if an option says how numbers are written, or that a column holds numbers."""
        declared = {"real", "count"} & set(self.dtypes.values())
        return any((self.decimal, self.thousands, self.na, self.affixes, declared))

    @property
    def for_known_columns(self) -> ReadOptions:
        """The options by which a later file of a model is read: without types of numbers.

        A text that is not a number is then left to the model, which refuses all such columns at once.
        """
        kept = {column: dtype for column, dtype in self.dtypes.items() if dtype in ("category", "text")}
        return replace(self, dtypes=kept)

    def to_dict(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as JSON types."""
        defaults = asdict(ReadOptions())
        found = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def changed_by(self, given: ReadOptions) -> ReadOptions:
        """Return these options with those of `given` that differ from their defaults in their place.

        Missing values and types of columns are added.

        Example:
            >>> ReadOptions(sep=";", na=("?",)).changed_by(ReadOptions(na=("-",))).to_dict()
            {'sep': ';', 'na': ['?', '-']}
        """
        own, other = self.to_dict(), given.to_dict()
        added = {
            "na": [*self.na, *given.na],
            "dtypes": {**self.dtypes, **given.dtypes},
            "affixes": {**self.affixes, **given.affixes},
        }
        return ReadOptions.from_dict(own | other | added)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ReadOptions:
        """Return the options of `to_dict`."""
        return cls(**{**config, "na": tuple(config.get("na", ()))})
