"""The units section of the report, compared with the methods of the estimator."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from isthmus import Autoencoder, LinearAutoencoder
from isthmus.report import features, write
from isthmus.report.examples import RowInfo
from isthmus.report.features import code_filters, feature_report
from isthmus.report.formatting import read_labels
from isthmus.report.report_data import collect_report_data

from .cases import CASES, NASTY
from .pages import Page

RNG = np.random.default_rng(0)


def report_of(model, X, labels=None, spread=None):
    report_data = collect_report_data(model, X)
    names = RowInfo(
        [f"row {i}" for i in range(report_data.n_rows)], read_labels(labels, report_data.n_rows), report_data.nll
    )
    return feature_report(model, X, report_data, names, spread)


def rectified(X, code_size, dead=()):
    """A one-layer autoencoder with rectified units, some of which are dead."""
    options = {"hidden_sizes": (), "code_activation": "relu", "max_epochs": 1, "random_state": 0}
    model = Autoencoder(code_size=code_size, **options).fit(X)
    for unit in dead:
        model.coder_.encoder.affine_maps[0].weight.data[unit] = 0
        model.coder_.encoder.affine_maps[0].bias.data[unit] = -1
    return model


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    return CASES[request.param]()


def test_the_rows_of_a_unit_are_the_top_activating_rows(case):
    report = report_of(case.model, case.X, case.labels)
    codes = case.model.transform(case.X)
    assert [unit.column for unit in report.units] == list(case.model.activity(case.X).most_used)
    for unit in report.units:
        assert unit.name == f"unit {unit.column}"
        values = codes[:, unit.column]
        rows = [int(row.name.split()[1]) for row in unit.highest]
        best = case.model.max_activating(case.X, unit.column, n=len(rows))[0]
        assert rows == best.tolist()
        assert unit.highest[0].value == f"{values.max():.4g}"
        if unit.lowest:
            assert unit.lowest[0].name == f"row {values.argmin()}"
            assert values.min() < 0 < values.max()


def test_rows_are_shown_as_pictures_or_as_text(case):
    pictured = case.model.preprocessing_.image_shape is not None
    top_rows = [row for unit in report_of(case.model, case.X).units for row in (*unit.highest, *unit.lowest)]
    assert top_rows
    for row in top_rows:
        assert row.picture.startswith("data:image/") == pictured
        assert bool(row.text) != pictured


def test_a_picture_of_a_row_is_that_row():
    case = CASES["images"]()
    row = report_of(case.model, case.X).units[0].highest[0]
    np.testing.assert_array_equal(pixels(row.picture), case.X[int(row.name.split()[1])])


def test_the_listed_columns_of_a_unit_are_those_of_its_effect():
    model, X = LinearAutoencoder(code_size=3, max_epochs=2, random_state=0).fit(X := RNG.normal(size=(50, 9))), X
    effect = model.unit_effects(X)
    for unit in report_of(model, X).units:
        change = effect[unit.column]
        largest = np.abs(change).argmax()
        assert unit.listed[0] == (f"x{largest}", pytest.approx(np.sign(change[largest])))
        for name, share in unit.listed:
            assert share == pytest.approx(change[int(name[1:])] / abs(change[largest]), rel=1e-4)


def test_only_an_encoder_of_one_layer_has_filters_of_the_code():
    X = RNG.normal(size=(40, 6, 5))
    X = (X - X.min()) / np.ptp(X)  # values in [0, 1] are images
    one, deep = rectified(X, 4), Autoencoder(code_size=4, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    np.testing.assert_allclose(code_filters(one).reshape(4, 6, 5), one.filters())
    assert code_filters(deep) is None
    assert [what for what, _ in report_of(one, X).units[0].pictures] == ["filter", "effect"]
    assert [what for what, _ in report_of(deep, X).units[0].pictures] == ["effect"]
    assert "its filter" in report_of(one, X).explanation
    assert "its filter" not in report_of(deep, X).explanation


def test_dead_units_are_counted_but_not_shown():
    X = RNG.normal(size=(60, 7))
    model = rectified(X, 6, dead=(1, 4))
    report = report_of(model, X)
    assert {unit.column for unit in report.units}.isdisjoint({1, 4})
    assert "2 units are dead" in report.usage
    zeros = (model.transform(X) == 0).mean()
    assert f"{zeros:.0%} of the entries of the codes are exactly zero" in report.usage
    rates = model.activation_rates(X)
    for unit in report.units:
        assert f"{rates[unit.column]:.0%}" in unit.rate or unit.rate == "active in every row"
        assert all(float(row.value) > 0 for row in unit.highest)
    everything = report_of(rectified(X, 3, dead=range(3)), X)
    assert everything.units == []
    assert "No unit of the code is active" in everything.explanation


def test_the_section_stays_small_for_a_wide_code_and_large_images():
    X = RNG.integers(0, 256, size=(120, 60, 70, 3), dtype=np.uint8)  # noise compresses worst
    model = LinearAutoencoder(code_size=40, max_epochs=1, random_state=0).fit(X)
    report = report_of(model, X)
    assert len(report.units) == features.MAX_UNITS
    assert f"The {features.MAX_UNITS} of 40 units that vary most" in report.usage
    uris = [uri for unit in report.units for _, uri in unit.pictures]
    uris += [row.picture for unit in report.units for row in (*unit.highest, *unit.lowest)]
    assert features.MAX_UNITS * 2 < len(uris) <= features.MAX_UNITS * (2 + features.TOP_ROWS_AS_PICTURES)
    assert sum(map(len, uris)) < 1_200_000
    assert max(pixels(uri).shape[1] for uri in uris) == features.FILTER_SIDE


def test_text_of_the_user_is_shown_unchanged_in_the_units_section(tmp_path):
    case = CASES["table"]()
    page = Page(write(case.model, case.X, tmp_path / "report.html", labels=case.labels))
    assert page.ids["units"] == "section"
    assert any(known.get("title", "") == NASTY for _, known in page.elements)
    assert not any(known.get("src") == "x" for _, known in page.elements)
