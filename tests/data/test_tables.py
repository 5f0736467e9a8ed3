"""Columns of tables: every type comes back as it was, by the schema of training; contradictions are named."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.levels import UnseenLevels
from isthmus.data.preprocessing import Preprocessor
from isthmus.data.table_columns import TableColumn
from isthmus.data.tables import decode_table, encode_table, from_config, learn_columns, to_config, with_statistics
from isthmus.errors import InputError, InputWarning

N = 24
START = pd.Timestamp("1950-01-01")
KINDS = (
    "real", "text number", "nullable", "flag", "nullable flag", "levels", "declared levels", "ordered",
    "numbers as levels", "day", "time", "zoned", "text day",
)  # fmt: skip


def with_gaps(draw, values: pd.Series) -> pd.Series:
    """Remove some values, but not all."""
    gaps = draw(st.lists(st.booleans(), min_size=N, max_size=N))
    return values if all(gaps) else values.mask(pd.Series(gaps, index=values.index))


@st.composite
def columns(draw) -> tuple[pd.Series, str | None]:
    """Return a column of any type that tables have, and its declared type, if it needs or has one."""
    kind = draw(st.sampled_from(KINDS))
    whole = draw(st.lists(st.integers(-50, 50), min_size=N, max_size=N))
    numbers = pd.Series(whole)
    letters = numbers.map(lambda value: "abcd"[value % 4])
    seconds = draw(st.lists(st.integers(0, 4_000_000_000), min_size=N, max_size=N))
    times = pd.Series(START + pd.to_timedelta(seconds, unit="s"))
    days = times.dt.normalize()
    made: dict[str, tuple[pd.Series, str | None]] = {
        "real": (numbers / 8, None),
        "text number": ((numbers / 8).astype(str), "real"),
        "nullable": (numbers.astype("Int64"), draw(st.sampled_from([None, "real"]))),
        "flag": (numbers > 0, None),
        "nullable flag": ((numbers > 0).astype("boolean"), None),
        "levels": (letters, None),
        "declared levels": (letters.astype(pd.CategoricalDtype(list("zdcbay"))), None),
        "ordered": (letters.astype(pd.CategoricalDtype(list("abcdz"), ordered=True)), "category"),
        "numbers as levels": (numbers, "category"),
        "day": (days, "date"),
        "time": (times, "date"),
        "zoned": ((days + pd.Timedelta(hours=12)).dt.tz_localize("Europe/Berlin"), "date"),
        "text day": (days.where(days.index > 0, pd.Timestamp("1950-01-25")).dt.strftime("%d/%m/%Y"), "date"),
    }
    values, dtype = made[kind]
    if kind == "text day":  # its first value shows that the day comes first
        return values, dtype
    return (with_gaps(draw, values) if kind not in ("flag",) else values), dtype


@st.composite
def tables(draw) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table of columns of any type, and the declared types."""
    drawn = draw(st.lists(columns(), min_size=1, max_size=4))
    dtypes = {f"c{i}": dtype for i, (_, dtype) in enumerate(drawn) if dtype is not None}
    return pd.DataFrame({f"c{i}": values for i, (values, _) in enumerate(drawn)}), dtypes


def learned(table: pd.DataFrame, dtypes: dict[str, str]) -> tuple[list[TableColumn], np.ndarray]:
    found = learn_columns(table, dtypes)
    return with_statistics(found, encode_table(found, table)), encode_table(found, table)


def as_read(column: TableColumn, values: pd.Series) -> pd.Series:
    """Return values as decoding gives them: numbers of text as numbers, dates of text as dates."""
    if column.dates is not None and not str(values.dtype).startswith("datetime64"):
        return pd.to_datetime(values, format="%d/%m/%Y")
    return pd.to_numeric(values).astype(float) if column.unit in ("real", "count") else values


@settings(max_examples=80, deadline=None)
@given(tables())
def test_present_cells_come_back_as_they_were(drawn):
    table, dtypes = drawn
    found, numbers = learned(table, dtypes)
    assert numbers.shape == (N, sum(column.width for column in found))
    assert [unit for column in found for unit in column.output_units] == [
        unit for column in found for unit, width in column.parts for _ in range(width)
    ]
    back = decode_table(found, np.nan_to_num(numbers))
    assert list(back) == list(table)
    for column in found:
        values = table[column.name]
        present = values.notna().to_numpy()
        expected, got = as_read(column, values)[present], back[column.name][present]
        assert expected.astype(object).tolist() == got.astype(object).tolist()
        if str(values.dtype) in ("category", "bool", "boolean") or str(values.dtype).startswith("datetime64"):
            assert got.dtype == values.dtype
    for column, missing in zip(found, table.isna().to_numpy().T, strict=True):
        part = encode_table([column], table[[column.name]])
        np.testing.assert_array_equal(np.isnan(part), np.repeat(missing[:, None], column.width, axis=1))


