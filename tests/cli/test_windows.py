"""Windows of series in tables on the command line: a file of sensors fitted, a later one encoded and joined back."""

import json

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus.data import windows

from .commands import run

WINDOW = ("--window", 8, "--stride", 4, "--time", "when", "--group", "machine")
SMALL = ("--kind", "conv", "--epochs", 2, "--seed", 0, "--code-size", 2, "--set", "network.channels=4")
CHANNELS = ["temp", "pressure"]


def sensors(lengths, start="2024-03-01 06:00"):
    """Return a table of machines by minute; each run of a machine ends 3 hours before the next."""
    parts, rng = [], np.random.default_rng(0)
    for machine, runs in lengths.items():
        first = pd.Timestamp(start)
        for length in runs:
            when = pd.date_range(first, periods=length, freq="min")
            first = when[-1] + pd.Timedelta("3h")
            phase = np.arange(length) / 3
            parts.append(
                pd.DataFrame({
                    "when": when, "machine": machine, "temp": 20 + np.sin(phase) + 0.1 * rng.normal(size=length),
                    "pressure": 101325 + 300 * np.cos(phase) + 10 * rng.normal(size=length), "shift": len(parts) + 1,
                })
            )  # fmt: skip
    return pd.concat(parts).sort_values("when", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with sensors of two machines, those of the next day, and a model of their windows."""
    folder = tmp_path_factory.mktemp("sensors")
    sensors({"press": [60, 42], "pump": [70]}).to_csv(folder / "sensors.csv", index=False)
    sensors({"pump": [30], "press": [18, 5]}, "2024-03-02 06:00").to_csv(folder / "tomorrow.csv", index=False)
    result = run("fit", folder / "sensors.csv", "-o", folder / "m.isthmus", *WINDOW, *SMALL, "--exclude", "shift")
    assert result.exit_code == 0, result.stderr
    (folder / "fit.log").write_text(result.stderr)
    return folder


def tomorrow(files):
    """Return the rows of the next day, and their windows."""
    table = pd.read_csv(files / "tomorrow.csv", parse_dates=["when"])
    return table, windows(table.drop(columns="shift"), 8, 4, time="when", group="machine")


def test_fit_states_gaps_and_the_windows_that_are_held_out(files):
    log = (files / "fit.log").read_text()
    assert "1 gap in 'when'" in log
    assert "windows: 33 for training, 4 for validation, the last ones of each machine" in log
    assert "2 windows left out of training: they share rows with validation windows" in log
    assert "series of 8 steps and 2 channels" in log
    model = isthmus.load(files / "m.isthmus")
    assert model.n_rows_ == 33
    assert model.preprocessing_.layout == "ntc"


def test_the_model_holds_its_windows_and_info_prints_them(files, succeed):
    expected = {"size": 8, "stride": 4, "time": "when", "group": "machine", "time_form": None, "time_kind": "dates"}
    expected["channels"] = CHANNELS
    shown = json.loads(succeed("info", files / "m.isthmus", "--json").stdout)
    assert shown["preprocessing"]["windows"] == expected
    printed = succeed("info", files / "m.isthmus").stdout
    assert "size 8, stride 4, time when, group machine" in " ".join(printed.split())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_codes_have_group_and_times_of_their_windows_and_join_back(suffix, files, tmp_path, succeed):
    table, series = tomorrow(files)
    codes = tmp_path / f"codes.{suffix}"
    succeed("encode", files / "m.isthmus", files / "tomorrow.csv", "-o", codes, "--keep", "shift")
    read = pd.read_csv(codes, parse_dates=["start", "end"]) if suffix == "csv" else pd.read_parquet(codes)
    model = isthmus.load(files / "m.isthmus")
    names = list(model.get_feature_names_out())
    assert list(read) == ["machine", "start", "end", "shift", *names]
    np.testing.assert_allclose(read[names], model.transform(series.X), rtol=1e-5, atol=1e-6)
    first = read.merge(table, left_on=["machine", "start"], right_on=["machine", "when"])
    np.testing.assert_allclose(first[CHANNELS], series.X[:, 0])
    last = read.merge(table, left_on=["machine", "end"], right_on=["machine", "when"])
    assert last["shift_x"].tolist() == last["shift_y"].tolist()
    assert ((read["end"] - read["start"]) == pd.Timedelta("7min")).all()


def test_reconstructions_and_errors_have_a_line_for_each_covered_step(files, tmp_path, succeed):
    table, series = tomorrow(files)
    model = isthmus.load(files / "m.isthmus")
    result = succeed("reconstruct", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "back.csv",
                     "--keep", "shift")  # fmt: skip
    covered = series.covered
    n_left = int((~covered).sum())
    assert n_left == 2 + 2 + 5
    assert f"{covered.sum()} steps written to" in result.stderr
    assert f"{n_left} steps in no window are left out" in result.stderr
    back = pd.read_csv(tmp_path / "back.csv", parse_dates=["when"])
    assert list(back) == ["machine", "when", "shift", *CHANNELS]
    for name in ("machine", "when", "shift"):
        assert back[name].tolist() == table[name][covered].tolist()
    expected = series.by_time(model.reconstruct(series.X))[covered]
    np.testing.assert_allclose(back[CHANNELS], expected, rtol=1e-6)
    succeed("evaluate", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "errors.csv")
    errors = pd.read_csv(tmp_path / "errors.csv", parse_dates=["when"])
    assert list(errors) == ["machine", "when", "error", *CHANNELS]
    np.testing.assert_allclose(errors["error"], errors[CHANNELS].sum(axis=1), rtol=1e-6)
    cells = series.by_time(model.reconstruction_error(series.X, by="cell"))[covered]
    np.testing.assert_allclose(errors[CHANNELS], cells, rtol=1e-5)
    succeed("reconstruct", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "back.npy")
    np.testing.assert_allclose(np.load(tmp_path / "back.npy"), expected, rtol=1e-6)


def test_codes_decode_to_windows_in_columns_of_channels_and_steps(files, tmp_path, succeed):
    _, series = tomorrow(files)
    model = isthmus.load(files / "m.isthmus")
    succeed("encode", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "codes.csv")
    succeed("decode", files / "m.isthmus", tmp_path / "codes.csv", "-o", tmp_path / "rows.csv")
    rows = pd.read_csv(tmp_path / "rows.csv")
    columns = [f"{channel}, step {step}" for channel in CHANNELS for step in range(8)]
    assert list(rows) == ["machine", "start", "end", *columns]
    expected = np.moveaxis(model.reconstruct(series.X), 2, 1).reshape(len(series), -1)
    np.testing.assert_allclose(rows[columns], expected, rtol=1e-4)
    succeed("decode", files / "m.isthmus", tmp_path / "codes.csv", "-o", tmp_path / "rows.npy")
    succeed("evaluate", files / "m.isthmus", tmp_path / "rows.npy", "-o", tmp_path / "e.csv")
    assert list(pd.read_csv(tmp_path / "e.csv")) == ["row", "error", *columns]
    succeed("traverse", files / "m.isthmus", files / "tomorrow.csv", "--steps", 3, "-o", tmp_path / "t.npy")
    assert np.load(tmp_path / "t.npy").shape == (2, 3, 8, 2)


def test_rows_in_another_order_give_the_same_codes(files, tmp_path, succeed):
    table = pd.read_csv(files / "tomorrow.csv")
    table.sample(frac=1, random_state=0)[["pressure", "machine", "when", "temp"]].to_csv(
        tmp_path / "s.csv", index=False
    )
    result = succeed("encode", files / "m.isthmus", tmp_path / "s.csv", "-o", tmp_path / "a.csv")
    assert "the rows were not in the order of 'when'; they were sorted" in result.stderr
    succeed("encode", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "b.csv")
    a, b = (pd.read_csv(tmp_path / f"{name}.csv").sort_values(["machine", "start"]) for name in "ab")
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), rtol=1e-5)


def test_the_report_shows_the_series(files, tmp_path, succeed):
    succeed("report", files / "m.isthmus", files / "tomorrow.csv", "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert 'id="chart-series"' in page
    assert "9 steps of 53 are in no window" in page


def test_without_times_and_groups_steps_have_row_numbers(files, tmp_path, succeed):
    table = pd.read_csv(files / "sensors.csv")[CHANNELS]
    table.iloc[:51].to_csv(tmp_path / "t.csv", index=False)
    succeed("fit", tmp_path / "t.csv", "-o", tmp_path / "m.isthmus", "--window", 8, *SMALL, "--validation", 0)
    assert isthmus.load(tmp_path / "m.isthmus").history_["reading"]["windows"]["stride"] == 2
    succeed("encode", tmp_path / "m.isthmus", tmp_path / "t.csv", "-o", tmp_path / "codes.csv")
    codes = pd.read_csv(tmp_path / "codes.csv")
    assert codes["start"].tolist() == [*range(0, 43, 2)]
    assert codes["end"].tolist() == [*range(7, 50, 2)]
    succeed("reconstruct", tmp_path / "m.isthmus", tmp_path / "t.csv", "-o", tmp_path / "back.csv")
    back = pd.read_csv(tmp_path / "back.csv")
    assert back["row"].tolist() == [*range(50)]
    (tmp_path / "m.isthmus").unlink()
    table.set_axis([f"s{i}" for i in table.index], axis=0).to_csv(tmp_path / "named.csv")
    succeed("fit", tmp_path / "named.csv", "-o", tmp_path / "m.isthmus", "--window", 8, *SMALL)
    succeed("reconstruct", tmp_path / "m.isthmus", tmp_path / "named.csv", "-o", tmp_path / "b.csv")
    assert pd.read_csv(tmp_path / "b.csv", index_col=0).index[3] == "s3"


def test_another_file_can_be_the_validation_set(files, tmp_path, succeed):
    result = succeed("fit", files / "sensors.csv", "-o", tmp_path / "m.isthmus", *WINDOW, *SMALL, "--exclude", "shift",
                     "--validation", files / "tomorrow.csv")  # fmt: skip
    _, series = tomorrow(files)
    assert f"for training, {len(series)} for validation" in result.stderr


def test_missing_cells_of_sensors_are_left_out(files, tmp_path, succeed, refused):
    table = pd.read_csv(files / "sensors.csv").drop(columns="shift")
    table.loc[table.index[::7], "temp"] = np.nan
    table.to_csv(tmp_path / "gaps.csv", index=False)
    fit = ("fit", tmp_path / "gaps.csv", "-o", tmp_path / "m.isthmus", *WINDOW, *SMALL)
    refused(fit, "NaN (a missing value)", "--missing mask")
    succeed(*fit, "--missing", "mask")
    succeed("evaluate", tmp_path / "m.isthmus", tmp_path / "gaps.csv", "-o", tmp_path / "errors.csv")
    errors = pd.read_csv(tmp_path / "errors.csv")
    merged = errors.merge(table, on=["machine", "when"], suffixes=("", "_of"))
    assert merged["temp"].isna().tolist() == merged["temp_of"].isna().tolist()
    assert errors["error"].notna().all()


def test_labels_of_windows_are_those_of_their_last_steps(files, tmp_path, succeed, refused):
    table = pd.read_csv(files / "sensors.csv").assign(state=lambda rows: np.where(rows["temp"] > 20, "hot", "cold"))
    table.to_csv(tmp_path / "t.csv", index=False)
    common = ("--exclude", "shift")
    for labels in ("state", "machine"):
        result = succeed("evaluate", files / "m.isthmus", tmp_path / "t.csv", "--labels", labels, *common,
                         *(() if labels == "state" else ("--exclude", "state")), "--json")  # fmt: skip
        assert json.loads(result.stdout)["classes"] == 2
        assert "windows that overlap" in result.stderr
    fit = ("classify", "fit", tmp_path / "t.csv", "--encoder", files / "m.isthmus", "-o", tmp_path / "c.isthmus",
           "--labels", "state", *common, "--epochs", 1)  # fmt: skip
    refused((*fit, "--validation", 0.2), "--validation 0.2: windows overlap", "name a data source")
    assert "no validation set, since windows overlap" in succeed(*fit).stderr
    succeed("classify", "predict", tmp_path / "c.isthmus", tmp_path / "t.csv", "--labels", "state", "--keep", "state",
            "-o", tmp_path / "p.csv")  # fmt: skip
    read = pd.read_csv(tmp_path / "p.csv")
    assert list(read)[:5] == ["machine", "start", "end", "state", "label"]
    joined = read.merge(table, left_on=["machine", "end"], right_on=["machine", "when"])
    assert joined["state_x"].tolist() == joined["state_y"].tolist()


def test_supervised_training_takes_the_labels_of_training_windows(files, tmp_path, succeed, monkeypatch):
    table = pd.read_csv(files / "sensors.csv").assign(state=lambda rows: np.where(rows["temp"] > 20, "hot", "cold"))
    table.to_csv(tmp_path / "t.csv", index=False)
    given = {}
    fit = isthmus.StackedAutoencoder.fit

    def recorded(self, X, y=None, **options):
        given.update(X=X, y=y, validation=options["validation"])
        return fit(self, X, y, **options)

    monkeypatch.setattr(isthmus.StackedAutoencoder, "fit", recorded)
    succeed("fit", tmp_path / "t.csv", "-o", tmp_path / "m.isthmus", *WINDOW, "--kind", "stacked", "--exclude", "shift",
            "--set", "pretraining=supervised", "--labels", "state", "--epochs", 1, "--set", "hidden_sizes=4",
            "--code-size", 2)  # fmt: skip
    states = table.drop_duplicates(["machine", "when"]).set_index(["machine", "when"])["state"]
    series, (X, labels) = given["X"], given["validation"]
    expected = [states[machine, str(end)] for machine, _, end in series.names.itertuples(index=False)]
    assert given["y"].tolist() == expected
    assert len(labels) == len(X) == 4


FIT_REFUSED = {
    ("--window", 0): ["size=0", "--window"],
    ("--window", 8, "--stride", 0): ["stride=0", "--stride"],
    ("--stride", 4): ["--stride 4", "--window 64"],
    ("--time", "when"): ["--time when", "--window 64"],
    ("--window", 8, "--time", "wen"): ["sensors: time column 'wen'", "did you mean 'when'?"],
    ("--window", 8, "--time", "temp", "--group", "machines"): ["'machines'", "did you mean 'machine'?"],
    ("--window", 80, "--time", "when", "--group", "machine"): ["no window of 80 steps", "70 steps"],
    ("--window", 8, "--time", "when"): ["column 'machine' is not numeric", "--group"],
    (*WINDOW, "--weights", "temp"): ["--weights does not apply to windows"],
    (*WINDOW, "--resize", "8x8"): ["--resize does not apply to windows"],
    (*WINDOW, "--kind", "vae", "--condition", "machine"): ["--condition does not apply to windows"],
    (*WINDOW, "--dtype", "temp=count"): ["--dtype temp=count", "are numbers"],
    (*WINDOW, "--labels", "machine"): ["--labels machine", "time or group"],
    (*WINDOW, "--layout", "nhw"): ["--layout nhw", "ntc"],
    (*WINDOW, "--validation", 0.99): ["leaves 0 windows", "at least two"],
}


@pytest.mark.parametrize("options", FIT_REFUSED)
def test_fit_refuses_windows_that_cannot_be_cut(options, files, tmp_path, refused):
    refused(("fit", files / "sensors.csv", "-o", tmp_path / "m.isthmus", *options), *FIT_REFUSED[options])


def test_fit_refuses_windows_of_rows_that_are_not_a_table(inputs, tmp_path, refused):
    refused(("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", "--window", 8), "--window cuts a table")


def test_rows_of_another_schema_are_refused(files, inputs, tmp_path, refused):
    model, table = files / "m.isthmus", pd.read_csv(files / "tomorrow.csv").drop(columns="shift")
    table.drop(columns=["temp", "machine"]).to_csv(tmp_path / "missing.csv", index=False)
    table.assign(extra=1).to_csv(tmp_path / "more.csv", index=False)
    table.assign(temp="hot").to_csv(tmp_path / "text.csv", index=False)
    table.iloc[:5].to_csv(tmp_path / "short.csv", index=False)
    pd.concat([table, table.iloc[:3]]).to_csv(tmp_path / "twice.csv", index=False)
    expected = {
        "missing.csv": ["missing columns 'machine', 'temp'"],
        "more.csv": ["unknown column 'extra'", "--extra-columns ignore"],
        "text.csv": ["column 'temp' is not numeric"],
        "short.csv": ["no window of 8 steps"],
        "twice.csv": ["'when'", "occurs more than once", "3 times"],
    }
    for name, fragments in expected.items():
        refused(("encode", model, tmp_path / name, "-o", tmp_path / "codes.csv"), *fragments)
    refused(("encode", model, inputs / "array.npy", "-o", tmp_path / "codes.csv"), "array")


def test_columns_that_the_model_does_not_know_can_be_left_out(files, tmp_path, succeed):
    table = pd.read_csv(files / "tomorrow.csv").assign(extra="x")
    table.to_csv(tmp_path / "t.csv", index=False)
    for options in (("--extra-columns", "ignore"), ("--exclude", "extra"), ("--keep", "extra")):
        succeed("encode", files / "m.isthmus", tmp_path / "t.csv", "-o", tmp_path / "c.csv", *options, "--force")
    assert list(pd.read_csv(tmp_path / "c.csv"))[:4] == ["machine", "start", "end", "extra"]


def test_times_of_another_kind_are_refused(files, tmp_path):
    table = pd.read_csv(files / "tomorrow.csv").assign(when=lambda t: np.arange(len(t)))
    table.to_csv(tmp_path / "numbers.csv", index=False)
    result = run("encode", files / "m.isthmus", tmp_path / "numbers.csv", "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "time column 'when' had dates when the model was fitted; found numbers, such as 0" in result.stderr
