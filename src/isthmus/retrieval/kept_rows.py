"""Rows as columns of an index: named and typed as Arrow has them, and given back in the form that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.data.dataset import Conditioned, Documents, Paired, as_pandas
from isthmus.data.messages import one_line
from isthmus.data.preprocessing import input_type
from isthmus.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROW, BITS, CODE = "_row", "_bits", "_code"
"""Columns of an index: the number of a row, its packed bits, and its code if that is of real numbers."""

VALUES = "_values"
"""Column of rows that have no named columns, such as images, as one list of numbers each."""

MAX_COLUMNS = 1000
"""Columns of a matrix that are kept one by one, so that conditions can name them."""

_BLOCK_BYTES = 2**25

_TYPED_OBJECTS = ("integer", "floating", "mixed-integer-float", "boolean", "datetime", "datetime64", "date", "decimal")
"""Types that pandas finds in columns of objects which are kept as such; others are kept as text."""


@dataclass(frozen=True)
class KeptRows:
    """The columns that an index keeps of the rows of a model.

    Attributes:
        form: "table", "matrix" (columns x0, x1, ...), "array" (one list of numbers a row), "text", or "none" of sparse
            rows and of rows with conditions, which are not kept.
        columns: names of the columns of the rows, as the user has them, by the names in the index.
        further: names of the further columns, which the model does not read, by the names in the index.
        identifiers: the names in the index of the further columns that say which row is which.
        shape: shape of one row of an array.
        dtype: type of an array.
    """

    form: str
    columns: dict[str, str]
    further: dict[str, str]
    identifiers: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @classmethod
    def of(cls, X: Any, further: pd.DataFrame | None, identifiers: Sequence[str]) -> KeptRows:
        """Return the columns for rows, and for a data frame of further columns with the names of identifiers in it."""
        taken = {ROW, BITS, CODE, VALUES}
        names = [] if further is None else [str(name) for name in further.columns]
        others = {_stored_name(name, taken): name for name in names}
        keys = tuple(stored for stored, name in others.items() if name in identifiers)
        form, own = _form_of(X), []
        if form == "table":
            own = [str(name) for name in X.columns]
        elif form == "matrix":
            own = [f"x{i}" for i in range(X.shape[1])]
        elif form == "text":
            own = ["text"]
        columns = {_stored_name(name, taken): name for name in own}
        is_array = form in ("array", "matrix")
        shape, dtype = (tuple(X.shape[1:]), str(X.dtype.newbyteorder("="))) if is_array else ((), "")
        return cls(form, columns, others, keys, shape, dtype)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> KeptRows:
        """Return the columns that `to_dict` gave."""
        tuples = {name: tuple(config[name]) for name in ("identifiers", "shape")}
        return cls(**{**config, **tuples})

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as plain data."""
        return asdict(self)

    @property
    def names(self) -> list[str]:
        """The names in the index of all columns that conditions can use, further ones first."""
        return [*self.further, *self.columns]

    def fields(self, X: Any, further: pd.DataFrame | None) -> list[pa.Field]:
        """Return the Arrow fields of the columns, whose types hold every value of these rows."""
        import pyarrow as pa

        found = [] if further is None else _fields(self.further, further)
        if self.form == "table":
            found += _fields(self.columns, X)
        elif self.form == "matrix":
            found += [pa.field(name, pa.from_numpy_dtype(np.dtype(self.dtype))) for name in self.columns]
        elif self.form == "array":
            size = int(np.prod(self.shape))
            found.append(pa.field(VALUES, pa.list_(pa.from_numpy_dtype(np.dtype(self.dtype)), size)))
        elif self.form == "text":
            found += [pa.field(name, pa.large_string()) for name in self.columns]
        return found

    def arrays(self, X: Any, further: pd.DataFrame | None, schema: pa.Schema) -> dict[str, pa.Array]:
        """Return the columns of a block of rows, by name.

        Raises:
            InputError: a column that the rows lack, or a value that does not fit the type of its column.
        """
        import pyarrow as pa

        found = _columns(self.further, further, schema)
        if self.form == "table":
            found |= _columns(self.columns, X, schema)
        elif self.form == "matrix":
            values = np.asarray(X)
            found |= {name: pa.array(values[:, i], schema.field(name).type) for i, name in enumerate(self.columns)}
        elif self.form == "array":
            kind = schema.field(VALUES).type
            values = np.ascontiguousarray(np.asarray(X), np.dtype(self.dtype)).reshape(-1)
            found[VALUES] = pa.FixedSizeListArray.from_arrays(pa.array(values, kind.value_type), kind.list_size)
        elif self.form == "text":
            found |= {name: pa.array(list(X), pa.large_string()) for name in self.columns}
        return found

    @property
    def is_kept(self) -> bool:
        """True if the rows can be given back."""
        return self.form != "none"

    @property
    def own_fields(self) -> list[str]:
        """The columns in the index from which `rows` makes the rows."""
        return [VALUES] if self.form == "array" else list(self.columns)

    def rows(self, table: pa.Table) -> Any:
        """Return the rows of a table of the index in the form that the model reads."""
        if self.form == "array":
            flat = table[VALUES].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(table), *self.shape)
        if self.form == "text":
            return Documents(table[next(iter(self.columns))].to_pylist())
        frame = table.select(list(self.columns)).to_pandas().set_axis(list(self.columns.values()), axis=1)
        return frame if self.form == "table" else frame.to_numpy(np.dtype(self.dtype))


