"""The parts of the report and the figures, compared with independent computations."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from sklearn.decomposition import PCA
from torch.nn.functional import mse_loss

from isthmus import DeepBoltzmannMachine, DenoisingAutoencoder, InputError, LinearAutoencoder
from isthmus.data.tables import TableColumn
from isthmus.evaluation import reconstruction
from isthmus.evaluation.codes import unit_statistics
from isthmus.evaluation.features import first_layer_weights
from isthmus.report import charts, figures
from isthmus.report.charts import column_chart, map_chart, pixel_chart
from isthmus.report.code_maps import map_codes, standardised
from isthmus.report.examples import hover_values
from isthmus.report.fidelity_section import BINS, SHOWN_LEVELS, _marginal
from isthmus.report.formatting import MAX_GROUPS, OTHER_LABELS, read_labels, value_text
from isthmus.report.layers import first_layer
from isthmus.report.page import _pixel_map
from isthmus.report.pictures import BrightnessScale, contact_sheet, downsample, png_uri, signed_colours
from isthmus.report.report_data import best_typical_worst, collect_report_data, read_rows, sample, user_columns
from isthmus.report.summary import histograms

from .cases import colour_case, image_case, table_case


@pytest.fixture(scope="module")
def images():
    return image_case()


@pytest.fixture(scope="module")
def colours():
    return colour_case()


@pytest.fixture(scope="module")
def table():
    return table_case()


def test_report_data_agrees_with_the_estimator_and_with_evaluation(table):
    model, X = table.model, table.X
    found = collect_report_data(model, X)
    np.testing.assert_allclose(found.squared_error, model.reconstruction_error(X), rtol=1e-5)
    np.testing.assert_allclose(found.nll, model.nll(X), rtol=1e-5)
    np.testing.assert_allclose(found.codes, model.transform(X), rtol=1e-5)
    scores = reconstruction.evaluate(model, X)
    assert found.squared_error.mean() == pytest.approx(scores["squared_error_per_row"])
    assert found.pca_squared_error.mean() == pytest.approx(scores["pca_squared_error_per_row"])
    np.testing.assert_allclose(found.column_error, reconstruction.squared_error_by_column(model, X), rtol=1e-6)
    x = torch.cat([reading.x for reading in model.read(X)]).double()
    np.testing.assert_allclose(found.column_mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.column_variance, x.var(0, unbiased=False), rtol=1e-5, atol=1e-9)


def test_missing_entries_do_not_count_in_report_data():
    rng = np.random.default_rng(0)
    X = rng.normal(9, 2, size=(60, 5))
    X[rng.random(X.shape) < 0.4] = np.nan
    X[:, 3] = np.nan
    model = LinearAutoencoder(code_size=2, max_epochs=2, missing="mask", scaling="none", random_state=0).fit(X)
    found = collect_report_data(model, X)
    scores = reconstruction.evaluate(model, X)
    np.testing.assert_allclose(found.squared_error, model.reconstruction_error(X), rtol=1e-5)
    assert found.pca_squared_error.mean() == pytest.approx(scores["pca_squared_error_per_row"], rel=1e-5)
    np.testing.assert_allclose(found.column_error, reconstruction.squared_error_by_column(model, X), rtol=1e-5)
    seen = [0, 1, 2, 4]
    np.testing.assert_allclose(found.column_mean[seen], np.nanmean(X[:, seen], 0), rtol=1e-5)
    np.testing.assert_allclose(found.column_variance[seen], np.nanvar(X[:, seen], 0), rtol=1e-4)
    assert (found.column_error[3], found.column_variance[3]) == (0, 0)
    first = np.flatnonzero(np.isfinite(X).sum(1) == 1)[0]
    [shown] = hover_values(model, X, np.array([first]), found.column_mean, found.column_variance)
    assert shown[0][0] == f"x{np.flatnonzero(np.isfinite(X[first]))[0]}"
    assert [original for _, original, _ in shown[1:]] == ["missing"] * 4


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 7, 100])
def test_best_typical_and_worst_rows_are_disjoint_and_ordered_by_error(n_rows):
    error = np.random.default_rng(n_rows).normal(size=n_rows) ** 2
    groups = best_typical_worst(error)
    every = np.concatenate(list(groups.values()))
    assert len(set(every.tolist())) == len(every)
    assert error[groups["best"][0]] == error.min()
    if n_rows > 1:
        assert error[groups["worst"][0]] == error.max()
    if n_rows == 100:
        assert {name: len(rows) for name, rows in groups.items()} == {"best": 10, "typical": 10, "worst": 10}
        middle = np.sort(error)[45:55]
        np.testing.assert_array_equal(np.sort(error[groups["typical"]]), middle)


def test_picked_rows_are_read_in_the_given_order(images, monkeypatch):
    monkeypatch.setattr("isthmus.report.report_data.ROWS_AT_ONCE", 3)
    rows = np.array([9, 2, 30, 4, 11])
    read = list(read_rows(images.model, images.X, rows))
    np.testing.assert_array_equal(np.concatenate([raw for raw, _ in read]), images.X[rows])
    codes = np.concatenate([reading.code.numpy() for _, reading in read])
    np.testing.assert_allclose(codes, images.model.transform(images.X)[rows], rtol=1e-5)


def test_a_sample_has_distinct_rows_in_order_or_all_rows():
    assert sample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = sample(1000, 50, 0)
    assert len(drawn) == 50
    assert (np.diff(drawn) > 0).all()


def test_user_columns_partition_model_space(table):
    columns = user_columns(table.model.preprocessing_)
    assert [column.name for column in columns] == list(table.X.columns)
    members = [i for column in columns for i in column.members]
    assert members == list(range(table.model.preprocessing_.n_columns))


def test_pictures_show_the_pixels_of_the_users_images(images, colours):
    for case in (images, colours):
        x = np.concatenate([reading.x.numpy() for reading in case.model.read(case.X)])
        shown = BrightnessScale.of(case.model.preprocessing_, x).show(x)
        expected = case.X if case.X.dtype == np.uint8 else np.rint(255 * case.X)
        np.testing.assert_array_equal(shown.reshape(case.X.shape), expected)


def test_a_data_uri_contains_the_image_without_resampling():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    head, data = png_uri(pixels).split(",")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), pixels)


def test_a_contact_sheet_has_every_image_at_its_position():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 1), dtype=np.uint8)
    sheet = contact_sheet(pixels)
    across = sheet.shape[1] // 5
    for i, image in enumerate(pixels):
        row, column = divmod(i, across)
        np.testing.assert_array_equal(sheet[4 * row : 4 * row + 4, 5 * column : 5 * column + 5], image)


def test_only_large_images_are_downsampled():
    large = np.full((2, 100, 40, 3), 7, np.uint8)
    assert downsample(large, 50).shape == (2, 50, 20, 3)
    assert (downsample(large, 50) == 7).all()
    assert downsample(large, 100) is large


def test_signed_colours_are_blue_white_and_red():
    [[[blue, white, red]]] = signed_colours(np.array([[[-2.0, 0.0, 2.0]]]))
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert white.min() > 240


def test_the_map_of_one_or_two_units_shows_the_code_itself():
    codes = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_array_equal(map_codes(codes, np.zeros(9)).points, codes)
    error = np.arange(9.0)
    one = map_codes(codes[:, :1], error)
    np.testing.assert_array_equal(one.points, np.column_stack([codes[:, 0], error]))
    assert one.axes == ("unit 0", "squared error")


def test_few_codes_are_mapped_by_the_pca_of_scikit_learn():
    codes = np.random.default_rng(0).normal(size=(40, 5)) * [1, 2, 3, 4, 0] + 1
    found = map_codes(codes, np.zeros(40))
    expected = PCA(2).fit_transform(standardised(codes))
    assert found.method == "PCA"
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected), atol=1e-9)


def test_t_sne_separates_groups_and_is_reproducible(monkeypatch):
    monkeypatch.setattr("isthmus.report.code_maps.ITERATIONS", 260)
    group = np.arange(70) % 2
    codes = np.random.default_rng(0).normal(size=(70, 4)) + 8 * group[:, None]
    found = map_codes(codes, np.zeros(70), random_state=3)
    assert found.method == "t-SNE"
    middles = [found.points[group == i].mean(0) for i in (0, 1)]
    nearest = [np.argmin([np.linalg.norm(point - middle) for middle in middles]) for point in found.points]
    np.testing.assert_array_equal(nearest, group)
    np.testing.assert_array_equal(found.points, map_codes(codes, np.zeros(70), random_state=3).points)


def test_every_row_is_on_the_map_once_by_label_and_once_by_error():
    labels = read_labels(list("aab") * 5, 15)
    found = map_codes(np.random.default_rng(0).normal(size=(15, 2)), np.arange(15.0))
    chart = map_chart(found, labels, np.arange(15.0))
    by_label = [row for trace in chart["data"] if trace["meta"] == "label" for row in trace["customdata"]]
    assert sorted(by_label) == list(range(15))
    [error] = [trace for trace in chart["data"] if trace["meta"] == "error"]
    assert error["customdata"] == list(range(15))
    assert error["visible"] is False


def test_rare_labels_share_a_group_and_measurements_have_no_groups():
    many = [str(i % 20) for i in range(100)] + ["7"] * 10
    found = read_labels(many, 110)
    assert len(found.names) == MAX_GROUPS
    assert found.names[-1] == OTHER_LABELS
    assert "7" in found.names
    assert read_labels(np.linspace(0, 1, 50), 50).values is not None
    assert read_labels(np.arange(50) % 10, 50).names == [str(i) for i in range(10)]


def test_labels_must_be_a_sequence():
    with pytest.raises(InputError, match="labels='species' is not a sequence"):
        read_labels("species", 3)


def test_values_are_short_and_have_no_thousands_separators():
    assert [value_text(v) for v in (2012.0, np.int64(123456), "x" * 50, None, np.float32(0.5))] == [
        "2012", "123456", "x" * 39 + "…", "missing", "0.5",
    ]  # fmt: skip


def test_the_error_of_a_large_image_is_averaged_by_blocks(monkeypatch):
    monkeypatch.setattr("isthmus.report.page.MAX_ERROR_MAP_SIDE", 3)
    error = np.random.default_rng(0).uniform(size=(2, 5, 4))
    found = _pixel_map(error.ravel(), (2, 5, 4))
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found[0, 0], np.sqrt(error[:, :2, :2].mean()))
    np.testing.assert_allclose(found[2, 1], np.sqrt(error[:, 4:, 2:].mean()))


def test_a_constant_column_has_no_error_relative_to_its_variance():
    chart = column_chart(["a", "b"], np.array([1.0, 2.0]), np.ones(2), np.array([np.nan, 0.5]))
    assert chart["data"][1]["text"] == ["autoencoder: 1", "autoencoder: 2<br>50.0% of the variance"]


def test_the_error_maps_share_one_colour_scale():
    chart = pixel_chart({"a": np.array([[1.0, 2.0]]), "b": np.array([[5.0, 0.0]])})
    assert [trace["zmax"] for trace in chart["data"]] == [5.0, 5.0]


def test_filters_are_the_weights_of_a_dense_layer_or_the_kernels_of_a_convolution(images, colours):
    weight, is_kernel = first_layer_weights(images.model.coder_.encoder)
    assert not is_kernel
    np.testing.assert_allclose(weight, images.model.coder_.encoder.affine_maps[0].weight.detach(), rtol=1e-6)
    weight, is_kernel = first_layer_weights(colours.model.coder_.encoder)
    assert is_kernel
    assert weight.shape == (4, 3, 3, 3)
    assert len(first_layer(colours.model, np.ones(90)).pictures) == 4


def test_the_units_with_the_largest_weights_come_first(table):
    spread = np.ones(table.model.preprocessing_.n_columns)
    weight, _ = first_layer_weights(table.model.coder_.encoder)
    chart = first_layer(table.model, spread).chart
    strongest = [int(unit) for unit in chart["layout"]["xaxis"]["ticktext"]]
    assert strongest == np.argsort(-np.linalg.norm(weight, axis=1), kind="stable").tolist()
    np.testing.assert_allclose(np.array(chart["data"][0]["z"]).T, weight[strongest], rtol=1e-4)


def test_weights_on_the_mask_are_excluded_from_the_filters():
    X = np.random.default_rng(0).normal(size=(40, 6))
    model = DenoisingAutoencoder(corruption="missing", code_size=3, max_epochs=1, random_state=0).fit(X)
    spread = np.arange(1.0, 7.0)
    chart = first_layer(model, spread).chart
    strongest = [int(unit) for unit in chart["layout"]["xaxis"]["ticktext"]]
    np.testing.assert_allclose(np.array(chart["data"][0]["z"]).T, (model.filters() * spread)[strongest], rtol=1e-3)


def test_the_first_layer_of_a_deep_boltzmann_machine_is_its_lowest_weights():
    X = (np.random.default_rng(0).uniform(size=(60, 6)) < 0.5).astype(float)
    model = DeepBoltzmannMachine(hidden_sizes=(4,), code_size=3, max_epochs=1, random_state=0).fit(X)
    chart = first_layer(model, None).chart
    strongest = [int(unit) for unit in chart["layout"]["xaxis"]["ticktext"]]
    assert sorted(strongest) == [0, 1, 2, 3]
    np.testing.assert_allclose(np.array(chart["data"][0]["z"]).T, model.filters()[strongest], rtol=1e-3)


def test_units_are_numbered_as_the_columns_of_the_codes(images):
    codes = np.random.default_rng(0).normal(size=(9, 3)) * [1, 3, 2]
    assert [h.name for h in histograms(codes, unit_statistics(torch.tensor(codes)))] == ["unit 1", "unit 2", "unit 0"]
    named = [name for name, _ in first_layer(images.model, None).pictures]
    assert sorted(named) == [f"unit {j}" for j in range(8)]


def test_figures_do_not_change_the_global_state_of_matplotlib(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(4, 12))
    epoch = {"epoch": 0, "terms": {"a": 1.0, "b": 2.0}, "train": 2.5, "held_out": 2.6}
    drawn = {
        "originals": figures.originals_over_reconstructions(
            x, {"2": x, "4": x}, (3, 2, 2), captions=list("abcd"), title="t"
        ),
        "loss": figures.loss_curves({"epochs": [epoch]}, title="t"),
        "map": figures.code_map(rng.normal(size=(30, 2)), labels=list("abc") * 10, title="t"),
        "measured": figures.code_map(rng.normal(size=(30, 2)), error=np.arange(30.0), axes=("unit 0", "unit 1")),
        "filters": figures.filters(rng.normal(size=(5, 12)), (3, 2, 2), n=3, title="t"),
        "spectrum": figures.spectrum(rng.normal(size=(30, 3)), title="t"),
    }  # fmt: skip
    for name, figure in drawn.items():
        path = figures.save(figure, tmp_path / f"{name}.png", dpi=40)
        with Image.open(path) as image:
            assert image.size[0] > 20
    assert pyplot.get_fignums() == []


def test_originals_and_reconstructions_are_plotted_unchanged():
    x, r = np.random.default_rng(0).uniform(size=(2, 3, 8))
    figure = figures.originals_over_reconstructions(x, r, (1, 2, 4))
    shown = [axes.images[0].get_array()[..., 0] for axes in figure.axes]
    assert mse_loss(torch.tensor(np.array(shown[:3])), torch.tensor(x.reshape(3, 2, 4))) < 1e-12
    assert mse_loss(torch.tensor(np.array(shown[3:])), torch.tensor(r.reshape(3, 2, 4))) < 1e-12


def test_filters_can_be_multiplied_by_the_standard_deviation_of_columns():
    weight, spread = np.array([[9.0, 1.0], [1.0, 2.0]]), np.array([0.0, 1.0])
    plain, weighed = figures.filters(weight, (1, 1, 2)), figures.filters(weight, (1, 1, 2), spread=spread)
    expected = signed_colours((weight * spread)[::-1][:, None])
    np.testing.assert_array_equal([axes.images[0].get_array() for axes in weighed.axes], expected)
    assert not np.array_equal(plain.axes[0].images[0].get_array(), expected[0])


def test_figures_refuse_invalid_arguments_in_one_line(tmp_path):
    x, over = np.zeros((2, 4)), figures.originals_over_reconstructions
    refusals = {
        "reconstruction: shape (3, 4), expected (2, 4)": lambda: over(x, np.zeros((3, 4)), (1, 2, 2)),
        "1 captions for 2 images": lambda: over(x, x, (1, 2, 2), captions=["a"]),
        "no epoch was completed": lambda: figures.loss_curves({"epochs": []}),
        "do not fit images of shape (1, 3, 3); pass shape (units, 9)": lambda: figures.filters(x, (1, 3, 3)),
        "does not exist": lambda: figures.save(figures.spectrum(x), tmp_path / "no" / "a.png"),
    }  # fmt: skip
    for text, draw in refusals.items():
        with pytest.raises(InputError) as caught:
            draw()
        assert text in str(caught.value)
    figures.save(figures.spectrum(x), tmp_path / "a.png", dpi=30)
    with pytest.raises(InputError, match="exists; pass force=True"):
        figures.save(figures.spectrum(x), tmp_path / "a.png")


def test_bars_of_a_marginal_are_the_relative_frequencies():
    levels = [f"level {i}" for i in range(30)]
    rows, samples = np.repeat(np.arange(30.0), np.arange(30, 0, -1)), np.zeros(50)
    marginal = _marginal(TableColumn("town", "categorical", levels), 0.5, rows, samples)
    assert len(marginal.bars) == SHOWN_LEVELS
    assert [bar.samples for bar in marginal.bars] == [100] + [0] * (SHOWN_LEVELS - 1)
    heights = np.array([*range(30, 21, -1), sum(range(22))]) / len(rows) * 100
    np.testing.assert_allclose([bar.rows for bar in marginal.bars], heights)
    assert marginal.ends == ["level 0", "others"]
    assert marginal.bars[0].text == f"level 0: {30 / len(rows):.0%} of rows, 100% of samples"


def test_bins_of_a_marginal_hold_all_values_and_ignore_a_few_outliers():
    rng = np.random.default_rng(0)
    rows, samples = np.append(rng.normal(size=999), 1e6), rng.normal(2, 1, size=500)
    marginal = _marginal(TableColumn("x", "real"), 0.5, rows, np.append(samples, np.nan))
    assert len(marginal.bars) == BINS
    assert sum(bar.rows for bar in marginal.bars) == pytest.approx(sum(bar.samples for bar in marginal.bars))
    assert max(bar.rows for bar in marginal.bars) > 50, "one outlier would leave all others in one bar"
    assert float(marginal.ends[1]) < 6
    assert marginal.remark == "distance 0.500; missing 0% and 0.2%"
    counts = _marginal(TableColumn("n", "count"), 0.0, np.array([0.0, 1, 1, 3]), np.array([1.0, 2, 2, 2]))
    assert [bar.rows for bar in counts.bars] == pytest.approx([100 / 3, 200 / 3, 0, 100 / 3])
    assert counts.ends == ["0", "3"]


def test_a_marginal_without_values_or_with_one_value_has_a_picture():
    nothing = _marginal(TableColumn("x", "real"), 0.0, np.full(3, np.nan), np.full(2, np.nan))
    assert nothing.bars == []
    constant = _marginal(TableColumn("x", "real"), 0.0, np.full(3, 0.5), np.full(2, 0.5))
    assert max(bar.rows for bar in constant.bars) == 100


def test_terms_that_would_flatten_the_loss_are_hidden_at_first():
    def hidden(level: float) -> list[bool]:
        epochs = [
            {"epoch": i, "terms": {"own": level + i, "near": 10.0 - i}, "train": 10.0 - i, "held_out": None}
            for i in range(3)
        ]
        drawn = charts.loss_chart({"epochs": epochs})
        assert charts.hides_lines(drawn) == (level > 20)
        return ["visible" in trace for trace in drawn["data"]]

    assert hidden(500.0) == [False, True, False]
    assert hidden(9.0) == [False, False, False]


def test_losses_keep_the_digits_in_which_they_differ():
    epochs = [{"epoch": i, "terms": {}, "train": 15_829.125 - i / 1000, "held_out": None} for i in range(3)]
    assert charts.loss_chart({"epochs": epochs})["data"][0]["y"] == [15829.125, 15829.124, 15829.123]
