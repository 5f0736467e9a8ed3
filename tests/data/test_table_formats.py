"""Tables in every format: what is written comes back with its names, types and values."""

from __future__ import annotations

import datetime
import gzip
import sys
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

import isthmus.data as data


def frames():
    """Return frames of different types, as a text file can hold them: no categories, no floats that are whole."""
    rng = np.random.default_rng(0)
    n = 25
    every = pd.DataFrame({
        "n": rng.integers(-5, 9, n), "x": rng.normal(size=n), "gap, with": rng.normal(size=n),
        "tab\tand \"quote\"": rng.choice(["ab", "c; d", "é, f"], n), "b": rng.random(n) > 0.5,
        "day": pd.date_range("2020-02-27", periods=n).astype("datetime64[s]"),
    })  # fmt: skip
    every.loc[3, "gap, with"] = np.nan
    every.iloc[4, 3] = None
    return {
        "all types": every,
        "one column": pd.DataFrame({"value": [1.5, 2.5, 3.5]}),
        "one row": pd.DataFrame({"a": [1], "b": ["x"]}),
        "texts": pd.DataFrame({"a": ["p q", "r"], "b": ["x\ty", "z"]}),
    }


def write(frame, path):
    suffix = "".join(path.suffixes)
    separator = "\t" if ".tsv" in suffix else ","
    if suffix.endswith(".zst"):
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(frame.to_csv(index=False, sep=separator).encode())
    elif suffix.startswith((".csv", ".tsv")):
        frame.to_csv(path, index=False, sep=separator)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".feather":
        frame.to_feather(path)
    elif suffix == ".arrow":
        table = pa.Table.from_pandas(frame)
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        frame.to_excel(path, index=False)
    return path


def kinds(frame):
    return {name: dtype.kind if dtype.kind != "O" else "text" for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".parquet", ".feather", ".arrow"])
@pytest.mark.parametrize("name", frames())
def test_a_table_comes_back_with_its_names_types_and_values(tmp_path, name, suffix):
    frame = frames()[name]
    read = data.open(write(frame, tmp_path / f"rows{suffix}"))
    assert kinds(read.X) == kinds(frame)
    pd.testing.assert_frame_equal(read.X, frame, check_dtype=False)
    assert (read.name, read.row_names, read.notes) == ("rows", None, ())


@pytest.mark.parametrize("name", frames())
def test_a_sheet_of_excel_comes_back_with_its_names_types_and_values(tmp_path, name):
    pytest.importorskip("openpyxl")
    frame = frames()[name]
    read = data.open(write(frame, tmp_path / "rows.xlsx"))
    assert kinds(read.X) == kinds(frame)
    pd.testing.assert_frame_equal(read.X, frame, check_dtype=False)
    assert (read.name, read.row_names, read.notes) == ("rows", None, ())


@pytest.mark.parametrize("suffix", [".feather", ".arrow", ".parquet"])
def test_arrow_files_keep_categories_and_the_index(tmp_path, suffix):
    levels = pd.Categorical(["u", "v"], ["u", "v", "w"])
    frame = pd.DataFrame({"c": levels, "f": np.float32([1, 2])}, index=["p", "q"])
    table = pa.Table.from_pandas(frame)
    if suffix == ".feather":
        feather.write_feather(table, tmp_path / "t.feather")
        read = data.open(tmp_path / "t.feather")
    else:
        read = data.open(write(frame, tmp_path / f"t{suffix}"))
    assert read.row_names == ("p", "q")
    pd.testing.assert_frame_equal(read.X, frame.reset_index(drop=True))


def test_a_tsv_is_divided_at_tabs_alone(tmp_path):
    (tmp_path / "a.tsv").write_text("x,y\tz;w\na,b\t2\nc,d\t3\n")
    read = data.open(tmp_path / "a.tsv")
    assert read.X.to_dict("list") == {"x,y": ["a,b", "c,d"], "z;w": [2, 3]}
    assert read.notes == ()


