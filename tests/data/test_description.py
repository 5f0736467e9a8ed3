"""The description of a table: units, ranges, and what looks wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isthmus import data
from isthmus.data.description import describe_table

N = 40
RNG = np.random.default_rng(0)


def described(values, **options):
    return describe_table(pd.DataFrame({"c": values, "x": RNG.normal(size=len(values))}), **options)[0]


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [
        (RNG.uniform(1, 2, N), "real", "1"),
        (np.arange(N) % 7, "count", "0 to 6"),
        (np.array(["b", "a"])[np.arange(N) % 2], "binary", "a, b"),
        ([f"l{i % 9}" for i in range(N)], "categorical", "l0, l1, l2, l3, l4, l5, ... (9)"),
        (np.arange(N) % 2 == 0, "binary", "False, True"),
    ],
)  # fmt: skip
def test_units_and_values(values, unit, shown):
    column = described(values)
    assert column.unit == unit
    assert column.values.startswith(shown)
    assert column.warnings == ()


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ([5] * N, "one value only (5)"),
        (np.arange(N) + 100, "different whole numbers: leave it out if it is an identifier (--dtype c=id)"),
        (np.arange(N) * 3 + 2**60, "above 2^53 lose digits"),
        ([*RNG.uniform(0, 1, N - 2), -9999, -9999], "-9999 occurs 2 times"),
        ([*RNG.uniform(20, 60, N - 1), 999], "999 occurs once"),
        (np.arange(N) % 4 + 1, "--dtype c=category"),
    ],
)
def test_what_looks_wrong_is_named_with_its_option(values, warning):
    assert any(warning in text for text in described(values).warnings)


@pytest.mark.parametrize("values", [RNG.uniform(0, 1e4, N), RNG.integers(-9999, 9999, 400), [*range(N - 1), 3]])
def test_ordinary_columns_have_no_warning(values):
    assert described(values).warnings == ()


def test_columns_that_no_model_reads_are_described_too():
    dates = described(pd.date_range("2024-01-01", periods=N))
    assert dates.unit == "refused"
    assert "--dtype c=date" in dates.warnings[0]
    declared = described(pd.date_range("2024-01-01", periods=N), dtypes={"c": "date"})
    assert (declared.unit, declared.values) == ("date", "2024-01-01 to 2024-02-09")
    assert described(range(N), dtypes={"c": "id"}).unit == "id"
    either = described([f"{i % 9 + 1:02d}/0{i % 8 + 1}/2024" for i in range(N)], dtypes={"c": "date"})
    assert "are read as %m/%d/%Y, and %d/%m/%Y fits them too" in either.warnings[0]
    texts = described([f"a sentence about {i}" for i in range(N)])
    assert texts.unit == "refused"


def test_missing_values_and_declared_units():
    column = described([None, 1.5, 2.5, None] * 10)
    assert column.missing == 0.5
    assert column.example == "1.5"
    assert described(np.arange(N) % 4 + 1, dtypes={"c": "category"}).unit == "categorical"


def test_a_column_without_values_and_a_narrow_range_are_described():
    table = pd.DataFrame({"empty": [np.nan] * 30, "big": [2**60 + i for i in range(30)], "x": np.arange(30) / 7})
    found = {column.name: column for column in describe_table(table)}
    assert found["empty"].warnings == ("it has no values: leave it out (--exclude empty)",)
    assert found["big"].values == "1152921504606846976 to 1152921504606847005"
    assert found["x"].values == "0 to 4.14286"


def test_text_that_reads_as_numbers_is_noted_in_every_format(tmp_path):
    pd.DataFrame({"a": ["1,5", "2,5"], "b": ["x", "y"]}).to_parquet(tmp_path / "rows.parquet")
    read = data.open(tmp_path / "rows.parquet")
    assert len(read.notes) == 1
    assert "column 'a' is text, and its values are numbers with ',' as decimal sign" in read.notes[0]
    assert data.open(tmp_path / "rows.parquet", dtypes={"a": "real"}).X["a"].tolist() == [1.5, 2.5]
