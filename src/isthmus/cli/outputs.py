"""The writer of rows, codes and errors: carried columns first, in the order of the rows and the types of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.terminal import Log

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.data.table_columns import TableColumn
    from isthmus.estimators.base import BaseAutoencoder


def write_rows(
    destination: Path,
    rows: Any,
    carried: pd.DataFrame | None = None,
    *,
    names: Sequence[str] | None = None,
    columns: Sequence[TableColumn] = (),
    force: bool = False,
) -> None:
    """Write rows in order to one file: a table after its carried columns, or numbers alone to a .npy file.

    Args:
        destination: the checked path.
        rows: a data frame, or an array.
        carried: the columns that say which row each of them is; of as many rows.
        names: names of the columns of an array.
        columns: the columns of training, whose types are given back.
        force: overwrite an existing file.
    """
    import numpy as np
    import pandas as pd

    from isthmus.data import write_array

    if destination.suffix.lower() == ".npy":
        write_array(destination, rows, force=force)
        return
    labels = None if names is None else list(names)
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(np.asarray(rows), columns=labels)
    table = after(carried, in_types_of(columns, table))
    write_array(destination, with_plain_dates(table) if destination.suffix.lower() == ".csv" else table, force=force)


def in_columns(model: BaseAutoencoder, rows: Any) -> Any:
    """Return series and other rows of several axes by column of model space; tables and matrices as they are."""
    return model.preprocessing_.as_columns(rows) if getattr(rows, "ndim", 2) > 2 else rows


def after(carried: pd.DataFrame | None, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table after carried columns; a carried column whose name the table has gets an underscore.

    Example:
        >>> import pandas as pd
        >>> list(after(pd.DataFrame({"id": [7], "size": [1]}), pd.DataFrame({"size": [2.5]}, index=["a"])))
        ['id', 'size_', 'size']
    """
    import pandas as pd

    if carried is None:
        return table
    taken, names = {str(name) for name in table.columns}, []
    for name in map(str, carried.columns):
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    first = carried.set_axis(names, axis=1).reset_index(drop=True)
    return pd.concat([first, table.reset_index(drop=True)], axis=1)


def with_row_numbers(rows: Dataset, n_rows: int) -> pd.DataFrame:
    """Return the carried columns of rows; after a column `row` with their numbers, if no column identifies them.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import Dataset
        >>> with_row_numbers(Dataset(np.zeros((2, 3))), 2).to_dict("list")
        {'row': [0, 1]}
    """
    import numpy as np
    import pandas as pd

    if rows.row_names is not None and rows.carried is not None:
        return rows.carried
    return after(pd.DataFrame({"row": np.arange(n_rows)}), after(rows.carried, pd.DataFrame(index=range(n_rows))))


def with_plain_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which times that are all midnight are dates, as a text file had them.

    Example:
        >>> import pandas as pd
        >>> with_plain_dates(pd.DataFrame({"day": pd.to_datetime(["2024-01-31"])}))["day"][0]
        datetime.date(2024, 1, 31)
    """
    import pandas as pd

    def plain(values: pd.Series) -> pd.Series:
        is_zoned = getattr(values.dtype, "tz", None) is not None
        if not pd.api.types.is_datetime64_any_dtype(values) or is_zoned:
            return values
        present = values.dropna()
        return values.dt.date if (present == present.dt.normalize()).all() else values

    return table.apply(plain)


def in_types_of(columns: Sequence[TableColumn], table: pd.DataFrame) -> pd.DataFrame:
    """Return a decoded table in the types of the columns of training; integers only where every value is whole.

    Example:
        >>> import pandas as pd
        >>> from isthmus.data.table_columns import TableColumn
        >>> columns = [TableColumn("n", "count", dtype="int64"), TableColumn("age", "real", dtype="int64")]
        >>> in_types_of(columns, pd.DataFrame({"n": [2.0, 3.0], "age": [20.5, 31.0]})).dtypes.astype(str).tolist()
        ['int64', 'float64']
    """
    known = {column.name: column.dtype for column in columns}
    typed = {name: _in_type(table[name], known[name]) for name in table.columns if name in known}
    return table.assign(**typed) if typed else table


def _in_type(values: pd.Series, name: str) -> pd.Series:
    """Return values in the type of this name if it holds each of them, else as they are."""
    import numpy as np
    import pandas as pd

    if str(values.dtype) == name or not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return values if name != "boolean" else values.astype("boolean")
    wanted = pd.api.types.pandas_dtype(name)
    if pd.api.types.is_float_dtype(wanted):
        return values.astype(wanted)
    if not pd.api.types.is_integer_dtype(wanted):
        return values
    limits, numbers = np.iinfo(getattr(wanted, "numpy_dtype", wanted)), values.to_numpy(np.float64)
    fits = (numbers == np.rint(numbers)) & (numbers >= limits.min) & (numbers <= limits.max)
    return values.astype(wanted) if fits.all() else values


def check_errors_fit(model: BaseAutoencoder, rows: Dataset) -> None:
    """Refuse rows whose errors by column would take too much memory, before they are evaluated.

    Raises:
        InputError: sparse rows that are too many.
    """
    from isthmus.estimators.inputs import check_dense_size

    if _has_columns(model):
        check_dense_size(model.preprocessing_, rows.n_rows, "give fewer rows at a time")


def _has_columns(model: BaseAutoencoder) -> bool:
    """Return whether the rows that are compared have columns, as images and texts do not."""
    return model.preprocessing_.vocabulary is None and model.preprocessing_.image_shape is None


def write_errors(destination: Path, model: BaseAutoencoder, rows: Dataset, *, force: bool = False) -> None:
    """Write a line for each row: its identifiers or its number, its squared error, and the part of each column in it.

    The parts add up to the error. Images and texts have no columns: their errors stand alone. A .npy file has the
    numbers without identifiers.
    """
    import numpy as np
    import pandas as pd

    known = model.preprocessing_
    errors = pd.DataFrame({"error": np.asarray(model.reconstruction_error(rows.X))})
    has_columns = _has_columns(model)
    cells = np.asarray(model.reconstruction_error(rows.X, by="cell")) if has_columns else np.empty((len(errors), 0))
    names = [column.name for column in known.table] or known.columns
    parts = pd.DataFrame(known.as_columns(cells) if has_columns else cells, columns=names if has_columns else [])
    if destination.suffix.lower() == ".npy":
        write_rows(destination, np.column_stack([errors, parts]), force=force)
        return
    write_rows(destination, after(errors, parts), with_row_numbers(rows, len(errors)), force=force)


def carried_rows(carried: pd.DataFrame, rows: Sequence[int], prefix: str = "") -> pd.DataFrame:
    """Return the carried columns of these rows; with a prefix before their names.

    Example:
        >>> import pandas as pd
        >>> carried_rows(pd.DataFrame({"id": [7, 8]}), [1, 1, 0], "from ").to_dict("list")
        {'from id': [8, 8, 7]}
    """
    chosen = carried.iloc[list(rows)].reset_index(drop=True)
    return chosen.set_axis([f"{prefix}{name or 'name'}" if prefix else name for name in chosen.columns], axis=1)


def note_left_out(output: str, keep: Sequence[str] | None, log: Log) -> None:
    """Note columns to keep that the form of an output has no place for."""
    if keep and not output.lower().endswith((".csv", ".parquet")):
        log.note(f"--keep {keep[0]}: {output} holds no further columns; write .csv or .parquet to keep them")
