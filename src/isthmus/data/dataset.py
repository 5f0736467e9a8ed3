"""`Dataset`, the result of a reader, `Documents`, rows of text, `Conditioned` and `Paired` rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from isthmus.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data.read_options import ReadOptions
    from isthmus.data.series import WindowedSeries


class Documents(Sequence[str]):
    """Immutable sequence of texts, one per row.

    An index returns one text; a slice, an array of row numbers or a boolean mask returns `Documents`.

    Args:
        texts: the texts in row order.

    Raises:
        InputError: if a text is not a string.

    Example:
        >>> documents = Documents(["cocoa rose", "tin fell", "wheat held"])
        >>> len(documents), documents[1]
        (3, 'tin fell')
        >>> documents[np.array([2, 0])].texts
        ('wheat held', 'cocoa rose')
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str):
            raise InputError("Documents needs a list of texts and got one text; put it in a list")
        self._texts = tuple(texts)
        for row, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise InputError(f"document {row} is of type {type(text).__name__}; every document must be a string")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts in row order."""
        return self._texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    @overload
    def __getitem__(self, rows: int | np.integer) -> str: ...
    @overload
    def __getitem__(self, rows: Any) -> Documents: ...
    def __getitem__(self, rows: Any) -> str | Documents:
        if isinstance(rows, int | np.integer):
            return self._texts[int(rows)]
        if isinstance(rows, slice):
            return Documents(self._texts[rows])
        return Documents([self._texts[i] for i in np.arange(len(self))[np.asarray(rows)]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Documents) and self._texts == other._texts

    def __hash__(self) -> int:
        return hash(self._texts)

    def __repr__(self) -> str:
        return f"Documents({len(self)} texts)"


class Conditioned:
    """Rows that are not a table, with their conditions, for a model with `condition`.

    The conditions of a table are columns of it. An index of several rows returns `Conditioned`.

    Args:
        rows: an array (n, d), images, a scipy sparse matrix, or `Documents`.
        conditions: {name: values, (n,)}, or a data frame with n rows.

    Raises:
        InputError: rows of a table; another number of conditions than of rows.

    Example:
        >>> images, digits = np.zeros((3, 8, 8)), [5, 0, 4]
        >>> X = Conditioned(images, {"digit": digits})
        >>> len(X), X[:2].conditions["digit"].tolist(), np.asarray(X).shape
        (3, [5, 0], (3, 8, 8))
    """

    __slots__ = ("conditions", "rows")

    def __init__(self, rows: Any, conditions: Mapping[str, Any] | pd.DataFrame) -> None:
        import pandas as pd

        if hasattr(rows, "columns") and hasattr(rows, "dtypes"):
            raise InputError("Conditioned: the rows are a table, whose conditions are columns of it; give the table")
        try:
            table = pd.DataFrame({str(name): np.asarray(values) for name, values in dict(conditions).items()})
        except (ValueError, TypeError) as error:
            raise InputError(f"Conditioned: {' '.join(str(error).split())}; give {{name: values}}") from None
        self.rows, self.conditions = rows, table
        if len(self.conditions) != len(self):
            raise InputError(f"Conditioned: {len(self.conditions)} conditions for {len(self)} rows; give one per row")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return tuple(self.rows.shape) if hasattr(self.rows, "shape") else (len(self.rows),)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Conditioned:
        if isinstance(rows, tuple):  # X[rows, ...]
            rows = rows[0]
        return Conditioned(self.rows[rows], self.conditions.iloc[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.rows, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Conditioned({len(self)} rows, {', '.join(map(str, self.conditions.columns))})"


class Paired:
    """Rows with targets, which a model fitted by `fit(X, target=T)` decodes in place of the rows.

    An index of several rows returns `Paired`.

    Args:
        rows: inputs in any form.
        target: as many rows in any form: an array, images, a table, a sparse matrix.

    Raises:
        InputError: another number of targets than of rows.

    Example:
        >>> grey, colour = np.zeros((3, 8, 8)), np.zeros((3, 8, 8, 3))
        >>> X = Paired(grey, colour)
        >>> len(X), X[:2].target.shape
        (3, (2, 8, 8, 3))
    """

    __slots__ = ("rows", "target")

    def __init__(self, rows: Any, target: Any) -> None:
        self.rows, self.target = _indexable(rows), _indexable(target)
        if len(self) != _n_rows(self.target):
            raise InputError(f"target: {_n_rows(self.target)} rows for {len(self)} rows of X; give one per row")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return tuple(self.rows.shape) if hasattr(self.rows, "shape") else (len(self.rows),)

    def __len__(self) -> int:
        return _n_rows(self.rows)

    def __getitem__(self, rows: Any) -> Paired:
        if isinstance(rows, tuple):  # X[rows, ...]
            rows = rows[0]
        return Paired(*(part.iloc[rows] if hasattr(part, "iloc") else part[rows] for part in (self.rows, self.target)))

    def __repr__(self) -> str:
        return f"Paired({len(self)} rows)"


def _indexable(rows: Any) -> Any:
    """Return rows as an array unless they are a table, sparse, texts or a memory map; a data set is its X."""
    if hasattr(rows, "X") and hasattr(rows, "row_names"):
        rows = rows.X
    rows = as_pandas(rows)
    if hasattr(rows, "tocsr"):
        return rows.tocsr()
    return np.asarray(rows) if isinstance(rows, list | tuple) else rows


def as_pandas(X: Any) -> Any:
    """Return a frame or series of polars, or an Arrow table, as one of pandas; other data as they are.

    Raises:
        InputError: a lazy frame, whose rows are not computed.
    """
    if hasattr(X, "collect_schema") and not hasattr(X, "to_pandas"):
        raise InputError("the rows are a LazyFrame, whose rows are not computed; give X.collect()")
    return X.to_pandas() if hasattr(X, "to_pandas") and not hasattr(X, "iloc") else X


def _n_rows(rows: Any) -> int:
    return int(rows.shape[0]) if hasattr(rows, "shape") else len(rows)


def is_row_numbers(index: pd.Index) -> bool:
    """Return whether an index has no name and counts rows from 0, so that it identifies none.

    Example:
        >>> import pandas as pd
        >>> is_row_numbers(pd.RangeIndex(3)), is_row_numbers(pd.RangeIndex(3, name="id"))
        (True, False)
    """
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.name is None and index.start == 0 and index.step == 1


def index_columns(index: pd.Index) -> pd.DataFrame:
    """Return the levels of an index as columns under their names; a single one without a name is "".

    Example:
        >>> import pandas as pd
        >>> list(index_columns(pd.Index(["a", "b"]))), list(index_columns(pd.MultiIndex.from_tuples([(1, 2)])))
        ([''], ['level_0', 'level_1'])
    """
    import pandas as pd

    table = pd.DataFrame({i: index.get_level_values(i) for i in range(index.nlevels)})
    names = [("" if index.nlevels == 1 else f"level_{i}") if name is None else str(name)
             for i, name in enumerate(index.names)]  # fmt: skip
    return table.set_axis(names, axis=1)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows with labels, names and notes.

    Attributes:
        X: an array (n, d); images (n, h, w) or (n, h, w, c); a pandas DataFrame; a scipy CSR matrix;
            a numpy memory map (a large .npy); or `Documents`. In the units of the file.
        labels: (n,), or None; not part of X. A list of topics per row for `reuters21578`.
        name: short name for titles: the stem of the file, the name of the folder, or NAME:SPLIT.
        row_names: names of the rows: paths of images within their folder, or the index of a table.
        notes: decisions of the reader that concern the user, one sentence each.
        reading: how a text table was read, with what was guessed; None of other data. A later file is read by it.
        carried: columns that are not part of X and that outputs repeat, as a data frame of n rows: identifiers, under
            their own names ("" without one), and columns to keep.
        windows: of rows that are windows of a table, which rows of the table they cover.

    Example:
        >>> Dataset(np.zeros((3, 2)), name="zeros").n_rows
        3
    """

    X: Any
    labels: np.ndarray | None = None
    name: str = "data"
    row_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    reading: ReadOptions | None = None
    carried: pd.DataFrame | None = None
    windows: WindowedSeries | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0]) if hasattr(self.X, "shape") else len(self.X)

    def with_notes(self, *notes: str) -> Dataset:
        """Return the data set with additional notes."""
        return replace(self, notes=(*self.notes, *notes))
