"""The section of the report on series: panels of channels, the error below them, and the error of all series."""

import numpy as np
import pandas as pd
import pytest

from isthmus import LinearAutoencoder
from isthmus.data import windows
from isthmus.report import series_section, write
from isthmus.report.charts import plain

from .cases import NASTY
from .pages import CHROMIUM, Page, run_in_browser


def table_of(n=60, n_channels=2, machines=("a",), **columns):
    """Return series of machines with a gap in the middle, and a wrong value in the last machine."""
    parts = []
    for k, machine in enumerate(machines):
        when = np.arange(n) + 100 * (np.arange(n) >= n // 2)
        waves = {f"c{j}": np.sin(np.arange(n) / 5 + j + k) for j in range(n_channels)}
        parts.append(pd.DataFrame({"when": when, "machine": machine, **waves}))
    table = pd.concat(parts, ignore_index=True).assign(**columns)
    table.loc[len(table) - 20, "c0"] = 9.0
    return table


def section_of(table, size=8, stride=4, **options):
    found = windows(table, size, stride, **{"time": "when", "group": "machine", **options})
    model = LinearAutoencoder(code_size=3, max_epochs=2, validation_fraction=0, random_state=0).fit(found)
    return found, model, series_section.series_section(model, found)


def test_panels_show_the_series_the_mean_of_reconstructions_and_the_error():
    table = table_of()
    found, model, section = section_of(table)
    data = section.charts["series"]["data"]
    assert [trace["name"] for trace in data] == ["series", "reconstruction"] * 2 + ["squared error"]
    covered = found.covered
    back, cells = found.by_time(model.reconstruct(found)), found.by_time(model.reconstruction_error(found, by="cell"))
    expected = [table["c0"], back[:, 0], table["c1"], back[:, 1], cells.sum(1)]
    for trace, values in zip(data, expected, strict=True):
        drawn = np.array(trace["y"], float)
        np.testing.assert_allclose(drawn[~np.isnan(drawn)], np.asarray(values)[covered], rtol=1e-3, atol=1e-4)
    times = np.array(data[0]["x"])[~np.isnan(np.array(data[0]["y"], float))]
    assert times.tolist() == table["when"][covered].tolist()


def test_a_gap_interrupts_the_lines():
    _, _, section = section_of(table_of())
    values = np.array(section.charts["series"]["data"][0]["y"], float)
    times = np.array(section.charts["series"]["data"][0]["x"])
    last, first = ((times <= 29) & ~np.isnan(values)).nonzero()[0][-1], (times >= 130).nonzero()[0][0]
    assert last < first
    assert np.isnan(values[last + 1 : first + 1]).any()


def test_one_whole_series_has_no_overview():
    _, _, section = section_of(table_of())
    assert set(section.charts) == {"series"}
    assert section.overview == ""
    assert "steps of 60" in section.explanation


def test_of_several_series_the_one_with_the_largest_error_is_shown():
    _, _, section = section_of(table_of(machines=("a", "b", "c")))
    assert "The series of machine c, which has the largest mean error of 3 series." in section.explanation
    assert [line["name"] for line in section.charts["series-error"]["data"]] == ["a", "b", "c"]
    assert "all steps" in section.overview


def test_long_and_wide_series_are_cut_around_the_largest_error(monkeypatch):
    monkeypatch.setattr(series_section, "MAX_STEPS", 30)
    monkeypatch.setattr(series_section, "MAX_PARTS", 10)
    table = table_of(n=200, n_channels=9).drop(columns=["when", "machine"])
    _, _, section = section_of(table, time=None, group=None)
    assert "30 of 200 steps, around the largest error. The 6 of 9 channels" in section.explanation
    chart = section.charts["series"]
    assert len(chart["data"]) == 2 * 6 + 1
    assert min(chart["data"][0]["x"]) <= 180 <= max(chart["data"][0]["x"])
    overview = section.charts["series-error"]["data"][0]
    assert len(overview["x"]) == 10
    assert max(overview["y"]) == pytest.approx(max(y for y in chart["data"][-1]["y"] if y is not None))


@pytest.mark.parametrize(("unit", "first"), [("min", "2024-01-01T00:00"), ("s", "2024-01-01T00:00:00")])
def test_dates_are_as_short_as_they_can_be(unit, first):
    table = table_of(n=40, n_channels=1).assign(when=pd.date_range("2024-01-01", periods=40, freq=unit))
    for dates in (table["when"], table["when"].dt.tz_localize("Europe/Berlin"), table["when"].astype(str)):
        _, _, section = section_of(table.assign(when=dates))
        assert section.charts["series"]["data"][0]["x"][0] == first


def test_the_page_of_windows_has_the_section_and_names_of_channels(tmp_path):
    table = table_of(machines=("a", NASTY)).rename(columns={"c1": NASTY})
    found, model, _ = section_of(table)
    page = Page(write(model, found, tmp_path / "r.html"))
    assert page.ids["series"] == "section"
    assert page.ids["chart-series"] == page.ids["chart-series-error"] == "div"
    titles = [each["text"] for each in page.data["charts"]["series"]["layout"]["annotations"]]
    assert titles == ["c0", plain(NASTY), "squared error (model units)"]
    assert f"machine {NASTY}" in page.text
    assert page.data["points"]["name"][0] == "a 0"
    assert "series" not in Page(write(model, found.X, tmp_path / "s.html")).ids
    if CHROMIUM:
        shown = run_in_browser(tmp_path / "r.html", tmp_path)
        assert not any(attributes.get("id") == "1" for tag, attributes in shown.elements if tag == "body")
