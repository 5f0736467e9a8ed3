"""The rows that a command is given, read as the model was given them, and refused where they do not fit it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.terminal import Log
from isthmus.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from isthmus.data import Dataset
    from isthmus.estimators.base import BaseAutoencoder


READ_OPTIONS = "reading"
"""The entry of a model's history that keeps how `isthmus fit` read its data: excluded columns, size of images."""


def load_autoencoder(path: str) -> BaseAutoencoder:
    """The autoencoder in a model file.

    Raises:
        InputError: what `isthmus.load` refuses, and a classifier.
    """
    import isthmus

    model = isthmus.load(path)
    if not hasattr(model, "preprocessing_"):
        raise InputError(f"{path}: holds a {model.kind}, not an autoencoder; put it to use by isthmus classify predict")
    return model


def record_read_options(model: BaseAutoencoder, exclude: list[str], resize: tuple[int, int] | None) -> None:
    """Keep in the model how its data were read, so that later commands read theirs in the same way."""
    history: dict[str, Any] = model.history_
    history[READ_OPTIONS] = {"exclude": exclude, "resize": list(resize) if resize else None}


def open_for_model(model: BaseAutoencoder, source: str, log: Log, *, labels: str | None = None) -> Dataset:
    """Rows for a fitted model: the columns it left out are left out again, images brought to its size.

    Args:
        model: fitted.
        source: what `isthmus.data.open` takes.
        log: where its notes go.
        labels: a column of the data, or a .npy file, that becomes the labels.

    Raises:
        InputError: data that cannot be read, or whose columns, width or size the model does not know.
    """
    history: dict[str, Any] = model.history_
    read_options = history.get(READ_OPTIONS) or {"exclude": [], "resize": None}
    names = set(getattr(model, "feature_names_in_", ()))
    seen = labels in names
    size = tuple(read_options["resize"]) if read_options["resize"] else None
    data = open_labelled(source, None if seen else labels, resize=size)
    for note in data.notes:
        log.note(note)
    if seen and hasattr(data.X, "columns") and labels in data.X.columns:
        log.note(f"the model was fitted on the column of labels {labels!r} too; its codes have seen the labels")
        data = replace(data, labels=data.X[labels].to_numpy())
    if hasattr(data.X, "columns"):
        dropped = [name for name in data.X.columns if str(name) in read_options["exclude"]]
        data = replace(data, X=data.X.drop(columns=dropped))
    return replace(data, X=_match_columns(model, data))


def open_labelled(source: str, labels: str | None, **read_options: Any) -> Dataset:
    """What `isthmus.data.open` reads, with the labels that a column or a .npy file holds.

    Raises:
        InputError: data or labels that cannot be read; another number of them.
    """
    import isthmus.data

    column = None if is_file(labels) else labels
    data = isthmus.data.open(source, label_column=column, **read_options)
    return replace(data, labels=_labels_of_file(str(labels), data.n_rows)) if is_file(labels) else data


def is_file(labels: str | None) -> bool:
    """Whether labels are named by a file, not by a column."""
    return labels is not None and labels.lower().endswith(".npy")


def require_labels(rows: Dataset) -> Dataset:
    """The rows, which must have labels.

    Raises:
        InputError: there are none, or several a row.
    """
    if rows.labels is None:
        raise InputError(f"{rows.name}: has no labels; name them by --labels, a column or a .npy file")
    if any(isinstance(label, list) for label in rows.labels[:100]):
        raise InputError(f"{rows.name}: its labels are lists of classes, and a classifier takes one class a row")
    return rows


def _labels_of_file(path: str, n_rows: int) -> np.ndarray:
    """One label a row, from a .npy file."""
    import numpy as np

    try:
        labels = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"--labels {path}: no such file; check the path") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--labels {path}: cannot be read as a .npy array ({error})") from None
    if labels.shape != (n_rows,):
        raise InputError(f"--labels {path}: shape {labels.shape} for {n_rows} rows; one label a row is needed")
    return labels


