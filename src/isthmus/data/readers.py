"""`open`: read a path, a named data set or data in memory as a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.array_files import check_rows, is_idx, native, read_idx, read_npy, read_npz, refuse_split
from isthmus.data.dataset import Dataset, Documents, as_pandas, index_columns, is_row_numbers
from isthmus.data.declared_rows import with_dtypes, without_split
from isthmus.data.images import IMAGE_SUFFIXES, check_size, read_image_folder, resize_images
from isthmus.data.json_lines import read_json_lines
from isthmus.data.messages import hint, one_line
from isthmus.data.named import is_named, named_sets, read_named
from isthmus.data.packed import pattern
from isthmus.data.read_options import ReadOptions
from isthmus.data.spreadsheets import read_excel
from isthmus.data.table_files import (
    CSV,
    read_arrow,
    read_csv,
    read_parquet,
    select_columns,
    with_notes_on_numbers,
    with_written_numbers,
)
from isthmus.errors import InputError

KNOWN_SUFFIXES = (
    ".npy", ".npz", ".csv", ".tsv", ".parquet", ".feather", ".arrow", ".xlsx", ".jsonl", ".ndjson",
    ".csv.gz", ".csv.zst", ".jsonl.gz", ".idx", "-idx3-ubyte.gz",
)  # fmt: skip

_JSON_LINES = pattern("jsonl", "ndjson")
_WITHOUT_SPLITS: dict[str, Callable[[Path], Dataset]] = {
    ".npy": read_npy,
    ".parquet": read_parquet,
    ".feather": read_arrow,
    ".arrow": read_arrow,
    ".xlsx": read_excel,
}


def open(
    source: Any,
    *,
    split: str | None = None,
    resize: tuple[int, int] | None = None,
    exclude: Sequence[str] = (),
    label_column: str | None = None,
    sep: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    na: str | Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    affixes: Mapping[str, str] | None = None,
) -> Dataset:
    """Read rows from a file, a folder of images, a named data set, or data in memory.

    X has shape (n, columns), (n, h, w) or (n, h, w, c). A table is a DataFrame with its names and types, and
    texts are `Documents`. Values are not scaled, filled or encoded.

    Args:
        source: one of
            .npy (memory-mapped if larger than 256 MiB), .npz (one array; X and y; images and labels;
            x_train, y_train, x_test, ...), .csv, .tsv, .parquet, .feather and .arrow, .xlsx (the first sheet, with
            the extra excel), IDX (the format of MNIST), .jsonl (texts in the field "text", or "title" and "body";
            else a table); .csv, .tsv and .jsonl may end in .gz or .zst;
            a folder of images, whose sub-folders are the labels;
            NAME or NAME:SPLIT of `named_sets` (write ./NAME for a file of the same name);
            an array, a DataFrame, a scipy sparse matrix, `Documents`, a list of texts.
        split: name of a split, such as "train", "test" or "all"; FILE:SPLIT is equivalent. A column `split` of a table
            in a file, with values such as train and test, is left out, with a note.
        resize: height and width to which images of bytes are resized.
        exclude: columns of a table to leave out.
        label_column: column of a table, or field of texts, that becomes `labels` instead of a part of X.
        sep, encoding, header: how a .csv file is read: the separator of columns, the encoding, and True if the first
            line holds column names. None guesses, and notes say what was guessed.
        decimal, thousands, na: how texts of a table are read as numbers: the decimal sign, the separator of thousands,
            and further values, texts or numbers, that are missing.
        dtypes: declared types of columns of a table, {column: type}: "real", "count", "binary", "category"; "date",
            parsed by one format; "id", which becomes `carried` and `row_names`; "ignore", which is left out; "text",
            a column whose texts become X, if it is the only one left.
        affixes: {column: text} that stands before or after each number, such as {"weight": "kg"}.

    Raises:
        InputError: if the source cannot be read, with the file, the line or column, and what to do; if a compressed
            file promises or holds more than 64 MiB and more than 500 times its size.

    Example:
        >>> data = open("mnist-sample:test")
        >>> data.X.shape, data.X.dtype, data.labels[:3], data.name
        ((1000, 28, 28), dtype('uint8'), array([7, 0, 5]), 'mnist-sample:test')
    """
    options = ReadOptions(
        sep, decimal, thousands, encoding, header, (na,) if isinstance(na, str) else tuple(na), dtypes or {},
        affixes or {},
    )  # fmt: skip
    data = open_undeclared(source, options, split=split, resize=resize, exclude=exclude, label_column=label_column)
    if isinstance(source, str | Path):
        data = without_split(data, options.dtypes)
    return with_dtypes(data, options.dtypes) if options.dtypes else data


def open_undeclared(
    source: Any,
    options: ReadOptions | None = None,
    *,
    split: str | None = None,
    resize: tuple[int, int] | None = None,
    exclude: Sequence[str] = (),
    label_column: str | None = None,
) -> Dataset:
    """Read rows as `open` does, for a model that knows or learns the types of the columns.

    Declared types only determine how texts are read.
    """
    options = ReadOptions() if options is None else options
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    size = None if resize is None else check_size(resize)
    from_file = isinstance(source, str | Path)
    if options.reads_text and not (from_file and CSV.search(str(source))):
        raise InputError(
            f"{', '.join(options.reads_text)}: options of .csv and .tsv files, and {_title(source)} is not one"
        )
    if isinstance(source, Dataset):
        data = source
        refuse_split(source.name, split)
    elif from_file:
        data = _read(source, split, size, label_column, options)
    else:
        data = _take(source)
        refuse_split("data in memory", split)
    if hasattr(data.X, "columns"):
        if not (from_file and CSV.search(str(source))):
            data = with_written_numbers(data, options) if options.reads_numbers else with_notes_on_numbers(data)
        data = select_columns(data, exclude, label_column)
    else:
        # the reader of texts in a file has already checked and read the label field
        _refuse_columns(data, exclude, None if isinstance(data.X, Documents) and from_file else label_column)
    if size is not None and getattr(data.X, "shape", ())[1:3] != size:
        data = replace(data, X=resize_images(data.X, size, data.name))
    return data


def _title(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "data in memory"


def _refuse_columns(data: Dataset, exclude: tuple[str, ...], label_column: str | None) -> None:
    """Raise if columns are selected by name in data without column names."""
    kind = "texts" if isinstance(data.X, Documents) else "an array"
    if exclude:
        raise InputError(f"{data.name}: {kind} without column names; column {exclude[0]!r} cannot be excluded")
    if label_column is not None:
        raise InputError(
            f"{data.name}: {kind} without column names; column {label_column!r} cannot be used as labels; "
            "store arrays as X and y in a .npz file, and texts with labels in a .jsonl file"
        )


def _read(
    source: str | Path,
    split: str | None,
    resize: tuple[int, int] | None,
    label_column: str | None,
    options: ReadOptions,
) -> Dataset:
    """Read a named data set, a folder or a file."""
    if isinstance(source, str) and is_named(source) and not (source.startswith("adbench/") and Path(source).exists()):
        if label_column is not None:
            raise InputError(
                f"{source}: a named data set includes its labels; omit the label column (kind hash learns from "
                "them with --set labels=minimal-loss)"
            )
        data = read_named(source, split)
        if Path(source).exists():
            data = data.with_notes(
                f"{source} is the named data set; write ./{source} for the file or folder of this name"
            )
        return data
    path = Path(source).expanduser()
    if not path.exists() and isinstance(source, str):
        path, split = _split_off(source, split)
    if path.is_dir():
        return _read_folder(path, split, resize)
    _refuse_unreadable(path)
    return _read_file(path, split, label_column, options)


def _split_off(source: str, split: str | None) -> tuple[Path, str | None]:
    """Split FILE:SPLIT into its parts.

    Raises:
        InputError: if FILE does not exist.
    """
    name, _, suffix = source.rpartition(":")
    if name and Path(name).expanduser().exists():
        if split and split != suffix:
            raise InputError(f"{source}: two splits requested, {suffix!r} and split={split!r}; choose one")
        return Path(name).expanduser(), suffix
    path = Path(source)
    if path.suffix or path.parent != Path("."):
        raise InputError(f"{source}: no such file or folder; check the path (relative to the current folder)")
    sets = list(named_sets())
    suggestion = hint(source.partition(":")[0], sets)
    if not suggestion.startswith("did"):
        suggestion = f"the named data sets are {', '.join(sets)}"
    raise InputError(f"{source}: no file, folder or named data set of this name; {suggestion}")


def _refuse_unreadable(path: Path) -> None:
    """Raise if a file is missing, unreadable or empty."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: neither a file nor a folder; copy its content to a file")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or one_line(error)}); change its permissions, or copy it"
        ) from None
    if empty:
        raise InputError(f"{path}: an empty file (0 bytes); write it again")