def _form_of(X: Any) -> str:
    """Return the form in which rows are kept."""
    if isinstance(X, Conditioned):
        return "none"
    kind = input_type(X)
    if kind == "array":
        return "matrix" if len(X.shape) == 2 and X.shape[1] <= MAX_COLUMNS else "array"
    return "none" if kind == "sparse" else kind


def _stored_name(name: str, taken: set[str]) -> str:
    """Return a name that a condition can use: without points and backquotes, and different from those taken."""
    stored = name.replace(".", "_").replace("`", "_") or "name"
    while stored in taken:
        stored += "_"
    taken.add(stored)
    return stored


def _plain(values: pd.Series) -> pd.Series:
    """Return a column without types that Arrow holds as a dictionary: categories become their values."""
    return values.astype(values.cat.categories.dtype) if hasattr(values, "cat") else values


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return the column of a name; labels of columns may be numbers."""
    return table.iloc[:, [str(each) for each in table.columns].index(name)]


def _fields(columns: Mapping[str, str], table: pd.DataFrame) -> list[pa.Field]:
    import pyarrow as pa

    return [pa.field(stored, _arrow_type(_column(table, name))) for stored, name in columns.items()]


def _arrow_type(values: pd.Series) -> pa.DataType:
    """Return the Arrow type of a column: that of its values, and text for mixed or only missing ones."""
    import pandas as pd
    import pyarrow as pa

    values = _plain(values)
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) not in _TYPED_OBJECTS:
        return pa.large_string()
    try:
        found = pa.array(values if values.dtype == object else values.iloc[:0], from_pandas=True).type
    except (pa.ArrowException, TypeError, ValueError):  # types without a column of Arrow, such as complex numbers
        return pa.large_string()
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal, pa.types.is_decimal)
    return found if any(is_of(found) for is_of in known) else pa.large_string()


def _columns(columns: Mapping[str, str], table: pd.DataFrame | None, schema: pa.Schema) -> dict[str, pa.Array]:
    found = {}
    for stored, name in columns.items():
        if table is None or name not in map(str, table.columns):
            raise InputError(f"the rows have no column {name!r}, which the index keeps; add it to them")
        found[stored] = _arrow(name, _plain(_column(table, name)), schema.field(stored).type)
    return found


def _arrow(name: str, values: pd.Series, kind: pa.DataType) -> pa.Array:
    """Return values as an Arrow array of a type.

    Raises:
        InputError: a value that the type does not hold.
    """
    import pyarrow as pa

    if pa.types.is_large_string(kind):
        texts = values.astype(object).where(values.notna(), None)
        return pa.array([None if each is None else str(each) for each in texts], kind)
    try:
        return pa.array(values, from_pandas=True).cast(kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"column {name!r} does not fit the type {kind} that it has in the index ({one_line(error)}); give values "
            "of this type, or build the index again"
        ) from None


def block_size(X: Any) -> int:
    """Return the number of rows that are encoded and written at a time, a multiple of 256."""
    width = int(np.prod(X.shape[1:])) if hasattr(X, "shape") and len(X.shape) > 1 else 1000
    return max(_BLOCK_BYTES // (8 * max(width, 1)) // 256, 1) * 256 if width > 512 else 8192


def taken(X: Any, rows: Any) -> Any:
    """Return some of the rows, by a slice or by numbers."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def plain_rows(X: Any) -> Any:
    """Return the rows that are encoded: those of a data set, the inputs of pairs, lists as arrays or texts."""
    X = as_pandas(X.X if hasattr(X, "X") and hasattr(X, "row_names") else X)
    if isinstance(X, Paired):
        return plain_rows(X.rows)
    if hasattr(X, "X") and hasattr(X, "channels"):  # windows of series
        return X.X
    if isinstance(X, str):
        return Documents([X])
    if isinstance(X, list | tuple) and X and all(isinstance(text, str) for text in X):
        return Documents(X)
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return X if hasattr(X, "shape") or isinstance(X, Documents | Conditioned) else np.asarray(X)
