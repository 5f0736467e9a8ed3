"""`isthmus impute fit` and `apply`."""

import json

import numpy as np
import pandas as pd
import pytest

import isthmus

from .commands import run

QUICK = ("--epochs", "10", "--seed", "0", "--set", "hidden_sizes=8", "--set", "code_size=8", "--set", "n_folds=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a table with gaps, an imputer of it, and a plain model. Tests do not write to it."""
    folder, rng = tmp_path_factory.mktemp("gaps"), np.random.default_rng(0)
    t = rng.normal(size=120)
    table = pd.DataFrame({
        "name": [f"p{i}" for i in range(120)], "age": (40 + 10 * t).round().astype(int),
        "weight": (70 + 8 * t).round(1), "visits": rng.poisson(np.exp(t / 2)),
        "city": np.where(t > 0, "Bern", "Oslo"), "constant": 3,
    }).astype(object)  # fmt: skip
    hidden = rng.random(table.shape) < 0.15
    hidden[:, 0] = False
    table.mask(hidden).to_csv(folder / "gaps.csv", index=False)
    table.to_csv(folder / "full.csv", index=False)
    np.save(folder / "rows.npy", np.where(rng.random((60, 3)) < 0.1, np.nan, rng.normal(size=(60, 3))))
    made = [
        run("impute", "fit", folder / "gaps.csv", "-o", folder / "imputer", "--exclude", "name", *QUICK),
        run("impute", "fit", folder / "rows.npy", "-o", folder / "of-array", *QUICK),
        run("fit", folder / "full.csv", "-o", folder / "plain", "--exclude", "name", "--epochs", "1"),
    ]
    assert [result.exit_code for result in made] == [0, 0, 0], made[0].stderr + made[1].stderr + made[2].stderr
    return folder


def test_fit_logs_the_errors_of_hidden_cells(folder, tmp_path, succeed):
    command = ("impute", "fit", folder / "gaps.csv", "-o", tmp_path / "imputer", "--exclude", "name", *QUICK)
    result = succeed(*command, "--json")
    for message in (
        "data: gaps: 120 rows, a table of 5 columns",
        "imputer: 120 training rows, seed 0",
        "age: RMSE ",
        " (mean: ",
        "city: ",
        "% wrong (most frequent level: ",
        "column 'constant' has one value, which fills the gaps",
        f"imputer written to {tmp_path / 'imputer'}",
    ):
        assert message in result.stderr
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["rows"], facts["seed"]) == ("imputer", 120, 0)
    assert [entry["column"] for entry in facts["columns"]] == ["age", "weight", "visits", "city", "constant"]


def test_filled_rows_have_the_observed_cells_as_the_file_had_them(folder, tmp_path, succeed):
    result = succeed("impute", "apply", folder / "imputer", folder / "gaps.csv", "-o", tmp_path / "out.csv", "--keep",
                     "name", "--json")  # fmt: skip
    given, written = pd.read_csv(folder / "gaps.csv"), pd.read_csv(tmp_path / "out.csv")
    assert list(written.columns) == list(given.columns)
    assert ((written == given) | given.isna()).all().all()
    assert not written.isna().any().any()
    assert (written[["age", "visits", "constant"]].dtypes == "int64").all()
    assert set(written["city"]) == {"Bern", "Oslo"}
    filled = json.loads(result.stdout)["filled"]
    assert filled == {name: int(given[name].isna().sum()) for name in given if given[name].isna().any()}
    assert f"{sum(filled.values())} cells filled: age {filled['age']}" in result.stderr