def _read_folder(path: Path, split: str | None, resize: tuple[int, int] | None) -> Dataset:
    """Read a folder of images; a split is a sub-folder."""
    if split in (None, "all"):
        return read_image_folder(path, resize)
    if not (path / str(split)).is_dir():
        folders = sorted(p.name for p in path.iterdir() if p.is_dir())
        found = f"it has {', '.join(folders[:10])}" if folders else "it has none"
        raise InputError(f"{path}: no sub-folder {split!r} for this split; {found}")
    return replace(read_image_folder(path / str(split), resize), name=f"{path.resolve().name}:{split}")


def _read_file(path: Path, split: str | None, label_column: str | None, options: ReadOptions) -> Dataset:
    """Read a file in the format of its suffix."""
    suffix = path.suffix.lower()
    if CSV.search(path.name):
        refuse_split(path, split)
        return read_csv(path, options)
    if suffix == ".xlsx" and not options.reads_numbers:
        refuse_split(path, split)
        return with_written_numbers(read_excel(path), options)
    if suffix in _WITHOUT_SPLITS or is_idx(path):
        refuse_split(path, split)
        return (read_idx if is_idx(path) else _WITHOUT_SPLITS.get(suffix, read_csv))(path)
    if suffix == ".npz":
        return read_npz(path, split)
    if _JSON_LINES.search(path.name):
        return read_json_lines(path, split, label_column)
    if suffix in IMAGE_SUFFIXES:
        raise InputError(f"{path}: a single image; name the folder that contains the images")
    raise InputError(
        f"{path}: unknown file format{' ' + path.suffix if suffix else ', the name has no suffix'}; "
        f"known are {', '.join(KNOWN_SUFFIXES)}, and folders of images"
    )