def test_compressed_tables_have_the_errors_of_plain_ones(tmp_path, refused):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n3\n"))
    with refused(f"{tmp_path / 'a.csv.gz'}: line 3 has 1 field and line 1 has 2"):
        data.open(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,caf\xe9\n"))
    with refused("line 2 is not UTF-8 text (byte 0xe9)"):
        data.open(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(b"a,b\n1,2\n")
    with refused("truncated or damaged after 0 decompressed bytes (Not a gzipped file"):
        data.open(tmp_path / "a.csv.gz")
    with pa.output_stream(str(tmp_path / "a.csv.zst"), compression="zstd") as file:
        file.write(b"a,b\n1,2\n")
    (tmp_path / "a.csv.zst").write_bytes((tmp_path / "a.csv.zst").read_bytes()[:-3])
    with refused("truncated or damaged after 0 decompressed bytes (Truncated compressed stream)"):
        data.open(tmp_path / "a.csv.zst")


def test_a_feather_file_of_another_format_is_refused(tmp_path, refused):
    (tmp_path / "a.feather").write_bytes(b"a,b\n1,2\n")
    with refused(f"{tmp_path / 'a.feather'}: not a complete Arrow file (", "copy or save it again"):
        data.open(tmp_path / "a.feather")
    feather.write_feather(pd.DataFrame({"a": [1][:0]}), tmp_path / "a.feather")
    with refused("contains column names but no rows; add rows"):
        data.open(tmp_path / "a.feather")


def test_without_openpyxl_a_workbook_is_refused_with_the_command_that_installs_it(tmp_path, refused, monkeypatch):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with refused('a.xlsx: .xlsx files need the package openpyxl; install it by pip install "isthmus[excel]"'):
        data.open(tmp_path / "a.xlsx")


def workbook(path, *sheets):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {i}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_first_sheet_is_read_with_a_note_on_the_others(tmp_path):
    read = data.open(workbook(tmp_path / "a.xlsx", [["a", "b"], [1, "x"]], [["c"], [1]]))
    assert read.X.to_dict("list") == {"a": [1], "b": ["x"]}
    assert read.notes == ("a.xlsx: the sheet 'sheet 0' is read; sheets ignored: sheet 1",)


def test_cells_of_excel_become_numbers_texts_and_missing_values(tmp_path):
    rows = [
        [],
        ["n", "gap", "mixed", "day", "hour", "error"],
        [1, 1, "x", datetime.date(2020, 1, 2), datetime.time(9, 30), 0.5],
        [],
        [2, None, 3, None, None, "#N/A"],
    ]
    X = data.open(workbook(tmp_path / "a.xlsx", rows)).X
    assert [dtype.kind for dtype in X.dtypes] == ["i", "f", "O", "M", "O", "f"]
    np.testing.assert_array_equal(X["gap"], [1, np.nan])
    assert X["mixed"].tolist() == ["x", "3"]
    assert X["hour"][0] == "09:30:00"
    assert X["day"].isna().tolist() == [False, True]
    np.testing.assert_array_equal(X["error"], [0.5, np.nan])


def test_a_first_row_of_numbers_in_excel_is_a_row(tmp_path):
    read = data.open(workbook(tmp_path / "a.xlsx", [[1, 2.5], [3, 4]]))
    assert read.X.to_dict("list") == {"x0": [1, 3], "x1": [2.5, 4]}
    assert "row 1 contains only numbers and was read as a row" in read.notes[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "the sheet 'sheet 0' is blank"),
        ([["a", "b"]], "contains column names but no rows"),
        ([["a", "a"], [1, 2]], "two columns have the name 'a'"),
        ([["a", None, "c"], [1, 2, 3]], "column 2 of 3 has no name in line 1"),
        ([["a"], [1, 2]], "column 2 of 2 has no name in line 1"),
    ],
)
def test_sheets_that_are_no_table_are_refused(tmp_path, refused, rows, words):
    with refused(f"{tmp_path / 'a.xlsx'}: ", words):
        data.open(workbook(tmp_path / "a.xlsx", rows))


def test_a_sheet_of_nearly_empty_rows_is_refused(tmp_path, refused):
    path = workbook(tmp_path / "a.xlsx", [["a"]])
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(path)
    for row in range(2, 140):
        book.active.cell(row, 16_000, 1)
    book.save(path)
    with refused(f"{path}: a sheet of nearly empty rows"):
        data.open(path)


def test_a_damaged_workbook_is_refused(tmp_path, refused):
    path = workbook(tmp_path / "a.xlsx", [["a"], [1]])
    path.write_bytes(path.read_bytes()[:-40])
    with refused(f"{path}: not a complete .xlsx file (", "save it again, or as .csv"):
        data.open(path)


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("xl/worksheets/sheet1.xml", b"<row>" + b'<c r="A1"><v>1</v></c>' * 200_000, "tags in"),
        ("xl/sharedStrings.xml", b"<si/>" * 600_000, "tags in"),
        ("xl/styles.xml", b"<a>" + b" " * 5 * 2**20, "has 5,242,883 bytes, more than 4 MiB"),
        ("xl/worksheets/sheet1.xml", b"<t>" + b"a" * 70 * 2**20, "over 500 times their size"),
    ],
)
def test_a_workbook_whose_parts_are_bombs_is_refused(tmp_path, refused, part, content, words):
    path = workbook(tmp_path / "a.xlsx", [["a", "b"], [1, 2]])
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, whole in (members | {part: content}).items():
            archive.writestr(name, whole)
    with refused(str(path), part, words):
        data.open(path)


def test_a_named_index_of_a_parquet_file_can_be_the_label(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5]}, index=pd.Index(["x", "y"], name="site"))
    frame.to_parquet(tmp_path / "rows.parquet")
    assert data.open(tmp_path / "rows.parquet", label_column="site").labels.tolist() == ["x", "y"]


def test_frames_of_polars_are_tables():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None, 3], "b": ["x", "y", None]})
    assert data.open(frame).X["a"].isna().tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"a LazyFrame, .*give X.collect\(\)"):
        data.open(frame.lazy())
