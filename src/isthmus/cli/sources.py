"""Read the rows for a command in the way the model was trained, and check that they match the model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli import windowing
from isthmus.cli.terminal import Log
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.data.read_options import ReadOptions
    from isthmus.data.series import Windows
    from isthmus.data.table_columns import TableColumn
    from isthmus.estimators.base import BaseAutoencoder


READ_OPTIONS = "reading"
"""Entry of the history of a model with the read options of `isthmus fit`: excluded columns, image size, windows."""


def load_autoencoder(path: str, device: str = "auto") -> BaseAutoencoder:
    """Load the autoencoder in a model file, to run on a device.

    Raises:
        InputError: if the file cannot be loaded or contains a classifier, a detector of odd rows or a transformer.
    """
    import isthmus

    model = isthmus.load(path, device=device)
    if model.kind == "imputer":
        raise InputError(f"{path}: contains an imputer, not an autoencoder; use it with isthmus impute apply")
    if model.kind in ("filter-bank", "whitening"):
        raise InputError(
            f"{path}: contains a {model.kind}, not an autoencoder; use it in Python: isthmus.load(PATH).transform(X)"
        )
    if hasattr(model, "p_value"):
        raise InputError(
            f"{path}: contains a detector of odd rows, not an autoencoder; use it with isthmus anomalies score"
        )
    if not hasattr(model, "preprocessing_"):
        raise InputError(f"{path}: contains a {model.kind}, not an autoencoder; use it with isthmus classify predict")
    return model


def record_read_options(
    model: BaseAutoencoder, exclude: list[str], resize: tuple[int, int] | None, reading: ReadOptions
) -> None:
    """Store the read options in the model, so that later commands read their data in the same way."""
    history: dict[str, Any] = model.history_
    history[READ_OPTIONS] = {"exclude": exclude, "resize": list(resize) if resize else None} | (
        {"text": reading.to_dict()} if reading.is_given else {}
    )


def exclude_later(model: BaseAutoencoder, exclude: Sequence[str]) -> None:
    """Add columns to those that later commands leave out of their data."""
    history: dict[str, Any] = model.history_
    stored = history.get(READ_OPTIONS) or {"exclude": [], "resize": None}
    more = [name for name in exclude if name not in stored["exclude"]]
    model.history_ = {**history, READ_OPTIONS: {**stored, "exclude": [*stored["exclude"], *more]}}


@dataclass(frozen=True)
class Reading:
    """The options of a command on the columns of its data.

    Attributes:
        exclude: columns that are left out, in addition to those that training left out.
        extra_columns: "refuse" or "ignore" columns that the model does not know.
        keep: columns that outputs repeat.
        text: options of text tables that differ from those of the training rows.
        unknown: "missing" or "refuse" values that are no level of a column; None is what the model has.
        larger: True if images may be larger than those of training.

    Raises:
        InputError: another value of `extra_columns` or `unknown`.
    """

    exclude: Sequence[str] | None = None
    extra_columns: str = "refuse"
    keep: Sequence[str] | None = None
    text: ReadOptions | None = None
    unknown: str | None = None
    larger: bool = False

    def __post_init__(self) -> None:
        if self.unknown not in (None, "missing", "refuse"):
            raise InputError(f"--unknown {self.unknown}: it must be missing or refuse")
        if self.extra_columns not in ("ignore", "refuse"):
            raise InputError(f"--extra-columns {self.extra_columns}: it must be ignore or refuse")


AS_TRAINED = Reading()
"""The data are read as those of training."""


def open_for_model(
    model: BaseAutoencoder, source: str, log: Log, *, labels: str | None = None, reading: Reading = AS_TRAINED
) -> Dataset:
    """Read rows for a fitted model, as the training rows were read: drop excluded columns, resize images.

    Args:
        model: a fitted autoencoder.
        source: a source of `isthmus.data.open`.
        log: log for the notes of the reader.
        labels: a column of the data or a .npy file with the labels.
        reading: the options on columns. Those to keep are the last of the carried columns of the result.

    Raises:
        InputError: if the data cannot be read, a named column is missing, or their columns or shape differ from the
            training data.
    """
    from isthmus.data.declared_rows import with_identifiers, without_split
    from isthmus.data.dtypes import checked_dtypes

    history: dict[str, Any] = model.history_
    read_options = history.get(READ_OPTIONS) or {"exclude": [], "resize": None}
    if reading.unknown is not None:
        model.set_params(unknown=reading.unknown)
    windows, channels = _windows_of(read_options)
    names = set(_known_columns(model) or channels)
    identifiers = [] if windows is None else windows.identifiers
    is_input = labels in names or labels in identifiers
    size = tuple(read_options["resize"]) if read_options["resize"] else None
    data = open_labelled(
        source, None if is_input else labels, _text_options(read_options, reading.text, source), resize=size
    )
    if is_input and hasattr(data.X, "columns") and labels in data.X.columns:
        if labels in names:
            log.note(f"the model was fitted on the label column {labels!r}; its codes contain the labels")
        data = replace(data, labels=data.X[labels].to_numpy())
    given = {} if reading.text is None else reading.text.dtypes
    _check_named(data, "--dtype", list(given))
    _check_named(data, "--exclude", reading.exclude or ())
    dtypes = {**checked_dtypes(model.dtypes), **given}
    if hasattr(data.X, "columns"):
        data = with_identifiers(data, [name for name, dtype in dtypes.items() if dtype == "id"])
    data = without_split(_with_kept(data, reading.keep or (), None if is_input else labels), names)
    for note in data.notes:
        log.note(note)
    if hasattr(data.X, "columns"):
        kept = set(reading.keep or ()) - names - set(identifiers)
        out = {*read_options["exclude"], *(reading.exclude or ()), *kept}
        out |= {name for name, dtype in dtypes.items() if dtype == "ignore"}
        data = replace(data, X=data.X.drop(columns=[name for name in data.X.columns if str(name) in out]))
        columns = [*identifiers, *channels]
        known = _known_columns(model) if windows is None else columns
        if reading.extra_columns == "ignore":
            data = _without_unknown(known, data, log)
        if windows is not None:
            data = replace(data, X=_in_order(data, columns))
            data = windowing.windowed(data, windows, log, reading.keep or ())
    X = _match_columns(model, data, larger=reading.larger)
    return with_conditions(replace(data, X=X), model._condition_names)


def _with_kept(data: Dataset, keep: Sequence[str], labels: str | None) -> Dataset:
    """Return the data with columns to keep among the carried ones; the labels may be a column.

    Raises:
        InputError: the data has no such column.
    """
    import pandas as pd

    carried = {} if data.carried is None else {str(name): data.carried[name] for name in data.carried.columns}
    wanted = [name for name in dict.fromkeys(keep) if name not in carried]
    _check_named(data, "--keep", [name for name in wanted if name != labels])
    for name in wanted:
        values = data.labels if name == labels else data.X.iloc[:, [str(each) for each in data.X].index(name)]
        carried[name] = pd.Series(values).reset_index(drop=True)
    return replace(data, carried=pd.DataFrame(carried)) if wanted else data


def _check_named(data: Dataset, option: str, columns: Sequence[str]) -> None:
    """Refuse columns that the data does not have."""
    from isthmus.data.messages import hint

    names = [str(name) for name in getattr(data.X, "columns", ())]
    for column in columns:
        if column not in names:
            found = hint(column, names) if names else "the rows have no named columns"
            raise InputError(f"{data.name}: {option} {column}: no such column; {found}")


def _windows_of(read_options: Mapping[str, Any]) -> tuple[Windows | None, list[str]]:
    """Return how a model cuts tables into windows, and their channels; None and no channel of other models."""
    from isthmus.data.series import Windows

    if "windows" not in read_options:
        return None, []
    config = dict(read_options["windows"])
    channels = config.pop("channels")
    return Windows.from_dict(config), channels


def _without_unknown(known: Sequence[str] | None, data: Dataset, log: Log) -> Dataset:
    """Return a table without the columns that the model does not know, and name them in a note."""
    unknown = [] if known is None else [name for name in data.X.columns if str(name) not in set(known)]
    if not unknown:
        return data
    log.note(f"{data.name}: the model does not know {_listed([str(name) for name in unknown])}; left out")
    return replace(data, X=data.X.drop(columns=unknown))


def _known_columns(model: BaseAutoencoder) -> list[str] | None:
    """Return the names of the columns that a model reads; of a model of texts the column that was declared as text."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    if model.preprocessing_.inputs.source != "text":
        return None
    return [str(name) for name, dtype in (model.dtypes or {}).items() if dtype == "text"] or None


