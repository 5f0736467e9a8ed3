"""The section of the report on similar rows: nearest neighbours first, and data that have no such section."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isthmus import LinearAutoencoder
from isthmus.report.examples import RowInfo
from isthmus.report.similar_rows import NEIGHBOURS, QUERIES, code_distances, similar_rows

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"a": RNG.normal(size=60), "b": RNG.normal(size=60), "city": RNG.choice(["Ulm", "Kiel"], 60)})


def section(X, codes=None):
    model = LinearAutoencoder(code_size=2, max_epochs=1, random_state=0).fit(X)
    codes = np.asarray(model.transform(X), np.float64) if codes is None else codes
    names = RowInfo([f"row {i}" for i in range(len(X))], None, np.zeros(len(X)))
    return similar_rows(model, X, codes, np.arange(len(X)), names)


def test_each_line_is_a_row_with_its_nearest_neighbours():
    codes = np.column_stack([np.arange(60.0), np.zeros(60)])
    found = section(TABLE, codes)
    assert len(found.lines) == QUERIES
    first, *others = found.lines[0]
    assert first.name == "row 0"
    assert [row.name for row in others] == [f"row {i}" for i in range(1, NEIGHBOURS + 1)]
    assert found.columns == ["a", "b", "city"]
    assert others[0].values[2] in ("Ulm", "Kiel")


def test_the_distances_of_bits_are_counts():
    codes = RNG.integers(0, 2, (60, 8)).astype(float)
    found = section(TABLE, codes)
    assert all(row.distance.isdigit() for line in found.lines for row in line)
    expected = (codes[:, None] != codes[None]).sum(2)
    np.testing.assert_array_equal(code_distances(codes, of_bits=True), expected)
    assert "bits that differ" in found.explanation


def test_images_are_shown_as_pictures():
    found = section(RNG.integers(0, 256, (40, 6, 6), np.uint8))
    assert found.columns == []
    assert all(row.picture.startswith("data:image/png;base64,") for line in found.lines for row in line)


@pytest.mark.parametrize("X", [TABLE[:10], RNG.normal(size=(40, 30, 3))], ids=["few rows", "series"])
def test_few_rows_and_series_have_no_section(X):
    assert section(X) is None