def _match_columns(model: BaseAutoencoder, data: Dataset) -> Any:
    """The rows with their columns in the model's order.

    Raises:
        InputError: columns that the model does not know or misses, another width or size.
    """
    X, names = data.X, getattr(model, "feature_names_in_", None)
    if hasattr(X, "columns") and names is None:
        X = _numbers(X, data.name)
    if hasattr(X, "columns") and names is not None:
        here, known = [str(name) for name in X.columns], [str(name) for name in names]
        missing = [name for name in known if name not in here]
        unknown = [name for name in here if name not in known]
        if missing or unknown:
            problems = [f"misses {_listed(missing)}"] if missing else []
            problems += [f"has {_listed(unknown)}, which the model does not know"] if unknown else []
            raise InputError(f"{data.name}: {' and '.join(problems)}; give it the columns that the model was fitted on")
        return X.set_axis(here, axis=1)[known]
    if hasattr(X, "shape") and model.preprocessing_.source == "table":
        raise InputError(
            f"{data.name}: the model was fitted on a table with names of columns; give it a .csv or .parquet"
        )
    if hasattr(X, "shape") and model.preprocessing_.source != "text":
        shape, wanted = tuple(X.shape[1:]), tuple(model.preprocessing_.row_shape)
        if shape != wanted:
            resize = " (--resize when fitting keeps a size)" if len(wanted) > 1 else ""
            raise InputError(f"{data.name}: {_shaped(shape)}, and the model was fitted on {_shaped(wanted)}{resize}")
    return X


def _numbers(table: Any, name: str) -> Any:
    """A table as a matrix of numbers.

    Raises:
        InputError: a column that holds none.
    """
    kinds = [getattr(dtype, "kind", "O") for dtype in table.dtypes]
    text = [str(column) for column, kind in zip(table.columns, kinds, strict=True) if kind not in "biuf"]
    if text:
        raise InputError(f"{name}: column {text[0]!r} holds no numbers, and numbers are wanted here")
    return table.to_numpy()


def check_same_columns(rows: Dataset, other: Dataset) -> None:
    """Refuse data that do not go with the rows: other columns, another width or size.

    Raises:
        InputError: with what differs.
    """
    columns = [[str(name) for name in getattr(data.X, "columns", ())] for data in (rows, other)]
    if columns[0] != columns[1]:
        odd = sorted(set(columns[0]) ^ set(columns[1]))
        differing = _listed(odd) if odd else "the order of the columns"
        raise InputError(f"{other.name}: {differing} {'is' if len(odd) < 2 else 'are'} not alike in {rows.name}")
    shapes = [getattr(data.X, "shape", (0, 0))[1:] for data in (rows, other)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{other.name}: {_shaped(shapes[1])}, and {rows.name}: {_shaped(shapes[0])}; both must be alike"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:5]))}{more}"


def _shaped(shape: tuple[int, ...]) -> str:
    return f"rows of {shape[0]} columns" if len(shape) == 1 else "images of " + "x".join(map(str, shape))


def describe(data: Dataset) -> str:
    """The rows in words: how many, and what one is.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import Dataset
        >>> describe(Dataset(np.zeros((3, 28, 28), np.uint8), name="digits"))
        'digits: 3 rows, images of 28x28 uint8'
    """
    X = data.X
    rows = f"{data.name}: {data.n_rows:,} rows"
    if hasattr(X, "columns"):
        return f"{rows}, a table of {len(X.columns)} columns"
    if hasattr(X, "tocsr"):
        return f"{rows}, sparse, {X.shape[1]:,} columns"
    if hasattr(X, "shape"):
        kind = f"{X.shape[1]:,} columns of {X.dtype}" if X.ndim == 2 else f"{_shaped(X.shape[1:])} {X.dtype}"
        return f"{rows}, {kind}"
    return f"{rows}, texts"


def open_codes(model: BaseAutoencoder, source: str, log: Log) -> Any:
    """Codes from a file, units in the model's order where they are named.

    Raises:
        InputError: what cannot be read, or codes of another width.
    """
    import isthmus.data

    if not Path(source).expanduser().is_file():
        raise InputError(f"{source}: no such file; codes are in a .npy, .csv or .parquet file that encode wrote")
    data = isthmus.data.open(source)
    for note in data.notes:
        log.note(note)
    X, names = data.X, list(model.get_feature_names_out())
    if hasattr(X, "columns"):
        here = [str(name) for name in X.columns]
        X = X.set_axis(here, axis=1)[names] if sorted(here) == sorted(names) else X
        X = _numbers(X, source)
    if not hasattr(X, "ndim"):
        raise InputError(f"{source}: holds texts; codes are in a .npy, .csv or .parquet file that encode wrote")
    if X.ndim != 2 or X.shape[1] != model.code_size_:
        raise InputError(f"{source}: {_shaped(X.shape[1:])}; this model's codes have {model.code_size_} columns")
    return X