@settings(max_examples=80, deadline=None)
@given(tables(), st.integers(0, N - 1))
def test_a_later_row_is_encoded_as_in_training(drawn, row):
    table, dtypes = drawn
    found, numbers = learned(table, dtypes)
    stored = from_config(json.loads(json.dumps(to_config(found))))
    np.testing.assert_array_equal(encode_table(stored, table[list(table)[::-1]]), numbers)
    one = table.iloc[[row]]
    np.testing.assert_array_equal(encode_table(stored, one), numbers[[row]])
    as_text = one.astype(object).map(lambda value: value if value is pd.NaT or pd.isna(value) else str(value))
    np.testing.assert_array_equal(encode_table(stored, as_text), numbers[[row]])


def test_text_of_numbers_is_read_as_declared_or_refused_by_name():
    table = pd.DataFrame({"a": ["1", "2.5", "-3"], "b": ["x", "y", "x"]})
    assert learn_columns(table, {"a": "real"})[0].unit == "real"
    np.testing.assert_array_equal(encode_table(learn_columns(table, {"a": "real"}), table)[:, 0], [1, 2.5, -3])
    with pytest.raises(InputError, match="column 'b' contains 'x' at row 0, which is not a number as dtype 'real'"):
        learn_columns(table, {"b": "real"})
    with pytest.raises(InputError, match="column 'a' contains '2.5' at row 1, which is not a whole number of 0"):
        learn_columns(table, {"a": "count"})
    with pytest.raises(InputError, match=r"column 'a' has 3 values and cannot be binary; .*--dtype a=category"):
        learn_columns(table, {"a": "binary"})


@pytest.mark.parametrize(
    ("texts", "first", "wrong", "message"),
    [
        (["2024-01-31", "2023-12-01"], "2023-12-01", "31.01.2024", "'31.01.2024' at row 0, which is not an ISO 8601"),
        (["03/04/2024", "13/04/2024"], "2024-04-03", "04/13/2024", "which is not a date of the form %d/%m/%Y"),
        (["03/04/2024", "04/13/2024"], "2024-03-04", "13/04/2024", "which is not a date of the form %m/%d/%Y"),
        (["1.2.2024 10:30", "25.1.2024 09:00"], "2024-01-25", "soon", "which is not a date of the form %d.%m.%Y %H:%M"),
        ([20240131, 20240201], "2024-01-31", 1706659200, "found 1706659200 at row 0"),
        (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], "2024-01-31", "x", "which is not an ISO 8601"),
    ],
)
def test_dates_have_one_format_by_which_later_rows_are_read(texts, first, wrong, message):
    table = pd.DataFrame({"day": texts})
    [column] = learn_columns(table, {"day": "date"})
    assert column.dates is not None
    assert column.dates.first.startswith(first)
    assert column.encode(table["day"]).shape == (2, 20 + 24 * column.dates.has_times)
    with pytest.raises(InputError) as refused:
        column.encode(pd.Series([wrong]))
    assert "column 'day' held dates when the model was fitted" in str(refused.value)
    assert message in str(refused.value)


def test_contradictory_dates_are_refused_by_name():
    with pytest.raises(InputError, match="column 'day' is declared as dates; found '13/04/2024' at row 1, which"):
        learn_columns(pd.DataFrame({"day": ["04/13/2024", "13/04/2024", "04/14/2024"]}), {"day": "date"})


def test_features_of_dates_are_those_of_the_calendar():
    times = pd.Series(pd.to_datetime(["2024-02-29 06:00", "2024-03-01 23:00", None]))
    [column] = learn_columns(times.to_frame("t"), {"t": "date"})
    features = pd.DataFrame(column.encode(times), columns=column.model_names)
    assert features["t.days"].tolist()[:2] == pytest.approx([0, 1 + 17 / 24])
    named = features.iloc[:2].drop(columns="t.days")
    assert [list(named.columns[row == 1]) for row in named.to_numpy()] == [
        ["t.month=2", "t.weekday=Thursday", "t.hour=6"], ["t.month=3", "t.weekday=Friday", "t.hour=23"],
    ]  # fmt: skip
    assert features.iloc[2].isna().all()


def test_levels_of_a_categorical_type_are_levels_even_if_absent():
    cities = pd.Categorical(["Bern", "Oslo", "Bern"], categories=["Rome", "Oslo", "Bern"])
    [column] = learn_columns(pd.DataFrame({"city": cities}))
    assert (column.levels, column.unit) == (["Rome", "Oslo", "Bern"], "categorical")
    np.testing.assert_array_equal(column.encode(pd.Series(["Rome"])), [[1, 0, 0]])