def _text_options(stored: Mapping[str, Any], given: ReadOptions | None, source: str) -> ReadOptions:
    """Return the options by which a table is read: those of the training rows, changed by those that are given.

    The stored separator, encoding and header do not apply to other files than text.
    """
    from isthmus.data.read_options import ReadOptions
    from isthmus.data.table_files import CSV

    options = ReadOptions.from_dict(stored.get("text", {})).for_known_columns
    if not CSV.search(source):
        options = replace(options, sep=None, encoding=None, header=None, dtypes={})
    return options if given is None else options.changed_by(given)


def with_conditions(rows: Dataset, names: Sequence[str]) -> Dataset:
    """Return rows that are not a table with their labels as the condition that a model takes; others as they are.

    Raises:
        InputError: rows without labels, or several conditions.
    """
    from isthmus.data import Conditioned

    if not names or hasattr(rows.X, "columns"):
        return rows
    if len(names) > 1:
        raise InputError(
            f"{rows.name}: the rows are not a table, whose labels are one condition, and the model takes "
            f"{len(names)} ({', '.join(names)}); name one, or give a table"
        )
    if rows.labels is None:
        raise InputError(
            f"{rows.name}: has no labels to take as the condition {names[0]!r}; name a .npy file with --labels"
        )
    return replace(rows, X=Conditioned(rows.X, {names[0]: rows.labels}))


