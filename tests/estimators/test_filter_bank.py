"""`FilterBank`: filters from models, stages in pipelines, scikit-learn's rules, files."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import isthmus
from isthmus import Autoencoder, ConvolutionalAutoencoder, FilterBank, InputError, SparseAutoencoder, Whitening
from isthmus.data import patches
from isthmus.estimators import filter_sources
from isthmus.parts.filter_stages import FilterStage

SMALL = {"n_filters": 4, "filter_size": 3, "pool_size": 3, "random_state": 0}
PLAIN = {"activation": "linear", "rectification": None, "normalization": None, "pooling": None}
"""Options that leave the responses of the filters, over their scale."""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((20, 12, 11))


@pytest.fixture(scope="module")
def colours():
    return np.random.default_rng(1).random((20, 12, 11, 3))


class OfRows(FilterBank):
    """A filter bank for rows of any width: images of height 1, with filters of one pixel."""

    def _checked_image_shape(self):
        return self.image_shape

    def _shape_of_flat_rows(self, n_columns):
        return 1, n_columns

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@parametrize_with_checks(
    [OfRows(n_filters=2, filter_size=1, pool_size=1, flatten=True, random_state=0)],
    expected_failed_checks=lambda _: {},
)
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it_on_rows_that_are_images_of_height_one(estimator, check):
    check(estimator)


def test_scikit_learn_has_no_checks_for_images():
    with pytest.warns(UserWarning, match="Can't test estimator FilterBank"):
        check_estimator(FilterBank(), on_skip=None)


def test_responses_are_those_of_the_filters_over_their_root_mean_square(images):
    filters = np.random.default_rng(2).normal(size=(5, 3, 4))
    bank = FilterBank(filters, **PLAIN).fit(images)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 4), axis=(1, 2))
    responses = np.einsum("nijhw,mhw->nijm", windows, filters)
    scale = np.sqrt((responses**2).mean((0, 1, 2)))
    np.testing.assert_allclose(bank.scale_, scale, rtol=1e-5)
    np.testing.assert_allclose(bank.transform(images), responses / scale, atol=1e-5)


def test_flat_features_are_the_maps_of_an_image_in_a_row(images):
    bank = FilterBank(**SMALL).fit(images)
    maps = bank.transform(images)
    assert maps.shape == (20, *bank.output_shape_) == (20, 3, 3, 4)
    assert maps.dtype == np.float32
    flat = bank.set_params(flatten=True).transform(images)
    np.testing.assert_array_equal(flat, maps.reshape(20, -1))
    names = bank.get_feature_names_out()
    assert names[1] == "y0_x0_map1"
    assert names[4] == "y0_x1_map0"
    assert len(names) == flat.shape[1]


def test_names_and_frames_are_for_flat_features(images):
    assert not hasattr(FilterBank(), "get_feature_names_out")
    assert not hasattr(FilterBank(), "set_output")
    bank = FilterBank(**SMALL, flatten=True).set_output(transform="pandas")
    assert list(bank.fit_transform(images)) == list(bank.get_feature_names_out())


def test_flat_rows_with_a_shape_are_images(colours):
    flat = colours.reshape(20, -1)
    bank = FilterBank(**SMALL, image_shape=(12, 11, 3)).fit(flat)
    expected = FilterBank(**SMALL).fit(colours)
    np.testing.assert_array_equal(bank.transform(flat), expected.transform(colours))
    frame = pd.DataFrame(flat, columns=[f"p{i}" for i in range(flat.shape[1])])
    assert list(FilterBank(**SMALL, image_shape=(12, 11, 3)).fit(frame).feature_names_in_) == list(frame)


def test_rows_do_not_depend_on_their_order_and_grouping(images):
    bank = FilterBank(**SMALL).fit(images)
    order = np.random.default_rng(0).permutation(20)
    whole = bank.transform(images)
    np.testing.assert_array_equal(bank.transform(images[order]), whole[order])
    np.testing.assert_array_equal(np.concatenate([bank.transform(images[i : i + 3]) for i in range(0, 20, 3)]), whole)


def test_blocks_give_what_one_block_gives(images, monkeypatch):
    bank = FilterBank(**SMALL).fit(images)
    whole = bank.transform(images)
    monkeypatch.setattr("isthmus.estimators.filter_bank.MAX_ENTRIES", 3 * 10 * 9 * 4)
    np.testing.assert_allclose(bank.transform(images), whole, atol=1e-6)
    np.testing.assert_allclose(FilterBank(**SMALL).fit(images).scale_, bank.scale_, rtol=1e-6)


def test_filters_of_any_norm_and_images_of_any_unit_give_equal_features(images):
    filters = np.random.default_rng(2).normal(size=(4, 3, 3))
    first = FilterBank(filters, pool_size=3).fit_transform(images)
    second = FilterBank(100 * filters, pool_size=3).fit_transform(1000 * images)
    np.testing.assert_allclose(second, first, atol=1e-4)


def test_gains_weigh_maps(images):
    options = {**SMALL, "normalization": None}
    plain = FilterBank(**options).fit_transform(images)
    weighed = FilterBank(**options, gain=(1.0, 2.0, 0.5, 3.0)).fit_transform(images)
    np.testing.assert_allclose(weighed, plain * [1, 2, 0.5, 3], rtol=1e-5)


def test_random_filters_have_the_mean_zero_and_follow_the_seed(colours):
    bank = FilterBank(**SMALL).fit(colours)
    assert bank.filters_.shape == (4, 3, 3, 3)
    np.testing.assert_allclose(bank.filters_.mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_array_equal(FilterBank(**SMALL).fit(colours).filters_, bank.filters_)
    assert (FilterBank(**{**SMALL, "random_state": 1}).fit(colours).filters_ != bank.filters_).any()


def test_filters_read_as_many_channels_as_they_are_allowed(colours):
    bank = FilterBank(**SMALL, n_input_maps=2).fit(colours)
    assert ((bank.filters_ != 0).any((1, 2)).sum(1) == 2).all()


def test_tiles_have_untied_filters(images):
    bank = FilterBank(**SMALL, n_tiles=2, **{**PLAIN, "pooling": "mean"}).fit(images)
    assert len(bank.filters_) == 16
    assert bank.output_shape_ == (3, 3, 4)
    maps = FilterBank(bank.filters_, n_tiles=2, **PLAIN).fit(images)
    untiled = FilterBank(bank.filters_, **PLAIN).fit(images)
    own = untiled.transform(images) * untiled.scale_
    np.testing.assert_allclose(
        maps.transform(images)[:, 3, 4] * maps.scale_[8:12], own[:, 3, 4, 8:12], rtol=1e-4, atol=1e-5
    )


# -- filters of models ------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["none", "standard", "minmax"])
def test_filters_of_an_autoencoder_give_the_pre_activations_of_its_units(images, scaling):
    rows = patches(images, 4, 300, random_state=0)
    model = SparseAutoencoder(code_size=6, max_epochs=2, scaling=scaling, random_state=0)
    model.fit(rows.reshape(300, -1))
    x = rows[:2].reshape(2, -1)
    with torch.no_grad():
        z = torch.from_numpy((x - model.preprocessing_.offset) / model.preprocessing_.scale).float()
        responses = next(part for part in model.coder_.encoder.modules() if isinstance(part, torch.nn.Linear))(z)
    found = x @ filter_sources.filters_of(model).T
    np.testing.assert_allclose(found[1] - found[0], (responses[1] - responses[0]).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        SparseAutoencoder(code_size=6, max_epochs=1, random_state=0),
        Autoencoder(code_size=2, hidden_sizes=(5,), max_epochs=1, random_state=0),
        isthmus.RestrictedBoltzmannMachine(code_size=6, likelihood="gaussian", max_epochs=1, random_state=0),
        PCA(3),
        KMeans(3, n_init=1, random_state=0),
        make_pipeline(Whitening(), KMeans(3, n_init=1, random_state=0)),
        make_pipeline("passthrough", Whitening(), SparseAutoencoder(code_size=4, max_epochs=1, random_state=0)),
    ],
    ids=lambda model: type(model[-1] if hasattr(model, "steps") else model).__name__,
)
def test_models_are_fitted_to_patches_or_used_as_they_are(colours, model):
    options = {"filter_size": 4, "pool_size": 3, "n_patches": 200, "random_state": 0}
    bank = FilterBank(model, **options).fit(colours)
    assert bank.filters_.shape[1:] == (4, 4, 3)
    rows = patches(colours, 4, 200, random_state=0).reshape(200, -1).astype(np.float32)
    fitted = clone(model).fit(rows)
    given = FilterBank(fitted, **options).fit(colours)
    np.testing.assert_allclose(given.filters_, bank.filters_, rtol=1e-5, atol=1e-6)
    assert not hasattr(given, "model_")
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("whole", [True, False])
def test_models_of_patches_as_images_and_of_convolutions_give_filters(colours, whole):
    rows = patches(colours, 8, 60, random_state=0)
    kind = SparseAutoencoder if whole else ConvolutionalAutoencoder
    model = kind(code_size=4, max_epochs=1, layout="nhwc", random_state=0).fit(rows)
    bank = FilterBank(model, pool_size=2).fit(colours)
    assert bank.filters_.shape == (*model.filters().shape,)


def test_filters_of_a_whitened_model_are_those_of_whitened_patches(colours):
    rows = patches(colours, 4, 300, random_state=0).reshape(300, -1)
    whitening = Whitening().fit(rows)
    pipeline = make_pipeline(whitening, KMeans(3, n_init=1, random_state=0)).fit(rows)
    expected = whitening.transform(rows) @ pipeline[-1].cluster_centers_.T
    found = (rows - whitening.mean_) @ filter_sources.filters_of(pipeline).T
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_dictionary_is_taken_of_a_model_without_filters(images):
    class Decoder(isthmus.LinearAutoencoder):
        @property
        def filters(self):
            raise AttributeError

    rows = patches(images, 4, 100, random_state=0)
    model = Decoder(code_size=3, max_epochs=1, layout="nhw", random_state=0).fit(rows)
    scale = float(model.preprocessing_.scale[0])
    np.testing.assert_allclose(filter_sources.filters_of(model).reshape(3, -1), model.dictionary() / scale, rtol=1e-5)


def test_a_frozen_model_stays_fitted_in_clones(images):
    model = KMeans(3, n_init=1, random_state=0).fit(patches(images, 4, 100, random_state=0).reshape(100, -1))
    bank = clone(FilterBank(FrozenEstimator(model), pool_size=3)).fit(images[:5])
    np.testing.assert_allclose(bank.filters_.reshape(3, -1), model.cluster_centers_, rtol=1e-6)


def test_a_second_stage_learns_filters_on_the_maps_of_the_first(images):
    y = images[:, 0, 0] > 0.5
    stages = make_pipeline(
        FilterBank(**SMALL),
        FilterBank(PCA(2), filter_size=2, pool_size=2, normalization_size=3, flatten=True, random_state=0),
        RidgeClassifier(),
    )
    stages.fit(images, y)
    assert stages[1].filters_.shape == (2, 2, 2, 4)
    assert stages.predict(images).shape == (20,)
    search = GridSearchCV(stages, {"filterbank-2__filters__n_components": [2, 3]}, cv=2).fit(images, y)
    assert search.best_estimator_[1].filters_.shape[0] in (2, 3)


# -- parameters and files ---------------------------------------------------------------------------


def test_arguments_are_cloned_and_set():
    bank = FilterBank(SparseAutoencoder(code_size=4), n_tiles=2)
    copy = clone(bank).set_params(filters__code_size=8, gain=2.0)
    assert copy.filters.code_size == 8
    assert bank.filters.code_size == 4
    assert copy.get_params()["n_tiles"] == 2


def test_unfitted_banks_say_so(images):
    with pytest.raises(NotFittedError):
        FilterBank().transform(images)


@pytest.mark.parametrize("filters", ["random", np.random.default_rng(0).normal(size=(8, 3, 3)), PCA(4)], ids=type)
def test_a_file_gives_equal_features_and_refits_to_equal_filters(images, tmp_path, filters):
    n_maps = 1 if isinstance(filters, PCA) else 2
    bank = FilterBank(filters, **{**SMALL, "n_filters": 2}, n_tiles=2, gain=(2.0,) * n_maps).fit(images)
    bank.save(tmp_path / "bank.isthmus")
    loaded = isthmus.load(tmp_path / "bank.isthmus", device="cpu")
    np.testing.assert_array_equal(loaded.transform(images), bank.transform(images))
    np.testing.assert_allclose(clone(loaded).fit(images).transform(images), bank.transform(images), atol=1e-5)
    assert loaded.get_params(deep=False).keys() == bank.get_params(deep=False).keys()


def test_a_failed_fit_changes_nothing(images):
    bank = FilterBank(**SMALL).fit(images)
    before = bank.transform(images)
    with pytest.raises(InputError):
        bank.set_params(filter_size=30).fit(images)
    np.testing.assert_array_equal(bank.transform(images), before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"filters": "gabor"}, "filters='gabor': the only name of filters is 'random'"),
        ({"filters": np.ones((2, 3, 3, 2))}, "filters read 2 channels and the images have 1"),
        ({"filters": np.ones((2, 7))}, "filters of 7 weights are not square patches of 1 channels"),
        ({"filters": np.ones((2, 1, 3, 3, 1))}, r"filters have the shape \(2, 1, 3, 3, 1\)"),
        ({"filters": np.full((2, 3, 3), np.nan)}, "not finite"),
        ({"filters": [["a"]]}, "give 'random', an array"),
        ({"filters": RidgeClassifier().fit(np.eye(3), [0, 1, 1])}, "a RidgeClassifier has no filters"),
        ({"filters": np.ones((6, 3, 3)), "n_tiles": 2}, "6 filters cannot be divided into the 4 sets of n_tiles=2"),
        ({"filter_size": 12}, "filters of 12 x 12 pixels do not fit into images of 12 x 11"),
        ({"filter_size": 0}, "filter_size=0: it must be a whole number of at least 1"),
        ({"n_filters": 2.5}, "n_filters=2.5: it must be a whole number"),
        ({"pool_size": 9}, "pool_size=9 is larger than the maps of 6 x 5"),
        ({"pooling": "median"}, "pooling='median' is not one of 'mean', 'max', None"),
        ({"rectification": True}, "rectification=True is not one of"),
        ({"normalization_size": 4}, "normalization_size=4: the window needs an odd number"),
        ({"gain": (1.0, 2.0)}, "gain=.*: it must be a number other than 0, or one for each of 64 maps"),
        ({"gain": 0}, "gain=0: it must be a number other than 0"),
        ({"n_input_maps": 2}, "n_input_maps=2: the images have 1 channels"),
        ({"flatten": 1}, "flatten=1: it must be True or False"),
        ({"image_shape": 12}, "image_shape=12: give"),
        ({"device": "tpu"}, "device='tpu'"),
    ],
)
def test_bad_arguments(images, options, text):
    with pytest.raises(InputError, match=text):
        FilterBank(**{"filters": "random", **options}).fit(images)


def test_a_pipeline_of_other_steps_is_refused(images):
    with pytest.raises(InputError, match="the pipeline has the step StandardScaler before the model"):
        FilterBank(make_pipeline(StandardScaler(), PCA(2)), filter_size=3).fit(images)


@pytest.mark.parametrize(
    ("X", "text"),
    [
        (np.ones((4, 10)), r"rows of 10 columns, not images; give .* image_shape=\(h, w\)"),
        (np.ones((4, 2, 12, 12, 1)), r"found rows of shape \(2, 12, 12, 1\)"),
        (np.full((4, 12, 12), np.nan), "contains NaN"),
        (np.full((4, 12, 12), np.inf), "contains infinity"),
    ],
)
def test_bad_rows(X, text):
    with pytest.raises(ValueError, match=text):
        FilterBank().fit(X)


def test_images_of_another_shape_are_refused(images):
    bank = FilterBank(**SMALL).fit(images)
    with pytest.raises(InputError, match=r"X has images of shape \(11, 12, 1\) .* fitted to \(12, 11, 1\)"):
        bank.transform(images.transpose(0, 2, 1))
    with pytest.raises(InputError, match="rows of 10 columns, which are not images of image_shape"):
        FilterBank(image_shape=(12, 11)).fit(np.ones((4, 10)))


def test_black_images_give_no_features():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not FilterBank(**SMALL).fit_transform(np.zeros((3, 12, 12))).any()


def test_bytes_are_images(images):
    grey = (images * 255).astype(np.uint8)
    np.testing.assert_allclose(
        FilterBank(**SMALL).fit_transform(grey), FilterBank(**SMALL).fit_transform(grey / 255.0), atol=1e-5
    )


def test_a_stage_runs_without_gradients(images):
    bank = FilterBank(**SMALL).fit(images)
    assert isinstance(bank._stage(), FilterStage)
    assert list(bank._stage().parameters()) == []
