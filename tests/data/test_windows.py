"""Windows of series in tables: which rows they cover, their split, and values back at their times."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from isthmus.data import windows
from isthmus.data.series import TimeMean, Windows
from isthmus.data.times import parsed_times, time_numbers
from isthmus.data.window_cuts import cut
from isthmus.errors import InputError


@st.composite
def sensors(draw):
    """Draw a table of machines with gaps in time, in any order of its rows, and options of windows."""
    runs = draw(st.lists(st.lists(st.integers(1, 14), min_size=1, max_size=3), min_size=1, max_size=4))
    parts = []
    for machine, lengths in enumerate(runs):
        ends = np.cumsum([length + 5 for length in lengths])
        times = np.concatenate(
            [np.arange(end - length - 5, end - 5) for length, end in zip(lengths, ends, strict=True)]
        )
        parts.append(pd.DataFrame({"machine": f"m{machine}", "when": times * 10}))
    table = pd.concat(parts)
    n = len(table)
    table["a"], table["b"] = np.arange(n) ** 2.0, draw(st.floats(-5, 5)) + np.arange(n) % 3
    shuffled = table.sample(frac=1, random_state=draw(st.integers(0, 99))).reset_index(drop=True)
    return shuffled, draw(st.integers(2, 6)), draw(st.integers(1, 8))


def windowed(case):
    """Return the windows of a case that has at least one."""
    table, size, stride = case
    try:
        return windows(table, size, stride, time="when", group="machine")
    except InputError:
        reject()


@settings(deadline=None, max_examples=60)
@given(sensors())
def test_the_mean_by_time_of_windows_is_the_covered_rows(case):
    found = windowed(case)
    table = case[0]
    back, covered = found.by_time(found.X), found.covered
    np.testing.assert_allclose(back[covered], table[["a", "b"]].to_numpy()[covered], rtol=1e-12)
    assert np.isnan(back[~covered]).all()
    assert set(np.flatnonzero(covered)) == set(found.index.ravel())
    np.testing.assert_array_equal(found.X, table[["a", "b"]].to_numpy()[found.index])


@settings(deadline=None, max_examples=60)
@given(sensors())
def test_no_window_crosses_a_gap_or_a_border_of_groups(case):
    found = windowed(case)
    machine, when = (case[0][name].to_numpy()[found.index] for name in ("machine", "when"))
    assert (machine == machine[:, :1]).all()
    assert (np.diff(when, axis=1) > 0).all()
    for name, rows in case[0].groupby("machine"):
        steps = np.diff(np.sort(rows["when"]))
        longest = 1.5 * np.median(steps) if len(steps) else 0
        assert (np.diff(when[machine[:, 0] == name], axis=1) <= longest).all()
    assert found.names["start"].tolist() == when[:, 0].tolist()
    assert found.names["end"].tolist() == when[:, -1].tolist()


@settings(deadline=None, max_examples=60)
@given(sensors(), st.floats(0, 0.7))
def test_training_and_validation_windows_share_no_row(case, fraction):
    found = windowed(case)
    try:
        training, validation = found.split(fraction)
    except InputError:
        reject()
    assert not set(training.index.ravel()) & set(validation.index.ravel())
    assert len(validation) == int(fraction * len(found) + 0.5)
    n_dropped = len(found) - len(training) - len(validation)
    assert bool(training.notes) == bool(n_dropped)
    for part in (training, validation):
        np.testing.assert_array_equal(part.X, case[0][["a", "b"]].to_numpy()[part.index])
    ends, starts = ({} for _ in range(2))
    for part, times in ((training, ends), (validation, starts)):
        for machine, start, end in part.names.itertuples(index=False):
            times.setdefault(machine, []).append(end if part is training else start)
    assert all(max(ends[machine]) < min(starts[machine]) for machine in ends.keys() & starts.keys())


def test_windows_start_every_stride_in_each_run():
    table = pd.DataFrame({"when": [*range(10), *range(20, 27)], "x": range(17)})
    found = windows(table, 4, 3, time="when")
    assert found.index[:, 0].tolist() == [0, 3, 6, 10, 13]
    assert found.notes == ("1 gap in 'when': steps longer than 1.5 times the median step; no window spans one",)
    assert windows(table.drop(columns="when"), 4, 3).index[:, 0].tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("group", [None, "machine"])
def test_overlapping_windows_take_no_memory_of_their_own(group):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(5000, 3)), columns=list("abc"))
    options = {"group": group} if group else {}
    found = windows(table.assign(machine=np.arange(5000) // 1700) if group else table, 64, 1, **options)
    assert found.X.shape == (4937 if group is None else 5000 - 3 * 63, 64, 3)
    for part in (found, *found.split(0.1)):
        assert part.X.values is found.X.values
        assert np.shares_memory(part.X[3:7], found.X.values)
        assert not part.X[3:7].flags.writeable
    assert found.X.values.nbytes == 8 * 5000 * 3
    if group is None:
        assert np.shares_memory(np.asarray(found.X), found.X.values)


def test_windows_are_indexed_as_an_array_of_them():
    table = pd.DataFrame({"machine": np.arange(40) // 20, "x": np.arange(40.0), "y": -np.arange(40.0)})
    X = windows(table, 5, 3, group="machine").X
    array = np.array(X)
    assert isinstance(array, np.ndarray)
    assert array.shape == X.shape == (12, 5, 2)
    mask = np.arange(12) % 5 == 0
    keys = [3, -1, np.int64(2), slice(4, 8), slice(None, None, -2), [5, 0, 5], mask, [], (slice(None), 2), (3, 1, 0),
            ([1, 7], slice(None), 0), ..., (..., 1), (mask, ..., 1), slice(0, 0)]  # fmt: skip
    for key in keys:
        np.testing.assert_array_equal(X[key], array[key])
    np.testing.assert_array_equal(X * 2 + X, 3 * array)
    np.testing.assert_array_equal(np.sqrt(np.abs(X)), np.sqrt(np.abs(array)))
    assert np.asarray(X, np.float32).dtype == np.float32
    assert float(np.mean(X)) == array.mean()


def test_values_are_averaged_over_the_windows_that_cover_a_step():
    found = windows(pd.DataFrame({"x": np.arange(5.0)}), 3, 1)
    values = np.array([[0.0, 3, 6], [1, np.nan, 7], [2, 5, 8]])
    np.testing.assert_allclose(found.by_time(values), [0, 2, (6 + 2) / 2, (7 + 5) / 2, 8])
    mean = TimeMean(found)
    mean.add(values[:2])
    with pytest.raises(InputError, match="2 windows of 3"):
        mean.values()
    with pytest.raises(InputError, match=r"shape \(2, 3\) for 3 windows of 3 steps"):
        mean.add(values[:2])
    with pytest.raises(InputError, match=r"shape \(3, 2\)"):
        found.by_time(np.zeros((3, 2)))


def test_steps_between_windows_and_short_groups_are_stated():
    table = pd.DataFrame({"machine": list("aaaaaaaaaabb"), "x": np.arange(12.0)})
    found = windows(table, 2, 4, group="machine")
    assert found.notes == ("4 steps of 12 in no window; the stride 4 is above the window 2",)
    found = windows(table, 4, 3, group="machine")
    assert found.notes == ("1 group of 'machine' without a window (b): too short", "2 steps of 12 in no window")


def test_rows_out_of_order_are_sorted_and_it_is_stated():
    table = pd.DataFrame({"when": [3, 1, 2, 0], "x": [30.0, 10, 20, 0]})
    found = windows(table, 2, 1, time="when")
    assert found.notes == ("the rows were not in the order of 'when'; they were sorted",)
    assert found.X[:, 0, 0].tolist() == [0, 10, 20]
    assert found.by_time(found.X)[:, 0].tolist() == [30, 10, 20, 0]
    interleaved = pd.DataFrame({"when": [0, 0, 1, 1], "m": list("abab"), "x": range(4)})
    assert windows(interleaved, 2, 1, time="when", group="m").notes == ()


def test_missing_cells_stay_missing():
    table = pd.DataFrame({"x": pd.array([1, None, 3], "Int64"), "y": [True, False, True]})
    found = windows(table, 2, 1)
    np.testing.assert_array_equal(found.X[0], [[1, 1], [np.nan, 0]])
    assert found.by_time(found.X)[:, 0].tolist()[::2] == [1, 3]


def test_columns_of_any_name_are_channels():
    found = windows(pd.DataFrame({0: [1.0, 2], 1: [3.0, 4], "t": [1, 2]}), 2, 1, time="t")
    assert found.channels == ["0", "1"]


DAY = 86_400


@pytest.mark.parametrize(
    "texts", [
        ["2024-01-31", "2024-02-01", "2024-02-02"],
        ["2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z"],
        ["31.01.2024", "01.02.2024", "02.02.2024"],
        ["01/31/2024", "02/01/2024", "02/02/2024"],
        ["31 Jan 2024", "1 Feb 2024", "2 Feb 2024"],
        ["20240131", "20240201", "20240202"],
    ],
)  # fmt: skip
def test_texts_that_are_dates_are_times(texts):
    times = parsed_times(pd.Series(texts), "when")
    assert (np.diff(time_numbers(times.values)) / 1e6).tolist() == [DAY, DAY]
    assert times.notes == ()


@pytest.mark.parametrize(
    ("text", "order"), [("01.02.2024", "day before the month"), ("01/02/2024", "month before the day")]
)
def test_the_order_of_day_and_month_is_stated_where_both_are_possible(text, order):
    times = parsed_times(pd.Series([text, text.replace("01", "03", 1)]), "when")
    assert order in times.notes[0]
    days = np.diff(time_numbers(times.values) / 1e6 / DAY).round().tolist()
    assert days == ([2] if order.startswith("day") else [60])


def test_a_later_table_is_read_in_the_form_of_dates_of_the_first():
    first = windows(
        pd.DataFrame({"when": [f"{day}/02/2024" for day in range(12, 16)], "x": range(4)}), 2, 1, time="when"
    )
    assert first.options.time_form == "%d/%m/%Y"
    later = pd.DataFrame({"when": [f"0{day}/03/2024" for day in range(1, 5)], "x": range(4)})
    assert len(cut(later, first.options)) == 3
    assert cut(later, first.options).notes == ()
    assert "month before the day" in windows(later, 2, 1, time="when").notes[0]
    iso = later.assign(when=[f"2024-03-0{day}" for day in range(1, 5)])
    assert cut(iso, first.options).options.time_form == "%d/%m/%Y"


def test_large_whole_numbers_are_ordered_exactly():
    times = parsed_times(pd.Series([2**60 + 1, 2**60]), "when").values
    assert time_numbers(times).tolist() == [2**60 + 1, 2**60]


SERIES = pd.DataFrame({"when": np.arange(8), "machine": list("aaaabbbb"), "x": np.arange(8.0)})


@pytest.mark.parametrize(
    ("change", "options", "fragments"), [
        ({}, {"size": 5, "group": "machine"}, ["no window of 5 steps", "has 3 steps"]),
        ({}, {"size": 1}, ["size=1", "at least 2", "--window"]),
        ({}, {"size": 2.5}, ["size=2.5", "whole number"]),
        ({}, {"stride": 0}, ["stride=0", "at least 1", "--stride"]),
        ({}, {"time": "wen"}, ["time column 'wen'", "did you mean 'when'?", "--time"]),
        ({}, {"group": "Machines"}, ["group column 'Machines'", "did you mean 'machine'?"]),
        ({}, {"time": "when", "group": "when"}, ["time and as group"]),
        ({"when": 7}, {"group": "machine", "time": "when"}, ["7 of machine a occurs more than once", "6 times"]),
        ({"when": [0, 1, 2, 3] * 2, "machine": 1}, {"time": "when"}, ["'when'", "4 times in all", "--group"]),
        ({"when": ["2024-01-01"] * 7 + ["soon"]}, {"time": "when", "group": "machine"}, ["'soon' in row 7"]),
        ({"when": [0, 1, np.nan, 3, 4, 5, 6, 7]}, {"time": "when", "group": "machine"}, ["missing in row 2"]),
        ({"when": [0, 1, np.inf, 3, 4, 5, 6, 7]}, {"time": "when", "group": "machine"}, ["infinite in row 2"]),
        ({"machine": [None, *"aaabbbb"]}, {"group": "machine"}, ["'machine' is missing in row 0", "1 such row"]),
        (
            {"note": "n", "city": "Rome"},
            {"group": "machine", "time": "when"},
            ["columns 'note', 'city' are", "--exclude note --exclude city"],
        ),
        ({}, {"time": "when"}, ["column 'machine' is not numeric", "--exclude machine", "name it as --group"]),
    ],
)  # fmt: skip
def test_input_that_cannot_be_cut_is_refused_in_one_line(change, options, fragments):
    table = SERIES.assign(**change).iloc[: 7 if options.get("size") == 5 else 8]
    if options.get("size") == 5:
        table = table.iloc[1:]
    with pytest.raises(InputError) as refused:
        windows(table, **{"size": 3, "stride": 1, **options})
    assert "\n" not in str(refused.value)
    for fragment in fragments:
        assert fragment in str(refused.value)


def test_tables_without_rows_or_channels_are_refused():
    with pytest.raises(InputError, match="a column of numbers"):
        windows(SERIES[["when"]], 2, 1, time="when")
    with pytest.raises(InputError, match="no rows"):
        windows(SERIES[["x"]].iloc[:0], 2, 1)


def test_a_split_that_leaves_no_training_windows_is_refused():
    found = windows(SERIES[["x"]], 4, 1)
    with pytest.raises(InputError, match="leaves 1 window of 5 for training"):
        found.split(0.2)
    with pytest.raises(InputError, match="fraction=1"):
        found.split(1)
    training, validation = found.split(0)
    assert (len(training), len(validation)) == (5, 0)


def test_options_come_back_from_json():
    options = Windows(8, 2, group="machine")
    assert Windows.from_dict(options.to_dict()) == options