def with_target(rows: Dataset, target: str | None, log: Log) -> Dataset:
    """Return rows with the rows of another data source as their target; without one as they are.

    Raises:
        InputError: the target cannot be read, or has another number of rows.
    """
    import isthmus.data

    if target is None:
        return rows
    targets = isthmus.data.open(target)
    for note in targets.notes:
        log.note(note)
    if targets.n_rows != rows.n_rows:
        raise InputError(
            f"--target {target}: {pluralize(targets.n_rows, 'row')}, and {rows.name} has {rows.n_rows:,}; give one "
            "target for each row"
        )
    return replace(rows, X=isthmus.data.Paired(rows.X, targets.X))


def given_conditions(model: BaseAutoencoder, typed: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the conditions of the options --condition NAME=VALUE; None without any.

    Raises:
        InputError: text without =, a name twice, or conditions that the model does not take.
    """
    from isthmus.data.conditions import ConditionalPreprocessor

    if not typed:
        return None
    texts: dict[str, str] = {}
    for text in typed:
        name, sign, value = text.partition("=")
        if not sign or name in texts:
            raise InputError(f"--condition {text}: give NAME=VALUE, each name once")
        texts[name] = value
    preprocessing = model.preprocessing_
    if not isinstance(preprocessing, ConditionalPreprocessor):
        raise InputError(f"--condition {typed[0]}: the model takes none; fit it with --condition NAME")
    return preprocessing.parsed(texts)


def open_labelled(source: str, labels: str | None, text: ReadOptions | None = None, **read_options: Any) -> Dataset:
    """Read data as `isthmus.data.open` does, and labels from a column or from a .npy file.

    Declared types of columns are left to the model.

    Raises:
        InputError: if the data or labels cannot be read, or their numbers differ.
    """
    from isthmus.data.readers import open_undeclared

    column = None if is_file(labels) else labels
    data = open_undeclared(source, text, label_column=column, **read_options)
    return replace(data, labels=_labels_of_file(str(labels), data.n_rows)) if is_file(labels) else data


def take_weights(rows: Dataset, column: str) -> tuple[Dataset, np.ndarray]:
    """Return the rows without a column, and its values as weights of the rows.

    Raises:
        InputError: the rows have no such column.
    """
    names = [str(name) for name in getattr(rows.X, "columns", ())]
    if column not in names:
        found = "no such column" if names else "the rows have no named columns"
        raise InputError(f"{rows.name}: {found}: --weights {column}; name a column of a table")
    at = names.index(column)
    return replace(rows, X=rows.X.drop(columns=rows.X.columns[at])), rows.X.iloc[:, at].to_numpy()


def is_file(labels: str | None) -> bool:
    """Return whether `labels` names a .npy file rather than a column."""
    return labels is not None and labels.lower().endswith(".npy")


def file_of(labels: str | None) -> str | None:
    """Return the file that `labels` names; None for a column."""
    return labels if is_file(labels) else None


def require_labels(rows: Dataset) -> Dataset:
    """Return the rows after checking that each has one label.

    Raises:
        InputError: if there are no labels, or lists of labels.
    """
    if rows.labels is None:
        raise InputError(f"{rows.name}: has no labels; name a column or a .npy file with --labels")
    if any(isinstance(label, list) for label in rows.labels[:100]):
        raise InputError(f"{rows.name}: each label is a list of classes; a classifier needs one class per row")
    return rows


def _labels_of_file(path: str, n_rows: int) -> np.ndarray:
    """Read one label per row from a .npy file."""
    import numpy as np

    try:
        labels = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"--labels {path}: no such file; check the path") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--labels {path}: cannot be read as a .npy array ({error})") from None
    if labels.shape != (n_rows,):
        raise InputError(f"--labels {path}: shape {labels.shape} for {n_rows} rows; one label per row is needed")
    return labels


def _match_columns(model: BaseAutoencoder, data: Dataset, *, larger: bool = False) -> Any:
    """Return the rows with their columns in the order of the model; with `larger` images may exceed those of training.

    Raises:
        InputError: if columns are missing or unknown, or the row shape differs.
    """
    from isthmus.data.declared_rows import as_declared
    from isthmus.estimators.noise_removal import is_larger

    X, known = data.X, _known_columns(model)
    if hasattr(X, "columns") and known is None:
        X = _numbers(X, data.name)
    if hasattr(X, "columns") and known is not None:
        X = _in_order(data, known, model.preprocessing_.inputs.table)
        return X if model.preprocessing_.inputs.source == "table" else as_declared(X, {known[0]: "text"})
    if hasattr(X, "shape") and model.preprocessing_.inputs.source == "table":
        raise InputError(
            f"{data.name}: the model was fitted on a table with named columns; use a .csv or .parquet file"
        )
    if hasattr(X, "shape") and model.preprocessing_.inputs.source != "text":
        shape, expected = tuple(X.shape[1:]), tuple(model.preprocessing_.inputs.row_shape)
        if shape != expected and not (larger and is_larger(X, model.preprocessing_)):
            resize = ", or fit the model with --resize" if len(expected) > 1 and len(shape) > 1 else ""
            raise InputError(
                f"{data.name}: {_shaped(shape)}, but the model was fitted on {_shaped(expected)}; "
                f"give data of this shape{resize}"
            )
    return X


def _in_order(data: Dataset, names: Sequence[str], known: Sequence[TableColumn] = ()) -> Any:
    """Return the table of data with its columns in the order of these names.

    Args:
        data: a table.
        names: the columns of the model.
        known: what the model knows of them; other values are named together with other columns.

    Raises:
        InputError: columns are missing or unknown.
    """
    from isthmus.data.tables import contradictions, joined

    found = [str(name) for name in data.X.columns]
    present, wanted = set(found), set(names)
    missing = [name for name in names if name not in present]
    unknown = [name for name in found if name not in wanted]
    if missing or unknown:
        problems = [f"missing {_listed(missing)}"] if missing else []
        problems += [f"unknown {_listed(unknown)}"] if unknown else []
        advice = "use the columns that the model was fitted on"
        if not missing:
            advice += f", or leave others out (--exclude {shlex.quote(unknown[0])}, or --extra-columns ignore)"
        text = joined([" and ".join(problems), *contradictions(known, data.X)])
        raise InputError(f"{data.name}: {text}; {advice}")
    return data.X.set_axis(found, axis=1)[list(names)]


def _numbers(table: Any, name: str) -> Any:
    """Convert a table to a matrix of numbers.

    Raises:
        InputError: if a column is not numeric.
    """
    kinds = [getattr(dtype, "kind", "O") for dtype in table.dtypes]
    text = [str(column) for column, kind in zip(table.columns, kinds, strict=True) if kind not in "biuf"]
    if text:
        raise InputError(f"{name}: column {text[0]!r} is not numeric; only numeric columns are accepted here")
    return table.to_numpy()


def check_same_columns(rows: Dataset, other: Dataset) -> None:
    """Check that two data sets have the same columns and row shape.

    Raises:
        InputError: if they differ.
    """
    columns = [[str(name) for name in getattr(data.X, "columns", ())] for data in (rows, other)]
    if columns[0] != columns[1]:
        unmatched = sorted(set(columns[0]) ^ set(columns[1]))
        difference = f"{_listed(unmatched)} only in one of them" if unmatched else "the order of the columns"
        raise InputError(f"{other.name} and {rows.name} differ: {difference}; use the same columns in both")
    shapes = [getattr(data.X, "shape", (0, 0))[1:] for data in (rows, other)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{other.name} and {rows.name} differ: {_shaped(shapes[1])} and {_shaped(shapes[0])}; both must be alike"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:5]))}{more}"


def _shaped(shape: tuple[int, ...]) -> str:
    return f"rows of {pluralize(shape[0], 'column')}" if len(shape) == 1 else "images of " + "x".join(map(str, shape))


def describe(data: Dataset) -> str:
    """Describe a data set: the number and the type of its rows.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import Dataset
        >>> describe(Dataset(np.zeros((3, 28, 28), np.uint8), name="digits"))
        'digits: 3 rows, images of 28x28 uint8'
    """
    from isthmus.data.layouts import resolved

    X = data.X
    rows = f"{data.name}: {pluralize(data.n_rows, 'row')}"
    if hasattr(X, "columns"):
        return f"{rows}, a table of {pluralize(len(X.columns), 'column')}"
    if hasattr(X, "tocsr"):
        return f"{rows}, sparse, {pluralize(X.shape[1], 'column')}"
    if hasattr(X, "shape"):
        if X.ndim == 2:
            return f"{rows}, {pluralize(X.shape[1], 'column')} of {X.dtype}"
        is_series = X.ndim == 3 and data.n_rows > 0 and resolved(X) == "ntc"
        kind = f"series of {X.shape[1]}x{X.shape[2]}" if is_series else _shaped(X.shape[1:])
        return f"{rows}, {kind} {X.dtype}"
    return f"{rows}, texts"


def open_codes(model: BaseAutoencoder, source: str, log: Log) -> tuple[Any, pd.DataFrame | None]:
    """Read codes from a file, and the other columns, such as identifiers, which outputs repeat.

    Columns with the names of the units are put in the order of the model. Without these names every column is a unit.

    Raises:
        InputError: if the file cannot be read, or the codes have the wrong width.
    """
    import isthmus.data

    if not Path(source).expanduser().is_file():
        raise InputError(f"{source}: no such file; name a .npy, .csv or .parquet file written by isthmus encode")
    data = isthmus.data.open(source)
    for note in data.notes:
        log.note(note)
    X, names = data.X, list(model.get_feature_names_out())
    if hasattr(X, "columns"):
        X = X.set_axis([str(name) for name in X.columns], axis=1)
        if set(names) <= set(X.columns):
            data = _with_kept(replace(data, X=X), [name for name in X.columns if name not in names], None)
            X = X[names]
        X = _numbers(X, source)
    if not hasattr(X, "ndim"):
        raise InputError(f"{source}: contains texts; name a .npy, .csv or .parquet file written by isthmus encode")
    if X.ndim != 2 or X.shape[1] != model.code_size_:
        raise InputError(f"{source}: {_shaped(X.shape[1:])}; the codes of this model have {model.code_size_} columns")
    return X, data.carried
