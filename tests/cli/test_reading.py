"""Later files are read as the training file was read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import isthmus

from .commands import SMALL, run


def test_tomorrows_one_line_file_is_read_as_the_training_file(tmp_path, succeed):
    rng = np.random.default_rng(0)
    lines = [f"{20 + a / 10};{b / 10};0{c}000".replace(".", ",") for a, b, c in rng.integers(0, 9, (60, 3))]
    (tmp_path / "today.csv").write_text("\n".join(["temp;valve;zip", *lines]) + "\n")
    (tmp_path / "tomorrow.csv").write_text(f"temp;valve;zip\n{lines[3]}\n")
    model = tmp_path / "model.isthmus"
    succeed("fit", tmp_path / "today.csv", *SMALL, "-o", model)
    names = [column.unit for column in isthmus.load(model).preprocessing_.table]
    assert names == ["real", "real", "categorical"]
    for name in ("today", "tomorrow"):
        succeed("encode", model, tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.npy")
    today, tomorrow = (np.load(tmp_path / f"{name}.npy") for name in ("today", "tomorrow"))
    np.testing.assert_allclose(tomorrow[0], today[3], rtol=1e-5)
    succeed("evaluate", model, tmp_path / "today.csv")
    succeed("report", model, tmp_path / "today.csv", "-o", tmp_path / "report.html")
    succeed("traverse", model, tmp_path / "today.csv", "--unit", 0, "-o", tmp_path / "path.csv")


def test_levels_of_text_are_found_in_a_file_of_digits(tmp_path, succeed):
    rows = pd.DataFrame({"ward": ["1", "2", "A"] * 20, "x": np.arange(60) / 10})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "one.csv").write_text("ward,x\n1,0.0\n")
    succeed("fit", tmp_path / "rows.csv", *SMALL, "-o", tmp_path / "model.isthmus")
    succeed("reconstruct", tmp_path / "model.isthmus", tmp_path / "one.csv", "-o", tmp_path / "out.csv")


def test_declared_types_and_missing_values(tmp_path, succeed, refused):
    rows = "".join(f"{i % 7},{i % 5},{i / 3:.2f},{'?' if i == 4 else i}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text(f"grade,kind,x,y\n{rows}")
    data, model = tmp_path / "rows.csv", tmp_path / "model.isthmus"
    declared = ("--dtype", "grade=category", "--dtype", "kind=real", "--dtype", "x=ignore", "--na", "?")
    succeed("fit", data, *declared, "--missing", "mean", *SMALL, "-o", model)
    assert [c.unit for c in isthmus.load(model).preprocessing_.table] == ["categorical", "real", "count"]
    succeed("encode", model, data, "-o", tmp_path / "codes.npy")
    output = ("-o", tmp_path / "other.isthmus")
    refused(("fit", data, "--dtype", "grade=number", *output), "'number' is not one of real")
    refused(("fit", data, "--dtype", "grade", *output), "give COLUMN=TYPE")
    refused(("fit", data, "--dtype", "z=real", *output), "no column 'z'")
    refused(("fit", data, "--dtype", "y=real", *output), "holds '?' at row 4")
    twice = ("--set", 'dtypes={"y": "real"}')
    refused(("fit", data, "--dtype", "y=real", "--na", "?", *twice, *output), "give one of them")
    refused(("fit", "digits", "--sep", ";", *output), "options of .csv and .tsv files")


def test_the_help_lists_the_options_of_reading():
    for command in ("fit", "encode", "reconstruct", "evaluate", "report", "traverse", "interpolate"):
        assert "--decimal" in run(command, "--help").stdout


def test_describe_prints_the_columns_without_a_fit(tmp_path, succeed, refused):
    rows = "".join(f"{i},{i % 3},{i / 7:.3f},2024-01-{i % 28 + 1:02d}\n" for i in range(50))
    (tmp_path / "rows.csv").write_text(f"id,kind,x,day\n{rows}")
    result = succeed("describe", tmp_path / "rows.csv")
    for text in ("50 rows, a table of 4 columns", "count", "0 to 2", "refused"):
        assert text in result.stdout
    assert "--dtype id=id" in result.stderr
    assert "contains dates" in result.stderr
    found = json.loads(succeed("describe", tmp_path / "rows.csv", "--json", "--dtype", "kind=category").stdout)
    assert [column["unit"] for column in found["columns"]] == ["count", "categorical", "real", "refused"]
    assert "images of 8x8" in succeed("describe", "digits").stdout
    refused(("describe", tmp_path / "none.csv"), "no such file")


def test_fit_lists_the_columns_that_it_found(tmp_path, succeed):
    rows = "".join(f"{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "rows.csv").write_text(f"x,group\n{rows}")
    result = succeed("fit", tmp_path / "rows.csv", *SMALL, "-o", tmp_path / "model.isthmus")
    assert "column group: binary, a, b; such as a" in result.stderr
    quiet = succeed("fit", tmp_path / "rows.csv", *SMALL, "--quiet", "-o", tmp_path / "other.isthmus")
    assert "column group" not in quiet.stderr


TYPES = ("--dtype", "customer=id", "--dtype", "day=date", "--dtype", "note=ignore", "--dtype", "zip=category")


def customers(n=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return pd.DataFrame({
        "customer": [f"C{i:03d}" for i in range(n)], "day": pd.date_range("2024-01-05", periods=n).strftime("%d.%m.%Y"),
        "x": x, "y": x + rng.normal(size=n) / 9, "zip": rng.choice([8001, 8002, 8003], n),
        "note": [f"remark number {i}" for i in range(n)],
    })  # fmt: skip


def test_dates_identifiers_and_unseen_levels_by_the_schema_of_training(tmp_path, succeed, refused):
    rows, model = customers(), tmp_path / "model.isthmus"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    one = rows.iloc[[3]].assign(day="08.01.2024", note="new", zip=9999)  # the day alone could be the first of August
    one.to_csv(tmp_path / "one.csv", index=False)
    result = succeed("fit", tmp_path / "rows.csv", *TYPES, *SMALL, "-o", model)
    assert "column customer: id, 60 values; such as C000" in result.stderr
    assert "column day: date, 2024-01-05 to 2024-03-04; such as 05.01.2024" in result.stderr
    found = isthmus.load(model)
    assert found.dtypes == {"customer": "id", "day": "date", "note": "ignore", "zip": "category"}
    assert [column.unit for column in found.preprocessing_.table] == ["date", "real", "real", "categorical"]
    result = succeed("encode", model, tmp_path / "one.csv", "-o", tmp_path / "one-codes.csv")
    assert "column 'zip' has 1 value that it did not have in training, such as '9999' at row 0" in result.stderr
    assert pd.read_csv(tmp_path / "one-codes.csv")["customer"].tolist() == ["C003"]
    refused(("encode", model, tmp_path / "one.csv", "--unknown", "refuse", "-o", tmp_path / "z.csv"), "'9999' at row 0")
    refused(("encode", model, tmp_path / "one.csv", "--unknown", "skip", "-o", tmp_path / "z.csv"), "missing or refuse")
    succeed("reconstruct", model, tmp_path / "rows.csv", "--keep", "note", "-o", tmp_path / "back.csv")
    back = pd.read_csv(tmp_path / "back.csv")
    assert list(back) == ["customer", "note", "day", "x", "y", "zip"]
    assert back["day"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    succeed("encode", model, tmp_path / "back.csv", "-o", tmp_path / "codes.csv")
    succeed("report", model, tmp_path / "rows.csv", "-o", tmp_path / "report.html")
    later = rows.drop(columns=["customer", "note"])
    later.to_csv(tmp_path / "later.csv", index=False)
    succeed("evaluate", model, tmp_path / "later.csv")
    refused(("encode", model, tmp_path / "rows.csv", "--dtype", "zipp=id", "-o", tmp_path / "z.csv"), "mean 'zip'?")


def test_a_file_that_contradicts_several_columns_is_refused_in_one_line(tmp_path, succeed, refused):
    rows, model = customers(), tmp_path / "model.isthmus"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    succeed("fit", tmp_path / "rows.csv", *TYPES, *SMALL, "-o", model)
    rows["x"] = rows["x"].astype(object)
    rows.loc[4, "x"] = "much"
    rows.assign(y="2024-01-05").drop(columns="zip").to_csv(tmp_path / "bad.csv", index=False)
    parts = ("missing column 'zip'", "column 'x' was numeric", "'much' at row 4", "column 'y' was numeric")
    refused(("encode", model, tmp_path / "bad.csv", "-o", tmp_path / "z.csv"), *parts)


def test_a_column_of_texts_and_identifiers_is_a_set_of_texts(tmp_path, succeed, refused):
    texts = ["red apple pie", "green apple", "apple pie recipe", "red wine", "wine recipe"] * 6
    pd.DataFrame({"key": range(30), "text": texts}).to_csv(tmp_path / "rows.csv", index=False)
    model = tmp_path / "model.isthmus"
    succeed("fit", tmp_path / "rows.csv", "--dtype", "key=id", "--dtype", "text=text", *SMALL, "-o", model)
    succeed("encode", model, tmp_path / "rows.csv", "-o", tmp_path / "codes.csv")
    assert pd.read_csv(tmp_path / "codes.csv")["key"].tolist() == list(range(30))
    other = pd.DataFrame({"key": [1], "title": ["red wine"]})
    other.to_csv(tmp_path / "other.csv", index=False)
    refused(("encode", model, tmp_path / "other.csv", "-o", tmp_path / "z.csv"), "missing column 'text'", "'title'")


def test_a_column_that_names_the_split_of_a_row_is_no_feature(tmp_path, succeed):
    rows = customers()[["x", "y"]].assign(split=["train", "test"] * 30)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    model = tmp_path / "model.isthmus"
    result = succeed("fit", tmp_path / "rows.csv", *SMALL, "-o", model)
    assert "column 'split' (test, train) names the part of the data and is left out" in result.stderr
    succeed("encode", model, tmp_path / "rows.csv", "--keep", "split", "-o", tmp_path / "codes.csv")
    assert pd.read_csv(tmp_path / "codes.csv")["split"].tolist() == rows["split"].tolist()
    read = isthmus.data.open(tmp_path / "rows.csv")
    assert list(read.X) == ["x", "y"]
    succeed("fit", tmp_path / "rows.csv", "--dtype", "split=binary", *SMALL, "-o", model, "--force")
    assert list(isthmus.load(model).feature_names_in_) == ["x", "y", "split"]
    succeed("encode", model, tmp_path / "rows.csv", "-o", tmp_path / "codes.csv", "--force")


@pytest.mark.parametrize("written", [("True", "False"), ("true", "false"), ("TRUE", "FALSE")])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_booleans_of_any_spelling_are_binary_and_come_back_as_booleans(written, has_gaps, tmp_path, succeed):
    x = np.random.default_rng(0).normal(size=80)
    flags = np.where(x > 0, *written).astype(object)
    if has_gaps:
        flags[::9] = ""
    data, model, output = tmp_path / "rows.csv", tmp_path / "model.isthmus", tmp_path / "out.csv"
    data.write_text("x,flag\n" + "".join(f"{a:.3f},{flag}\n" for a, flag in zip(x, flags, strict=True)))
    succeed("fit", data, "--missing", "mask", "--epochs", 60, "--code-size", 2, "--seed", 0, "-o", model)
    known = isthmus.load(model).preprocessing_.table[1]
    assert (known.unit, known.levels) == ("binary", [False, True])
    succeed("reconstruct", model, data, "-o", output)
    found = pd.read_csv(output)["flag"]
    assert found.dtype == bool
    assert (found == (x > 0))[np.abs(x) > 0.5].mean() > 0.9
    assert set(output.read_text().splitlines()[1].partition(",")[2:]) <= {"true", "false"}
    succeed("encode", model, output, "-o", tmp_path / "codes.npy")  # the output is a file of the same schema
    succeed("encode", model, data, "--keep", "flag", "-o", tmp_path / "kept.csv")
    kept = pd.read_csv(tmp_path / "kept.csv")["flag"]
    assert [str(value).lower() for value in kept.dropna()] == [flag.lower() for flag in flags if flag]
    succeed("fit", data, "--missing", "mask", *SMALL, "--dtype", "flag=category", "-o", tmp_path / "texts.isthmus")
    assert isthmus.load(tmp_path / "texts.isthmus").preprocessing_.table[1].levels == sorted(written)


def test_of_header_and_no_header_the_last_one_counts(tmp_path, succeed):
    (tmp_path / "rows.csv").write_text("a,b\n" + "1.5,x\n2.5,y\n" * 20)
    for options, n_rows in ((("--header", "--no-header"), 41), (("--no-header", "--header"), 40)):
        assert json.loads(succeed("describe", tmp_path / "rows.csv", *options, "--json").stdout)["rows"] == n_rows
