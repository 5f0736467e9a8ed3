"""Text tables as users have them: decimal commas, percent signs, missing markers, headers of numbers, encodings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import data
from isthmus.data import tables
from isthmus.data.headers import is_header
from isthmus.data.read_options import ReadOptions
from isthmus.data.text_numbers import NumberFormat, number_format
from isthmus.errors import InputError


def written(folder, text, name="rows.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def test_decimal_commas_are_numbers_and_noted(tmp_path):
    read = data.open(written(tmp_path, "temp;valve\n20,5;1,0\n21,25;0,5\n"))
    assert read.X.to_dict("list") == {"temp": [20.5, 21.25], "valve": [1.0, 0.5]}
    assert "column 'temp' was read as numbers with ',' as decimal sign" in read.notes[1]
    assert (read.reading.sep, read.reading.decimal, read.reading.header) == (None, ",", True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["12%", "5.5 %"], [12.0, 5.5]),
        (["1.234,5", "12"], [1234.5, 12.0]),
        (["1,234.5", "999"], [1234.5, 999.0]),
        (["1 234,5", "7,25"], [1234.5, 7.25]),
        (["-3,5e2", "+1,5"], [-350.0, 1.5]),
    ],
)
def test_forms_of_numbers(tmp_path, fields, expected):
    rows = "".join(f'{field};"x"\n' for field in fields)
    assert data.open(written(tmp_path, f"a;b\n{rows}")).X["a"].tolist() == expected


@pytest.mark.parametrize(("separator", "expected"), [(",", [1234.0, 5678.0]), (";", [1.234, 5.678])])
def test_a_comma_before_three_digits_follows_the_separator(tmp_path, separator, expected):
    text = separator.join("ab") + "\n" + "".join(f'"{n}"{separator}x\n' for n in ("1,234", "5,678"))
    assert data.open(written(tmp_path, text)).X["a"].tolist() == expected


def test_the_options_decide_what_is_not_clear(tmp_path):
    path = written(tmp_path, 'a,b\n"1,234",x\n"5,678",y\n')
    assert data.open(path, decimal=",").X["a"].tolist() == [1.234, 5.678]
    assert data.open(path, thousands=",").X["a"].tolist() == [1234.0, 5678.0]
    assert data.open(path, dtypes={"a": "category"}).X["a"].tolist() == ["1,234", "5,678"]


def test_a_column_that_is_mostly_numbers_is_text_with_advice(tmp_path):
    path = written(tmp_path, "a,b\n" + "".join(f"{i},{i}\n" for i in range(20)) + "20,?\n")
    read = data.open(path)
    assert read.X["b"].tolist()[-1] == "?"
    assert "give na='?' (--na '?')" in read.notes[-1]
    assert np.isnan(data.open(path, na="?").X["b"].iloc[-1])
    with pytest.raises(InputError, match=r"column 'b' holds '\?' at row 20, which is not a number .*--na '\?'"):
        data.open(path, dtypes={"b": "real"})


def test_numbers_that_stand_for_missing_values(tmp_path):
    read = data.open(written(tmp_path, "a,b\n-9999,x\n1,y\n-9999.0,z\n"), na=["-9999"])
    assert read.X["a"].isna().tolist() == [True, False, True]


def test_digits_with_leading_zeros_stay_text(tmp_path):
    path = written(tmp_path, "zip,x\n01234,1\n50667,2\n")
    read = data.open(path)
    assert read.X["zip"].tolist() == ["01234", "50667"]
    assert "--dtype zip=real" in read.notes[-1]
    assert data.open(path, dtypes={"zip": "real"}).X["zip"].tolist() == [1234, 50667]
    later = written(tmp_path, "zip,x\n50667,2\n", "later.csv")
    assert data.open(later, **read.reading.to_dict()).X["zip"].tolist() == ["50667"]


@pytest.mark.parametrize(
    ("first", "body", "expected"),
    [
        (["a", "b"], [["1", "2"]], True),
        (["1", "2"], [["3", "4"]], False),
        (["5.1", "3.5", "setosa"], [["4.9", "3.0", "setosa"], ["5", "3", "other"]], False),
        (["country", "2000", "2001", "2002"], [["Chile", "1.5", "1.7", "1.6"]], True),
        (["400.0", "402.5", "405.0"], [["0.11", "0.19", "0.12"]], True),
        (["1", "2", "3"], [["4", "5", "6"], ["7", "8", "9"]], False),
        (["", "0", "1"], [["p", "1", "2"]], True),
        (["1", "NA", ""], [["2", "3", "4"]], False),
        (["id", "7"], [["a", "b"]], True),
    ],
)
def test_the_first_line_is_a_header_or_a_row(first, body, expected):
    assert is_header(first, body) is expected


def test_header_and_no_header(tmp_path):
    path = written(tmp_path, "5.1,3.5,setosa\n4.9,3.0,setosa\n")
    assert len(data.open(path).X) == 2
    assert list(data.open(path, header=True).X.columns) == ["5.1", "3.5", "setosa"]
    names = written(tmp_path, "a,b\nc,d\n")
    assert data.open(names, header=False).X["x0"].tolist() == ["a", "c"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings(tmp_path, encoding):
    path = written(tmp_path, "name,x\nGröße,1\ncafé,2\n", encoding=encoding)
    assert data.open(path, encoding=encoding).X["name"].tolist() == ["Größe", "café"]
    if encoding != "utf-16":
        with pytest.raises(InputError, match="--encoding latin-1"):
            data.open(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sep": ";;"}, "one character"),
        ({"decimal": "x"}, "'.' or ','"),
        ({"thousands": "."}, "same character"),
        ({"thousands": "1"}, "thousands='1': it can be part of a value; give a sign such as ';' .--thousands."),
        ({"thousands": "-"}, "thousands='-': it can be part of a value"),
        ({"sep": "a"}, "sep='a': it can be part of a value"),
        ({"encoding": "utf-99"}, "is unknown"),
        ({"dtypes": {"a": "number"}}, "is not one of real"),
        ({"dtypes": {"c": "real"}}, "no column 'c'"),
        ({"dtypes": {"a": "ignore", "b": "ignore"}}, "no columns remain"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        data.open(written(tmp_path, "a,b\n1,2\n"), **options)


def test_options_of_text_tables_are_refused_for_other_data(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    with pytest.raises(InputError, match="sep: options of .csv and .tsv files"):
        data.open(tmp_path / "x.npy", sep=";")
    with pytest.raises(InputError, match="the rows are not a table"):
        data.open(tmp_path / "x.npy", dtypes={"a": "real"})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=20),
    st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (",", " ")]),
)
def test_numbers_written_in_a_form_are_read_in_it(numbers, signs):
    decimal, thousands = signs
    texts = [f"{number:,.3f}".translate({ord(","): thousands or None, ord("."): decimal}) for number in numbers]
    form = NumberFormat(decimal, thousands)
    np.testing.assert_allclose(form.parsed(pd.Series(texts)), [round(number, 3) for number in numbers], rtol=1e-12)
    assert number_format(pd.Series(texts), (form,))[1] == 1.0


@given(st.builds(ReadOptions, sep=st.sampled_from([None, ";", "tab"]), decimal=st.sampled_from([None, ".", ","])))
def test_options_survive_their_file_form(options):
    assert ReadOptions.from_dict(options.to_dict()) == options


def test_a_long_text_below_the_first_line_is_read(tmp_path):
    text = "word " * 40_000
    read = data.open(written(tmp_path, f'a,b\n1,"{text}"\n2,x\n'))
    assert read.X["b"].tolist() == [text, "x"]


def test_counts_with_gaps_stay_counts(tmp_path):
    rows = "".join(f"{i % 5 if i % 7 else ''},{i / 2}\n" for i in range(60))
    read = data.open(written(tmp_path, f"visits,x\n{rows}"))
    assert [column.unit for column in tables.learn_columns(read.X)] == ["count", "real"]


def test_a_column_with_text_below_the_sample_stays_text(tmp_path):
    rows = "".join(f"{i},5;x\n" for i in range(10_050))
    read = data.open(written(tmp_path, f"a;b\n{rows}none;y\n"))
    assert read.X["a"].iloc[-1] == "none"
    assert "give na='none' (--na none)" in read.notes[-1]


def test_declared_binary_columns_have_two_values(tmp_path):
    path = written(tmp_path, "a,b\n1,1\n2,2\n1,3\n")
    declared = data.open(path, dtypes={"a": "binary"}).X
    assert [column.unit for column in tables.learn_columns(declared)] == ["binary", "real"]
    with pytest.raises(InputError, match="column 'b' has 3 values, and its dtype is binary"):
        data.open(path, dtypes={"b": "binary"})


@pytest.mark.parametrize(
    ("fields", "expected", "affix"),
    [
        (["$0.50", "-$12"], [0.5, -12.0], "$"),
        (["3 kg", "4.5 kg"], [3.0, 4.5], "kg"),
        (["1.234,50 \N{EURO SIGN}", "2,00 \N{EURO SIGN}"], [1234.5, 2.0], "\N{EURO SIGN}"),
        (["CHF 5", "CHF 7.5"], [5.0, 7.5], "CHF"),
        (["20\N{DEGREE SIGN}C", "-3\N{DEGREE SIGN}C"], [20.0, -3.0], "\N{DEGREE SIGN}C"),
    ],
)
def test_a_currency_or_a_unit_is_removed_and_later_files_have_the_same(tmp_path, fields, expected, affix):
    rows = "".join(f"{field};x\n" for field in fields)
    read = data.open(written(tmp_path, f"a;b\n{rows}"))
    assert read.X["a"].tolist() == expected
    assert f"{affix!r}, which is removed" in read.notes[1]
    assert read.reading.affixes == {"a": affix}
    later = data.open(written(tmp_path, "a;b\n5 lbs;x\n"), affixes=read.reading.affixes)
    assert later.X["a"].tolist() == ["5 lbs"]


@pytest.mark.parametrize("fields", [["4wd", "2wd"], ["Flat 1", "Flat 2"], ["3 kg", "4 g"], ["1", "2 kg"]])
def test_other_text_with_digits_stays_text(tmp_path, fields):
    read = data.open(written(tmp_path, "a;b\n" + "".join(f"{field};x\n" for field in fields)))
    assert read.X["a"].tolist() == fields


def test_a_minus_sign_of_print_is_a_minus_sign(tmp_path):
    assert data.open(written(tmp_path, "a\tb\n\N{MINUS SIGN}3.5\tx\n2\ty\n")).X["a"].tolist() == [-3.5, 2.0]


def test_numbers_in_several_forms_stay_text_with_a_note(tmp_path):
    read = data.open(written(tmp_path, "a;b\n50%;x\n12;y\n"))
    assert read.X["a"].tolist() == ["50%", "12"]
    assert "some of its values are" in read.notes[1]
    assert "write them in one form" in read.notes[1]


def test_a_wrong_decimal_sign_is_noted(tmp_path):
    read = data.open(written(tmp_path, "a;b\n1,5;x\n2,5;y\n"), decimal=".")
    assert "if they are numbers, give --decimal ," in read.notes[1]


@pytest.mark.parametrize("text", ["a\n1\n\n3\n", "\na\n1\n\n3\n"])
def test_a_blank_line_of_one_column_is_a_missing_value(tmp_path, text):
    np.testing.assert_array_equal(data.open(written(tmp_path, text)).X["a"], [1, np.nan, 3])


def test_one_column_of_decimal_commas_has_no_separator(tmp_path):
    assert data.open(written(tmp_path, "a\n1,5\n2\n3,25\n")).X["a"].tolist() == [1.5, 2.0, 3.25]


def test_texts_of_a_sheet_are_numbers_and_other_files_take_missing_values(tmp_path):
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame({"a": ["1,5", "-9999", "3,5"], "b": [1, -9999, 3]})
    frame.to_excel(tmp_path / "rows.xlsx", index=False)
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    assert data.open(tmp_path / "rows.xlsx").X["a"].tolist() == [1.5, -9999.0, 3.5]
    for name in ("rows.xlsx", "rows.jsonl"):
        read = data.open(tmp_path / name, na="-9999", decimal=",").X
        np.testing.assert_array_equal(read["a"], [1.5, np.nan, 3.5])
        np.testing.assert_array_equal(read["b"], [1, np.nan, 3])


def test_declared_dates_identifiers_and_texts(tmp_path, refused):
    path = written(tmp_path, "key,day,note\n007,13.1.2024,a b\n123,2.2.2024,c d\n")
    read = data.open(path, dtypes={"key": "id", "day": "date", "note": "ignore"})
    assert list(read.X) == ["day"]
    assert read.X["day"].dt.strftime("%Y-%m-%d").tolist() == ["2024-01-13", "2024-02-02"]
    assert read.carried["key"].tolist() == list(read.row_names) == ["007", "123"]
    assert data.open(path, dtypes={"key": "id", "day": "ignore", "note": "text"}).X.texts == ("a b", "c d")
    with refused("column 'note' is declared as text, and the table has 2 other columns"):
        data.open(path, dtypes={"note": "text"})
    with refused("column 'note' is declared as dates; found 'a b' at row 0"):
        data.open(path, dtypes={"note": "date"})
    with refused("no column 'kee'; did you mean 'key'?"):
        data.open(path, dtypes={"kee": "id"})


def test_dots_are_thousands_where_other_columns_have_decimal_commas(tmp_path):
    rows = "".join(f"1.{n:03d};{n},5\n" for n in range(100, 130))
    read = data.open(written(tmp_path, f"sales;rate\n{rows}12.000.000;1,5\n900;2,5\n"))
    assert read.X["sales"].tolist()[:2] == [1100.0, 1101.0]
    plain = data.open(written(tmp_path, f"sales;rate\n{rows}900;2,5\n"))
    assert plain.X["sales"].tolist()[:2] == [1100.0, 1101.0]
    assert any("'.' between thousands" in note for note in plain.notes)
    assert plain.reading.decimal == ","
    one = data.open(written(tmp_path, "sales;rate\n1.099;2\n"), decimal=plain.reading.decimal)
    assert one.X["sales"].tolist() == [1099.0]
    later = "".join(f"1.{n:03d};{n},5\n" for n in range(300)) + "12.5;1,5\n"
    mixed = data.open(written(tmp_path, f"sales;rate\n{later}"))
    assert mixed.X["sales"].tolist()[-1] == 12.5
    assert mixed.X["sales"].tolist()[1] == 1.001
    assert mixed.reading.decimal is None
    alone = data.open(written(tmp_path, "sales;n\n114.182;3\n98.500;4\n"))
    assert alone.X["sales"].tolist() == [114.182, 98.5]
    assert any("give --decimal , --thousands ." in note for note in alone.notes)


@pytest.mark.parametrize(("text", "expected"), [("1.099,5", 1099.5), ("1 099,5", 1099.5), ("1.099", 1099.0)])
def test_thousands_are_read_with_a_decimal_sign_alone(tmp_path, text, expected):
    assert data.open(written(tmp_path, f"a;b\n{text};x\n2;y\n"), decimal=",").X["a"].tolist() == [expected, 2.0]


@pytest.mark.parametrize(
    ("first", "rows", "expected"),
    [
        ("country,2010,2011,2012", ["C0,3,4,5", "C1,1,7,2", "C2,0,2,9"], True),
        ("a,b,3", ["1,2,3", "4,5,6"], True),
        ("p,x,s", ["e,x,s", "p,y,n", "e,x,t"], False),
        ("name,kind", ["name,x", "other,y"], True),
    ],
)
def test_headers_with_numbers_and_first_rows_of_categories(first, rows, expected):
    assert is_header(first.split(","), [row.split(",") for row in rows]) is expected


def test_other_separators_and_utf_16_are_named(tmp_path):
    assert any("give --sep '|'" in note for note in data.open(written(tmp_path, "a|b\nx y|2\nz|3\n")).notes)
    with pytest.raises(InputError, match="the text is UTF-16; give encoding='utf-16'"):
        data.open(written(tmp_path, "a,b\n1,2\n", encoding="utf-16"))
