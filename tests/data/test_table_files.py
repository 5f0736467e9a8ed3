from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest

import isthmus.data as data


def written(tmp_path, text, name="rows.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_keeps_names_types_and_text(tmp_path):
    path = written(tmp_path, "age, height,city,member,born\n31,1.5,Ulm,true,1990-01-02\n,1.75,Bonn,false,1991-03-04\n")
    X = data.open(path).X
    assert list(X.columns) == ["age", "height", "city", "member", "born"]
    assert [dtype.kind for dtype in X.dtypes] == ["f", "f", "O", "b", "M"]
    assert np.isnan(X["age"][1])
    assert X["city"].tolist() == ["Ulm", "Bonn"]


def test_csv_keeps_whole_numbers_and_infinite_values(tmp_path):
    X = data.open(written(tmp_path, "a,b\n1,inf\n2,-inf\n3,nan\n")).X
    assert X["a"].dtype == np.int64
    np.testing.assert_array_equal(X["b"], [np.inf, -np.inf, np.nan])


def test_a_first_line_of_numbers_is_read_as_a_row(tmp_path):
    read = data.open(written(tmp_path, "1,2.5,nan\n3,4,\n"))
    assert list(read.X.columns) == ["x0", "x1", "x2"]
    np.testing.assert_array_equal(read.X, [[1, 2.5, np.nan], [3, 4, np.nan]])
    assert "line 1 was read as a row; the columns are named x0, x1, ... (--header if it holds names)" in read.notes[0]


def test_evenly_spaced_numbers_are_column_names_with_a_note(tmp_path):
    read = data.open(written(tmp_path, "0,1,2\n.5,.5,.5\n"))
    assert list(read.X.columns) == ["0", "1", "2"]
    assert "line 1 was read as column names (--no-header if it is a row)" in read.notes[0]
    assert len(data.open(written(tmp_path, "0,1,2\n.5,.5,.5\n"), header=False).X) == 2


def test_an_index_written_by_pandas_becomes_row_names(tmp_path):
    pd.DataFrame(np.eye(3), index=["p", "q", "r"]).to_csv(tmp_path / "rows.csv")
    read = data.open(tmp_path / "rows.csv")
    assert read.row_names == ("p", "q", "r")
    assert list(read.X.columns) == ["0", "1", "2"]
    np.testing.assert_array_equal(read.X, np.eye(3))
    assert "the first column has no name and was read as row names" in read.notes[0]


def test_quoted_fields_may_contain_commas_and_line_breaks(tmp_path):
    X = data.open(written(tmp_path, 'a,"b, c"\n1,"two\nlines"\n2,"a ""word"""\n')).X
    assert X["b, c"].tolist() == ["two\nlines", 'a "word"']


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_semicolons_and_tabs_are_detected_with_a_note(tmp_path, delimiter, word):
    read = data.open(written(tmp_path, f"a{delimiter}b\n1{delimiter}2\n"))
    assert read.X.to_dict("list") == {"a": [1], "b": [2]}
    assert read.notes == (f"rows.csv: columns are separated by {word}",)


def test_a_byte_order_mark_is_ignored(tmp_path):
    assert list(data.open(written(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")).X.columns) == ["a", "b"]


def test_blank_lines_are_skipped(tmp_path):
    X = data.open(written(tmp_path, "\n\na,b\n1,2\n\n3,4\n\n")).X
    assert X.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_a_wide_csv_is_read_with_the_values_that_were_written(tmp_path, rng):
    X = rng.normal(size=(20, 1000))
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", fmt="%.17g")
    np.testing.assert_array_equal(data.open(tmp_path / "rows.csv").X, X)


@pytest.mark.parametrize("line", ["3", "3,4,5"])
def test_a_row_with_another_number_of_fields_is_refused_with_its_line(tmp_path, refused, line):
    n = line.count(",") + 1
    path = written(tmp_path, f'a,b\n1,"x\ny"\n\n{line}\n5,6\n')
    with refused(f"{path}: line 5 has {n} field", "and line 1 has 2; give every line the same number of fields"):
        data.open(path)


def test_further_rows_with_another_number_of_fields_are_counted(tmp_path, refused):
    path = written(tmp_path, "a,b\n1\n2\n3,4\n5,6,7\n")
    with refused("line 2 has 1 field and line 1 has 2 (2 more lines differ)"):
        data.open(path)


def test_an_unclosed_quote_is_refused(tmp_path, refused):
    with refused("rows.csv: line 3 has an opening quote without a closing quote"):
        data.open(written(tmp_path, 'a,b\n1,2\n1,"2\n3,4\n'))


def test_a_quote_within_an_unquoted_text_is_text(tmp_path):
    assert data.open(written(tmp_path, 'a,b\n1,5" pipe\n3,x\n')).X["b"].tolist() == ['5" pipe', "x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "an empty file (0 bytes); write it again"),
        (b"\n \n", "line 1 is blank in every column"),
        (b"a,b\n", "contains column names but no rows"),
        (b"a,b,a\n1,2,3\n", "two columns have the name 'a'"),
        (b"a,,c\n1,2,3\n", "column 2 of 3 has no name in line 1"),
        (b"a,b\n1,x\n2,caf\xe9\n", "line 3 is not UTF-8 text (byte 0xe9); give its encoding"),
        ("a,b\n1,2\n".encode("utf-16"), "the text is UTF-16; give encoding="),
    ],
)
def test_invalid_csv_files_are_refused(tmp_path, refused, text, words):
    path = written(tmp_path, text)
    with refused(f"{path}: {words}"):
        data.open(path)


def test_bytes_that_are_not_utf8_far_into_a_file_are_found(tmp_path, refused):
    path = written(tmp_path, b"a,b\n" + b"1,xx\n" * 5000 + b"2,caf\xe9\n")
    with refused("line 5002 is not UTF-8 text (byte 0xe9)"):
        data.open(path)


def test_parquet_keeps_names_types_and_missing_values(tmp_path):
    frame = pd.DataFrame({
        "n": np.array([1, 2], np.int16),
        "x": [0.5, np.nan],
        "c": pd.Categorical(["u", "v"]),
        "s": ["some", "text"],
        "d": [decimal.Decimal("1.25"), decimal.Decimal("2.50")],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    X = data.open(tmp_path / "t.parquet").X
    pd.testing.assert_frame_equal(X, frame.assign(d=[1.25, 2.5]))


def test_an_index_stored_in_parquet_becomes_row_names(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=["p", "q"]).to_parquet(tmp_path / "t.parquet")
    read = data.open(tmp_path / "t.parquet")
    assert read.row_names == ("p", "q")
    assert list(read.X.index) == [0, 1]


def test_truncated_and_empty_parquet_files_are_refused(tmp_path, refused):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": np.arange(100.0)}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with refused(f"{path}: not a complete Parquet file (", "copy or save it again"):
        data.open(path)
    pd.DataFrame({"a": np.arange(0.0)}).to_parquet(path)
    with refused(f"{path}: contains column names but no rows"):
        data.open(path)


def test_excluded_columns_and_the_label_column_are_removed(tmp_path):
    path = written(tmp_path, "id,a,b,kind\nr1,1,2,x\nr2,3,4,y\n")
    read = data.open(path, exclude=["id"], label_column="kind")
    assert list(read.X.columns) == ["a", "b"]
    assert read.labels.tolist() == ["x", "y"]
    assert data.open(path, exclude="id", label_column="a").labels.dtype == np.int64


def test_an_unknown_column_suggests_the_most_similar(tmp_path, refused):
    path = written(tmp_path, "Age,city\n1,x\n")
    with refused("rows: no column 'agee'; did you mean 'Age'?"):
        data.open(path, exclude=["agee"])
    with refused("rows: no column 'zip'; it has 'Age', 'city'"):
        data.open(path, label_column="zip")


def test_excluding_all_columns_is_refused(tmp_path, refused):
    with refused("rows: no columns remain; exclude fewer"):
        data.open(written(tmp_path, "a,b\n1,2\n"), exclude=["a"], label_column="b")


def test_columns_of_lists_are_refused_unless_excluded(tmp_path, refused):
    pd.DataFrame({"a": [1, 2], "v": [[1, 2], [3, 4]]}).to_parquet(tmp_path / "t.parquet")
    with refused("t: column 'v' contains a list per row"):
        data.open(tmp_path / "t.parquet")
    assert list(data.open(tmp_path / "t.parquet", exclude=["v"]).X.columns) == ["a"]