TABLE = pd.DataFrame({
    "city": ["Bern", "Oslo", "Bern", "Rome"], "smokes": ["yes", "no", "no", "no"], "x": [0.5, 1.5, 2.5, 4.0],
})  # fmt: skip
LATER = pd.DataFrame({"city": ["Bern", "Paris", "Paris"], "smokes": ["no", "no", "never"], "x": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("missing", ["refuse", "mean", "median", "mask"])
def test_unseen_levels_are_missing_or_the_most_frequent_level(missing):
    learned = Preprocessor.from_data(TABLE, missing=missing)
    with pytest.warns(InputWarning) as caught:
        batch = learned.rows(LATER).batch(torch.arange(3))
    [text] = [str(warning.message) for warning in caught]
    for part in (
        "'city' has 2 values",
        "'Paris' at row 1",
        "'smokes' has 1 value",
        "'never' at row 2",
        "--unknown refuse",
    ):
        assert part in text
    back = learned.inverse_transform(batch.x.numpy())
    if missing == "mask":
        assert batch.mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    else:
        assert back["city"].tolist() == ["Bern"] * 3
        assert back["smokes"].tolist() == ["no"] * 3
    with pytest.raises(InputError, match="column 'city' contains 'Paris' at row 1.*; column 'smokes' contains"):
        learned.rows(LATER, unknown="refuse")


def test_columns_of_an_earlier_version_have_no_most_frequent_level():
    column = TableColumn("city", "categorical", ["Bern", "Oslo"])
    assert np.isnan(column.encode(pd.Series(["Rome"]))).all()
    with pytest.raises(InputError, match="column 'city' contains 'Rome' at row 0"):
        column.encode(pd.Series(["Rome"]), UnseenLevels(fills=True))


def test_all_contradictions_are_in_one_message():
    learned = learn_columns(TABLE.assign(y=1.5, z=2.5))
    other = pd.DataFrame({
        "city": ["Bern"], "smokes": ["no"], "x": ["much"], "y": pd.to_datetime(["2024-01-01"]), "w": [1],
    })  # fmt: skip
    with pytest.raises(InputError) as refused:
        encode_table(learned, other)
    for part in ("missing 'z'", "unknown 'w'", "column 'x' was numeric", "'much' at row 0", "column 'y' was numeric"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_of_many_columns_is_compared_by_name():
    names = [f"c{i}" for i in range(4000)]
    table = pd.DataFrame(np.arange(8000.0).reshape(2, 4000), columns=names)
    found = learn_columns(table)
    np.testing.assert_array_equal(encode_table(found, table[names[::-1]]), table.to_numpy())
    with pytest.raises(InputError, match=r"missing 'c7'; unknown 'd7' \(4000 columns expected, 4000 found\)"):
        encode_table(found, table.rename(columns={"c7": "d7"}))


def spread_of(x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return scaled values in the unit of the numbers, from the first."""
    return (x - x[0]).astype(np.float64) * numbers.std()


@pytest.mark.parametrize("form", ["array", "table", "unsigned", "nullable"])
@pytest.mark.parametrize("scale", [1, 1000])
def test_seconds_and_milliseconds_since_1970_are_centred_before_they_are_rounded(form, scale):
    seconds = 1_700_000_000 * scale + np.arange(500) * scale
    made = {
        "array": np.column_stack([seconds, seconds % 7]), "table": pd.DataFrame({"t": seconds, "k": seconds % 7}),
        "unsigned": np.column_stack([seconds, seconds % 7]).astype(np.uint64),
        "nullable": pd.DataFrame({"t": pd.Series(seconds).astype("Int64"), "k": seconds % 7}),
    }  # fmt: skip
    learned = Preprocessor.from_data(made[form])
    x = learned.rows(made[form]).batch(torch.arange(500)).x.numpy()[:, 0]
    np.testing.assert_allclose(spread_of(x, seconds) / scale, np.arange(500), atol=1e-3)


@pytest.mark.parametrize("form", ["array", "table"])
def test_whole_numbers_above_2_to_the_53_are_warned_of_with_the_option(form):
    keys = 2**60 + np.arange(40)
    X = np.column_stack([keys, np.arange(40)]) if form == "array" else pd.DataFrame({"key": keys, "x": np.arange(40)})
    with pytest.warns(InputWarning, match=r"column '(x0|key)' has whole numbers above 2\^53.*--dtype (x0|key)=id"):
        Preprocessor.from_data(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Preprocessor.from_data(X // 2**8)


def test_only_columns_that_are_constant_as_a_whole_are_recorded():
    table = pd.DataFrame({
        "city": pd.Categorical(["a", "b", "a"], categories=["a", "b", "c"]), "one": ["z"] * 3, "x": [1.5, 2.5, 3.5],
    })  # fmt: skip
    assert Preprocessor.from_data(table).constant == [3]