def _take(source: Any) -> Dataset:
    """Wrap data in memory without copying them.

    Raises:
        InputError: if the type is not supported.
    """
    name, source = "the data in memory", as_pandas(source)
    if isinstance(source, Documents):
        return Dataset(source, name=name)
    if isinstance(source, np.ndarray):
        return Dataset(check_rows(native(source), name), name=name)
    if hasattr(source, "tocsr"):
        return Dataset(check_rows(source.tocsr(), name), name=name)
    if hasattr(source, "columns") and hasattr(source, "dtypes"):
        return _take_table(source, name)
    if isinstance(source, list | tuple) and source and all(isinstance(text, str) for text in source):
        return Dataset(Documents(source), name=name)
    raise InputError(
        f"cannot read data of type {type(source).__name__}; pass a path, the name of a data set, an array, "
        "a DataFrame, a scipy sparse matrix or a list of texts"
    )


def _take_table(table: Any, name: str) -> Dataset:
    import pandas as pd

    if not len(table):
        raise InputError(f"{name}: the table has no rows")
    index = getattr(table, "index", None)
    if not isinstance(index, pd.Index) or is_row_numbers(index):
        return Dataset(table, name=name)
    return Dataset(table, name=name, row_names=tuple(map(str, index)), carried=index_columns(index))