def test_filled_rows_are_those_of_the_library(folder, tmp_path, succeed):
    succeed("impute", "apply", folder / "of-array", folder / "rows.npy", "-o", tmp_path / "out.npy")
    expected = isthmus.load(folder / "of-array").transform(np.load(folder / "rows.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_intervals_are_further_columns(folder, tmp_path, succeed):
    succeed("impute", "apply", folder / "imputer", folder / "gaps.csv", "-o", tmp_path / "out.csv", "--interval", "0.9")
    written, given = pd.read_csv(tmp_path / "out.csv"), pd.read_csv(folder / "gaps.csv")
    assert list(written.columns[5:]) == [
        f"{name}.{end}" for name in ("age", "weight", "visits", "constant") for end in ("low", "high")
    ]
    observed = given["age"].notna()
    assert (written["age.low"] == written["age"])[observed].all()
    assert (written["age.low"] < written["age.high"])[~observed].all()
    assert written["age"].between(written["age.low"] - 0.5, written["age.high"] + 0.5).all()


def test_draws_are_numbered_copies(folder, tmp_path, succeed):
    for name in ("a", "b"):
        succeed("impute", "apply", folder / "imputer", folder / "gaps.csv", "-o", tmp_path / f"{name}.csv", "--draws",
                "3", "--seed", "1", "--keep", "name")  # fmt: skip
    written, given = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(folder / "gaps.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert list(written.columns[:2]) == ["name", "draw"]
    assert written["draw"].value_counts().to_dict() == {1: 120, 2: 120, 3: 120}
    assert written["name"].tolist() == given["name"].tolist() * 3
    first, second = (written[written["draw"] == n].reset_index(drop=True) for n in (1, 2))
    assert (first["weight"] != second["weight"])[given["weight"].isna()].any()
    assert (first["weight"] == second["weight"])[given["weight"].notna()].all()


def test_rows_without_gaps_are_written_as_they_are(folder, tmp_path, succeed):
    result = succeed("impute", "apply", folder / "imputer", folder / "full.csv", "-o", tmp_path / "out.csv")
    assert "no cell is missing: the rows are written as they are" in result.stderr
    expected = pd.read_csv(folder / "full.csv").drop(columns="name")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected)


def test_a_row_without_an_observed_cell_is_noted(folder, tmp_path, succeed):
    (tmp_path / "empty.csv").write_text("age,weight,visits,city,constant\n41,70.5,2,Bern,3\n,,,,\n")
    result = succeed("impute", "apply", folder / "imputer", tmp_path / "empty.csv", "-o", tmp_path / "out.csv")
    if len(pd.read_csv(tmp_path / "out.csv")) == 2:  # a reader may leave out blank lines
        assert "1 row without any observed cell" in result.stderr


def test_parquet_keeps_the_types(folder, tmp_path, succeed):
    given = pd.read_csv(folder / "gaps.csv").astype({"age": "Int64", "city": "category"})
    given.to_parquet(tmp_path / "gaps.parquet")
    succeed("impute", "fit", tmp_path / "gaps.parquet", "-o", tmp_path / "imputer", "--exclude", "name", *QUICK)
    succeed("impute", "apply", tmp_path / "imputer", tmp_path / "gaps.parquet", "-o", tmp_path / "out.parquet")
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert written["age"].dtype == "Int64"
    assert written["city"].dtype == "category"


def test_info_shows_the_errors(folder, succeed):
    shown = json.loads(succeed("info", folder / "imputer", "--json").stdout)
    assert shown["kind"] == "imputer"
    assert shown["history"]["denoisers"] == 2
    assert "RMSE" in shown["history"]["error of age"]
    assert "imputer" in succeed("info", folder / "imputer").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draws", "0"), "--draws 0: it must be a whole number of at least 1"),
        (("--interval", "1.5"), "--interval 1.5: it must be a number between 0 and 1, such as 0.9"),
        (("--draws", "2", "--interval", "0.9"), "--draws and --interval exclude each other"),
    ],
)
def test_invalid_options_are_refused(folder, tmp_path, refused, options, message):
    refused(("impute", "apply", folder / "imputer", folder / "gaps.csv", "-o", tmp_path / "out.csv", *options), message)


def test_a_npy_file_has_no_place_for_intervals(folder, tmp_path, refused):
    command = ("impute", "apply", folder / "of-array", folder / "rows.npy", "-o", tmp_path / "out.npy")
    refused((*command, "--interval", "0.9"), "--interval: ", "holds the rows alone; write a .csv or .parquet file")


def test_another_model_is_refused_with_the_command_that_makes_an_imputer(folder, tmp_path, refused):
    command = ("impute", "apply", folder / "plain", folder / "gaps.csv", "-o", tmp_path / "out.csv")
    refused(
        command, "contains a model of kind 'deep', not an imputer; make one with isthmus impute fit DATA -o IMPUTER"
    )
    command = ("reconstruct", folder / "imputer", folder / "gaps.csv", "-o", tmp_path / "out.csv")
    refused(command, "contains an imputer, not an autoencoder; use it with isthmus impute apply")


def test_another_schema_is_refused(folder, tmp_path, refused):
    pd.read_csv(folder / "gaps.csv").rename(columns={"age": "years"}).to_csv(tmp_path / "other.csv", index=False)
    command = ("impute", "apply", folder / "imputer", tmp_path / "other.csv", "-o", tmp_path / "out.csv")
    refused(command, "missing column 'age' and unknown column 'years'")


def test_the_input_is_not_overwritten(folder, tmp_path, refused):
    (tmp_path / "gaps.csv").write_bytes((folder / "gaps.csv").read_bytes())
    command = ("impute", "apply", folder / "imputer", tmp_path / "gaps.csv", "-o", tmp_path / "gaps.csv", "--force")
    refused(command, "gaps.csv")


def test_a_column_without_values_is_refused_by_name(tmp_path, refused):
    (tmp_path / "rows.csv").write_text("a,b,c\n1.5,,2\n2.5,,3\n3.5,,4\n")
    refused(("impute", "fit", tmp_path / "rows.csv", "-o", tmp_path / "imputer"), "column 'b' has no value")
