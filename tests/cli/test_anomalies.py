"""Odd rows on the command line: a detector of a table with gaps, its scores of later rows, and its report."""

import json

import numpy as np
import pandas as pd
import pytest

from .commands import listing, run

N = 240


def people(seed):
    """Return a table of persons; income follows age, and one in ten incomes is missing."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, N).round(1)
    income = (1000 * (20 + age * rng.normal(1, 0.1, N))).round()
    table = pd.DataFrame({"customer": [f"K{i:03d}" for i in range(N)], "age": age, "income": income})
    table = table.assign(city=np.where(age > 50, "Bern", "Oslo"), children=rng.poisson(1.5, N), odd=0)
    table.loc[rng.choice(N, N // 10, replace=False), "income"] = np.nan
    table.loc[[7, 90], ["income", "odd"]] = 400_000, 1
    return table


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with two tables and a detector of the first one."""
    folder = tmp_path_factory.mktemp("people")
    people(0).to_csv(folder / "people.csv", index=False)
    people(1).to_csv(folder / "later.csv", index=False)
    result = run("anomalies", "fit", folder / "people.csv", "-o", folder / "p.isthmus", "--exclude", "customer",
                 "--labels", "odd", "--seed", 0, "--json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (folder / "fit.json").write_text(result.stdout)
    (folder / "fit.log").write_text(result.stderr)
    return folder


def test_fit_states_the_planted_anomalies_that_are_found_and_the_rows_that_are_flagged(files):
    log, summary = (files / "fit.log").read_text(), json.loads((files / "fit.json").read_text())
    assert "planted scaled cells: " in log
    assert "training rows have a p-value of at most 0.05; about 12 would without any odd row" in log
    assert summary["rows"] == N
    assert summary["calibration_rows"] == N // 4
    assert {line["anomaly"] for line in summary["planted"]} >= {"scaled cells", "mixed rows"}


def test_the_oddest_rows_come_first_with_their_cells_and_the_values_that_were_expected(files, tmp_path):
    result = run("anomalies", "score", files / "p.isthmus", files / "later.csv", "--keep", "customer", "--top", 2,
                 "--labels", "odd", "-o", tmp_path / "odd.csv", "--json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = pd.read_csv(tmp_path / "odd.csv")
    assert sorted(found["customer"]) == ["K007", "K090"]
    assert list(found.columns[:5]) == ["row", "customer", "score", "p_value", "flag"]
    assert found["flag"].all()
    assert found["cell_1"].tolist() == ["income"] * 2
    assert found["value_1"].tolist() == [400_000] * 2
    assert ((found["low_1"] < found["expected_1"]) & (found["expected_1"] < found["high_1"])).all()
    assert (found["high_1"] < 200_000).all()
    assert json.loads(result.stdout)["auroc"] == 1.0


def test_all_rows_are_written_in_their_order_and_the_table_on_the_terminal_names_cells(files, tmp_path):
    result = run("anomalies", "score", files / "p.isthmus", files / "later.csv", "-o", tmp_path / "all.parquet")
    assert result.exit_code == 0, result.stderr
    found = pd.read_parquet(tmp_path / "all.parquet")
    assert found["row"].tolist() == list(range(N))
    assert (found["score"].argsort()[:2].sort_values() == [7, 90]).all()
    assert found.loc[~found["flag"], "cell_1"].isna().all()
    assert "income = 400000 (expected" in result.stdout


def test_rows_of_the_fit_have_the_p_values_of_cross_fitting(files, tmp_path):
    result = run("anomalies", "score", files / "p.isthmus", files / "people.csv", "-o", tmp_path / "own.csv")
    assert "the rows that the detector was fitted on" in result.stderr
    flagged = json.loads((files / "fit.json").read_text())["flagged"]
    assert pd.read_csv(tmp_path / "own.csv")["flag"].sum() == flagged


def test_a_rate_of_false_discoveries_that_is_impossible_is_said(files, tmp_path):
    result = run(
        "anomalies", "score", files / "p.isthmus", files / "later.csv", "--fdr", 0.05, "-o", tmp_path / "x.csv"
    )
    assert result.exit_code == 0
    assert "no row is a discovery: with 60 calibration rows the smallest p-value is 0.016" in result.stderr
    assert not pd.read_csv(tmp_path / "x.csv")["flag"].any()


def test_the_report_has_the_rows_their_cells_and_no_request(files, tmp_path):
    result = run("report", files / "p.isthmus", files / "later.csv", "-o", tmp_path / "odd.html")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "odd.html").read_text()
    assert "<b>income</b> 400000 <small>expected" in page
    assert 'id="chart-heat"' in page
    assert 'id="chart-scores"' in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "people.csv", "later.csv", "-o", "x.csv"), "people.csv is not an isthmus model file"),
        (("score", "p.isthmus", "later.csv", "-o", "x.npy"), "scores are written as .csv, .parquet"),
        (("score", "p.isthmus", "later.csv", "-o", "later.csv", "--force"), "later.csv"),
        (("score", "p.isthmus", "later.csv", "-o", "x.csv", "--fdr", "2"), "rate"),
        (("score", "p.isthmus", "later.csv", "-o", "x.csv", "--labels", "children"), "give 1 for odd rows and 0"),
        (("fit", "people.csv", "-o", "d.isthmus", "--exclude", "customer", "--false-alarms", "0"), "false_alarm_rate"),
        (("fit", "people.csv", "-o", "d.isthmus", "--set", "code_size=2"), "name it, such as --kind deep"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    before = listing(files)
    result = run("anomalies", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert listing(files) == before


def test_a_plain_model_is_refused_with_the_command_that_makes_a_detector(files, tmp_path):
    fitted = run("fit", files / "people.csv", "-o", tmp_path / "m.isthmus", "--exclude", "customer", "--quiet",
                 "--missing", "mean", "--epochs", 1)  # fmt: skip
    assert fitted.exit_code == 0, fitted.stderr
    result = run("anomalies", "score", tmp_path / "m.isthmus", files / "later.csv", "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "make one from the training data with isthmus anomalies fit DATA -o DETECTOR" in result.stderr


def test_windows_of_series_are_scored_and_the_broken_channel_is_named(tmp_path):
    rng, t = np.random.default_rng(0), np.arange(1200)
    table = pd.DataFrame({
        "hour": t, "load": 1 + 0.5 * np.sin(t / 8) + 0.05 * rng.normal(size=1200),
        "temp": 20 + 5 * np.sin(t / 8) + 0.3 * rng.normal(size=1200),
    })  # fmt: skip
    table.to_csv(tmp_path / "a.csv", index=False)
    table.loc[500:520, "temp"] += 15
    table.to_csv(tmp_path / "b.csv", index=False)
    fitted = run("anomalies", "fit", tmp_path / "a.csv", "-o", tmp_path / "d.isthmus", "--window", 12, "--stride", 6,
                 "--time", "hour", "--seed", 0)  # fmt: skip
    assert fitted.exit_code == 0, fitted.stderr
    result = run("anomalies", "score", tmp_path / "d.isthmus", tmp_path / "b.csv", "-o", tmp_path / "x.csv", "--top", 2)
    assert result.exit_code == 0, result.stderr
    found = pd.read_csv(tmp_path / "x.csv")
    assert found["start"].between(489, 520).all()
    assert found["cell_1"].str.startswith("temp, step ").all()
    page = run("report", tmp_path / "d.isthmus", tmp_path / "b.csv", "-o", tmp_path / "r.html")
    assert page.exit_code == 0, page.stderr
    assert "chart-band-0-1" in (tmp_path / "r.html").read_text()


def test_columns_of_an_array_have_the_names_of_other_outputs(tmp_path):
    X = np.random.default_rng(0).normal(size=(120, 3)) @ [[1, 0, 1], [0, 1, 1], [0, 0, 0.1]]
    X[5, 1] = 30
    np.save(tmp_path / "x.npy", X)
    run("anomalies", "fit", tmp_path / "x.npy", "-o", tmp_path / "d.isthmus", "--seed", 0)
    result = run("anomalies", "score", tmp_path / "d.isthmus", tmp_path / "x.npy", "-o", tmp_path / "o.csv", "--top", 1)
    assert result.exit_code == 0, result.stderr
    assert pd.read_csv(tmp_path / "o.csv")[["row", "cell_1"]].to_numpy().tolist() == [[5, "x1"]]


def test_fit_compares_the_ranking_of_its_rows_with_the_labels(files):
    summary = json.loads((files / "fit.json").read_text())
    assert summary["auroc"] > 0.95
    assert "labels (1 as odd): AUROC" in (files / "fit.log").read_text()
