"""Later files are read as the training file was read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

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
