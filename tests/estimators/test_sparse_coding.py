"""Sparse coding and predictive sparse decomposition: codes against oracles, given atoms, the density, bad input."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.model_selection import GridSearchCV

import isthmus
from isthmus import (
    FISTA,
    ISTA,
    L1,
    CoordinateDescent,
    ElasticNet,
    FeatureMaps,
    FilterBank,
    GroupL2,
    InputError,
    MatchingPursuit,
    PredictiveSparseDecomposition,
    RestrictedBoltzmannMachine,
    SemanticHashing,
    SparseAutoencoder,
    SparseCoding,
    TopK,
    Topographic,
    VariationalAutoencoder,
    report,
)

DIGITS = load_digits().data / 16.0
FEW = DIGITS[:300]
SMALL = {"code_size": 20, "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def model():
    return SparseCoding(sparsity=L1(0.1), inference=FISTA(gap=2e-6), **SMALL).fit(FEW)


def scaled(model, X):
    return model.preprocessing_.rows(np.asarray(X)).batch(torch.arange(len(X))).x.numpy()


def test_codes_are_those_of_lasso_lars(model):
    centre = model.coder_.decoder(torch.zeros(1, 20)).detach().numpy()
    expected = sparse_encode(scaled(model, FEW) - centre, model.components_, algorithm="lasso_lars", alpha=0.1)
    np.testing.assert_allclose(model.transform(FEW), expected, atol=2e-3)


@pytest.mark.parametrize("inference", ["ista", CoordinateDescent(gap=2e-6), "fista"])
def test_every_solver_finds_the_same_codes(model, inference):
    other = SparseCoding(sparsity=L1(0.1), inference=inference, atoms=model, random_state=0).fit(FEW)
    np.testing.assert_allclose(other.transform(FEW), model.transform(FEW), atol=0.03)


def test_matching_pursuit_uses_at_most_k_atoms():
    codes = SparseCoding(inference=MatchingPursuit(k=4), **SMALL).fit(FEW).transform(FEW)
    assert (codes != 0).sum(1).max() == 4


def test_non_negative_codes_are_never_negative():
    codes = SparseCoding(sparsity=ElasticNet(0.1), non_negative=True, **SMALL).fit(FEW).transform(FEW)
    assert codes.min() == 0.0
    assert codes.max() > 0.0


def test_groups_are_active_or_zero_as_a_whole():
    codes = SparseCoding(sparsity=GroupL2(0.3, size=4), **SMALL).fit(FEW).transform(FEW)
    active = (codes.reshape(-1, 5, 4) != 0).sum(2)
    assert set(np.unique(active)) == {0, 4}


def test_neighbours_on_a_map_become_similar():
    options = {"code_size": 36, "max_epochs": 10, "random_state": 0}
    similarity = {}
    for name, sparsity in (("map", Topographic(0.5, shape=(6, 6))), ("no map", L1(0.5))):
        atoms = SparseCoding(sparsity=sparsity, **options).fit(DIGITS[:600]).components_.reshape(6, 6, -1)
        cosines = [(atoms * np.roll(atoms, 1, axis)).sum(-1) for axis in (0, 1)]
        similarity[name] = np.abs(cosines).mean()
    assert similarity["map"] > similarity["no map"] + 0.05


def test_the_dictionary_is_as_good_as_that_of_scikit_learn():
    X = (DIGITS - DIGITS.mean(0))[:600]
    ours = SparseCoding(code_size=30, sparsity=L1(0.3), scaling="none", max_epochs=10, random_state=0).fit(X)
    theirs = MiniBatchDictionaryLearning(30, alpha=0.3, max_iter=3, random_state=0, batch_size=100).fit(X)
    rows = (DIGITS - DIGITS.mean(0))[1000:1400]

    def objective(atoms):
        codes = sparse_encode(rows, atoms, algorithm="lasso_lars", alpha=0.3)
        return (0.5 * np.square(rows - codes @ atoms).sum(1) + 0.3 * np.abs(codes).sum(1)).mean()

    assert objective(ours.components_) < 1.01 * objective(theirs.components_)


def test_atoms_have_norm_1_and_are_the_dictionary(model):
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(model.components_, model.dictionary())
    assert not hasattr(model, "filters")


def test_the_joint_density_is_that_of_scipy(model):
    X, H = FEW[:5], model.transform(FEW[:5])
    density, r = model.density_, model.coder_.decoder(torch.from_numpy(H)).detach().numpy()
    expected = stats.norm(r, float(density.noise)).logpdf(scaled(model, X)).sum(1)
    expected += stats.laplace(0, density.scales.numpy()).logpdf(H).sum(1)
    np.testing.assert_allclose(model.log_prob(X), expected, rtol=1e-4)


def test_samples_have_the_fitted_scales(model):
    codes = model.density_.sample(50_000, torch.Generator().manual_seed(0)).numpy()
    active = model.density_.scales.numpy() > 1e-3
    np.testing.assert_allclose(np.abs(codes).mean(0)[active], model.density_.scales.numpy()[active], rtol=0.05)
    samples = model.sample(2000, random_state=0)
    assert samples.shape == (2000, 64)
    noise = samples - model.sample(2000, random_state=0, mean=True)
    np.testing.assert_allclose(noise.std(), float(model.density_.noise), rtol=0.02)


@pytest.mark.parametrize(
    "source",
    [
        SparseAutoencoder(code_size=20, max_epochs=1, random_state=0),
        RestrictedBoltzmannMachine(code_size=10, max_epochs=1, random_state=0),
        SparseCoding(**SMALL),
    ],
)
def test_the_atoms_of_another_model_explain_rows_in_its_units(source, tmp_path):
    fitted = source.fit(FEW)
    model = SparseCoding(atoms=fitted, sparsity=L1(0.1), random_state=0).fit(FEW)
    matrix = fitted.dictionary() if hasattr(fitted, "dictionary") else fitted.filters()
    expected = matrix.reshape(len(matrix), -1) / np.linalg.norm(matrix.reshape(len(matrix), -1), axis=1, keepdims=True)
    np.testing.assert_allclose(model.components_, expected, atol=1e-6)
    assert model.preprocessing_ is fitted.preprocessing_
    fitted.save(tmp_path / "atoms.isthmus")
    of_file = SparseCoding(atoms=tmp_path / "atoms.isthmus", sparsity=L1(0.1), random_state=0).fit(FEW)
    np.testing.assert_array_equal(of_file.transform(FEW), model.transform(FEW))
    model.save(tmp_path / "m.isthmus")
    loaded = isthmus.load(tmp_path / "m.isthmus")
    np.testing.assert_array_equal(loaded.transform(FEW), model.transform(FEW))
    again = loaded.fit(FEW)  # a second fit keeps the atoms
    np.testing.assert_allclose(again.components_, expected, atol=1e-6)


def test_a_fit_reads_the_atoms_of_a_file_once_and_the_next_fit_reads_them_anew(tmp_path, monkeypatch):
    from isthmus.estimators import given_atoms

    files, read = [tmp_path / "first.isthmus", tmp_path / "second.isthmus"], []
    sources = [SparseCoding(**SMALL | {"random_state": seed}).fit(FEW) for seed in (0, 1)]
    for source, file in zip(sources, files, strict=True):
        source.save(file)
    load = given_atoms.load
    monkeypatch.setattr(given_atoms, "load", lambda path: read.append(path) or load(path))
    model = SparseCoding(atoms=files[0], sparsity=L1(0.1), random_state=0)
    for again in range(2):
        model.fit(FEW)
        assert read == files[:1] * (again + 1)
    model.set_params(atoms=files[1]).fit(FEW)
    np.testing.assert_allclose(model.components_, sources[1].components_, atol=1e-6)
    sources[0].save(files[1])
    model.fit(FEW)
    np.testing.assert_allclose(model.components_, sources[0].components_, atol=1e-6)
    read.clear()
    copy = pickle.loads(pickle.dumps(clone(model).partial_fit(FEW)))
    assert read == files[1:]
    np.testing.assert_allclose(copy.components_, sources[0].components_, atol=1e-6)
    assert vars(copy).keys() == vars(clone(model).partial_fit(FEW)).keys()
    with pytest.raises(InputError, match="atoms have 64 columns and the rows have 9"):
        copy.set_params(scaling="none", atoms=sources[0].components_).fit(FEW[:, :9])
    copy.set_params(atoms=np.eye(9)).fit(FEW[:, :9])
    np.testing.assert_allclose(copy.components_, np.eye(9), atol=1e-6)


def test_a_copy_for_a_search_keeps_the_fitted_model_whose_atoms_are_given():
    fitted = SparseCoding(**SMALL).fit(FEW)
    search = GridSearchCV(SparseCoding(atoms=fitted, random_state=0), {"sparsity__weight": [0.1, 0.3]}, cv=2).fit(FEW)
    np.testing.assert_allclose(search.best_estimator_.components_, fitted.components_, atol=1e-6)


def test_a_file_keeps_the_default_penalty_and_its_weight(tmp_path):
    fitted = SparseCoding(**SMALL).fit(FEW)
    fitted.save(tmp_path / "m.isthmus")
    loaded = isthmus.load(tmp_path / "m.isthmus")
    assert loaded.sparsity is None
    assert loaded._prior == fitted._prior


def test_arguments_that_were_changed_after_the_fit_are_not_saved(tmp_path):
    fitted = SparseCoding(**SMALL).fit(FEW).set_params(sparsity__weight=5.0)
    with pytest.raises(InputError, match="sparsity=L1.weight=5.0.*: the model was fitted with sparsity=L1"):
        fitted.save(tmp_path / "m.isthmus")


def test_a_field_of_no_penalty_names_the_penalties_of_the_kind():
    with pytest.raises(InputError, match="has no argument 'k'; it has weight"):
        SparseCoding().set_params(sparsity__k=3)
    assert SparseCoding().set_params(sparsity__weight=0.5).sparsity == L1(0.5)


def test_an_array_of_atoms_is_taken_and_normalised():
    atoms = np.eye(64)[:10] * 3.0
    model = SparseCoding(atoms=atoms, scaling="none", random_state=0).fit(FEW)
    np.testing.assert_allclose(model.components_, np.eye(64)[:10], atol=1e-6)


def test_a_stream_of_parts_learns_a_dictionary():
    model = SparseCoding(code_size=20, sparsity=L1(0.1), random_state=0)
    errors = []
    for start in range(0, 1500, 250):
        model.partial_fit(DIGITS[start : start + 250])
        errors.append(float(model.nll(DIGITS[1500:]).mean()))
    assert errors[-1] < errors[0]


def test_more_atoms_than_rows_are_noted():
    model = SparseCoding(code_size=50, max_epochs=1, random_state=0).fit(FEW[:30])
    assert any("more atoms (50) than rows (27)" in note for note in model.history_["notes"])


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_default_penalty_follows_the_scale_of_the_rows(scale):
    model = SparseCoding(scaling="none", **SMALL).fit(scale * FEW)
    assert model._prior.weight == pytest.approx(0.1 * scale * np.sqrt(FEW.var(0).sum()), rel=0.1)
    assert any("sparsity was not given: L1(weight=" in note for note in model.history_["notes"])
    assert 0.5 < (model.transform(scale * FEW) == 0).mean() < 0.95


@pytest.mark.parametrize("solver", [FISTA, ISTA, CoordinateDescent])
def test_a_relative_gap_is_below_1(solver):
    with pytest.raises(InputError, match=f"{solver.__name__}: gap=2: it is relative, .*give a number below 1"):
        solver(gap=2)
    with pytest.raises(InputError, match="gap=1.0"):
        solver(gap=1.0)
    codes = SparseCoding(inference=solver(gap=0.999), sparsity=L1(0.1), **SMALL).fit(FEW).transform(FEW)
    assert np.isfinite(codes).all()


def test_rows_of_zeros_have_codes_of_zeros():
    model = SparseCoding(code_size=8, max_epochs=1, random_state=0).fit(np.zeros((20, 5)))
    assert (model.transform(np.zeros((3, 5))) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sparsity": L1(0.0)}, "the weight must be above 0"),
        ({"sparsity": TopK(k=3)}, "sparsity=TopK.k=3.: codes minimise a convex penalty; give one of 'l1'"),
        ({"sparsity": GroupL2(size=3)}, "groups of 3 units do not divide a code of 20 units"),
        ({"sparsity": Topographic(shape=(4, 4))}, "has 16 units, and the code has 20"),
        ({"sparsity": GroupL2(size=4), "inference": "coordinate-descent"}, "is for penalties of single units"),
        ({"sparsity": GroupL2(size=4), "non_negative": True}, "needs codes of any sign"),
        ({"inference": "diagonal"}, "inference='diagonal': kind sparse-coding finds codes by optimisation"),
        ({"inference": MatchingPursuit(k=3), "sparsity": "l1"}, "leave sparsity and non_negative out"),
        ({"inference": MatchingPursuit(k=30)}, "k=30 active units do not fit a code of 20 units"),
        ({"update": "batch"}, "update 'batch' is unknown; choose one of: online, gradient"),
        ({"inference": "FISTA(gap=1e-9)"}, "is unknown"),
        ({"learning_rate": 0.1}, "learning_rate=0.1: the online update has none"),
        ({"likelihood": "bernoulli"}, "kind sparse-coding minimises a squared error; leave likelihood out"),
        ({"atoms": np.ones((4, 9)), "code_size": None}, "atoms have 9 columns and the rows have 64"),
        ({"atoms": np.ones((4, 64))}, "code_size=20: 4 atoms are given; leave code_size out"),
        ({"atoms": np.zeros((4, 64)), "code_size": None}, "atom 0 is 0 in every column"),
        ({"atoms": np.ones(64), "code_size": None}, "give an array .atoms, columns., with atoms as rows"),
        ({"atoms": "digits.isthmus", "code_size": None}, "digits.isthmus"),
        ({"atoms": object(), "code_size": None}, "give a fitted model, its file, or an array"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(arguments, text):
    with pytest.raises(InputError, match=text):
        SparseCoding(**(SMALL | arguments)).fit(FEW)


def test_atoms_of_a_deep_encoder_and_decoder_are_refused():
    deep = isthmus.Autoencoder(code_size=2, max_epochs=1, random_state=0).fit(FEW)
    with pytest.raises(InputError, match="this model has neither a linear decoder nor an encoder of one layer"):
        SparseCoding(atoms=deep).fit(FEW)


def test_other_kinds_refuse_the_solvers():
    with pytest.raises(InputError, match="inference='fista': the code of a variational autoencoder is a distribution"):
        isthmus.VariationalAutoencoder(inference="fista").fit(FEW)


# -- predictive sparse decomposition ------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictive():
    return PredictiveSparseDecomposition(code_size=40, sparsity=L1(0.2), max_epochs=15, random_state=0).fit(DIGITS)


def test_training_brings_the_prediction_near_the_code(predictive):
    errors = [epoch["terms"]["prediction"] for epoch in predictive.history_["epochs"]]
    assert errors[-1] < 0.5 * errors[0]


def test_the_optimal_code_is_better_by_the_criterion_and_the_encoder_near_it(predictive):
    import copy

    optimal = copy.deepcopy(predictive).set_params(transform_inference="optimal")
    x = scaled(predictive, DIGITS)
    f, h = predictive.transform(DIGITS), optimal.transform(DIGITS)

    def criterion(code):
        r = predictive.coder_.decoder(torch.from_numpy(code)).detach().numpy()
        return 0.5 * ((x - r) ** 2).sum(1) + 0.2 * np.abs(code).sum(1) + 0.5 * ((code - f) ** 2).sum(1)

    assert (criterion(h) <= criterion(f) * (1 + 1e-5)).all()
    assert np.square(h - f).sum() < 0.2 * np.square(h).sum()


def test_unrolled_steps_start_with_the_weight_of_the_penalty(tmp_path):
    model = PredictiveSparseDecomposition(network="lista", code_activation="linear", sparsity=L1(0.3), **SMALL).fit(FEW)
    assert model._network.threshold == 0.3
    model.save(tmp_path / "m.isthmus")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m.isthmus").transform(FEW), model.transform(FEW))


def test_the_predicted_code_has_zeros(predictive):
    assert 0.2 < (predictive.transform(DIGITS) == 0).mean() < 0.95


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prediction_weight": 0.0}, "prediction_weight=0.0: it must be a finite number above 0"),
        ({"transform_inference": "best"}, "transform_inference 'best' is unknown; choose one of: encoder, optimal"),
        ({"code_activation": "swish"}, "code_activation 'swish' is unknown; did you mean 'silu'"),
        ({"network": isthmus.MLP(tied=True)}, "the dictionary has weights of its own; leave tied out"),
        ({"sparsity": "topk"}, "codes minimise a convex penalty"),
    ],
)
def test_arguments_of_the_encoder_that_do_not_fit_are_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        PredictiveSparseDecomposition(**(SMALL | arguments)).fit(FEW)


# -- filters ------------------------------------------------------------------------------------------


def shapes_on_series(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return series (n, 64, 2) that are sums of three shapes of 7 steps at random places, and the shapes."""
    random = np.random.default_rng(seed)
    shapes = np.random.default_rng(0).normal(size=(3, 7, 2))
    shapes /= np.linalg.norm(shapes, axis=(1, 2), keepdims=True)
    rows = 0.02 * random.normal(size=(n, 64, 2))
    for row in rows:
        for start in random.integers(0, 57, size=5):
            row[start : start + 7] += random.exponential(3.0) * shapes[random.integers(3)]
    return rows, shapes


@pytest.fixture(scope="module")
def filters():
    rows, _ = shapes_on_series(200, 1)
    network = FeatureMaps(n_maps=4, kernel_size=11)
    return PredictiveSparseDecomposition(network=network, scaling="none", max_epochs=16, random_state=0).fit(rows)


def test_filters_find_the_shapes_of_which_series_are_sums(filters):
    _, shapes = shapes_on_series(1, 1)
    assert filters.components_.shape == (4, 11, 2)
    np.testing.assert_allclose(np.linalg.norm(filters.components_, axis=(1, 2)), 1, rtol=1e-5)
    for shape in shapes:
        placed = np.stack([np.pad(shape, ((lag, 10 - lag), (0, 0)))[3:14] for lag in range(11)])
        assert np.abs(np.einsum("ltc,mtc->lm", placed, filters.components_)).max() > 0.8


def test_codes_of_filters_are_sparse_and_rebuild_series(filters):
    rows, _ = shapes_on_series(50, 2)
    codes = filters.transform(rows)
    assert codes.shape == (50, 4 * 64)
    assert (codes != 0).mean() < 0.25
    assert 1 - ((rows - filters.reconstruct(rows)) ** 2).sum() / (rows**2).sum() > 0.8
    optimal = copy.deepcopy(filters).set_params(transform_inference="optimal")
    assert 1 - ((rows - optimal.reconstruct(rows)) ** 2).sum() / (rows**2).sum() > 0.9


def test_codes_of_filters_move_with_the_series(filters):
    rows = np.zeros((2, 64, 2))
    rows[0, 20:27], rows[1, 29:36] = 3 * shapes_on_series(1, 1)[1][0], 3 * shapes_on_series(1, 1)[1][0]
    first, second = filters.transform(rows).reshape(2, 4, 64)
    np.testing.assert_allclose(np.roll(first, 9, axis=1)[:, 15:-15], second[:, 15:-15], atol=1e-5)


def test_filters_work_on_volumes_with_their_shape():
    volumes = np.random.default_rng(0).normal(size=(30, 6, 5, 7)).astype(np.float32)
    model = PredictiveSparseDecomposition(
        network=FeatureMaps(3, kernel_size=3, stride=2, shape=(6, 5, 7)), layout="table", max_epochs=1, random_state=0
    ).fit(volumes)
    assert model.components_.shape == (3, 3, 3, 3)
    assert model.transform(volumes).shape == (30, 3 * 3 * 3 * 4)
    assert model.reconstruct(volumes).shape == volumes.shape


def test_a_bank_takes_the_filters_of_whole_images():
    network = FeatureMaps(4, kernel_size=3)
    model = PredictiveSparseDecomposition(network=network, layout="nhw", max_epochs=1, random_state=0)
    images = DIGITS[:60].reshape(-1, 8, 8)
    bank = FilterBank(model.fit(images), pool_size=3, normalization_size=3).fit(images)
    assert bank.filters_.shape == (4, 3, 3, 1)
    assert bank.transform(images).shape == (60, 2, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"update": "online"}, "update='online': the dictionary of FeatureMaps.* is updated by gradient; leave it out"),
        ({"sparsity": "group-l2"}, "its groups are of units in a row, and those of FeatureMaps.* have places"),
        ({"code_size": 5}, "code_size=5: FeatureMaps.* has a code of 576 units, the positions of all maps .9 x 64."),
        ({"network": FeatureMaps(shape=(7, 9))}, "rows of 64 columns in model space do not have the axes 7 x 9"),
        ({"network": FeatureMaps(kernel_size=65)}, "the filters are longer than the shortest axis of the rows, 64"),
        ({"likelihood": "bernoulli"}, "minimises a squared error"),
    ],
)
def test_arguments_that_do_not_go_with_filters_are_refused(arguments, message):
    model = PredictiveSparseDecomposition(network=FeatureMaps(9, kernel_size=7), max_epochs=1)
    with pytest.raises(InputError, match=message):
        model.set_params(**arguments).fit(DIGITS[:30])


def test_a_shape_is_for_flat_rows():
    model = PredictiveSparseDecomposition(network=FeatureMaps(shape=(8, 8)), layout="nhw", max_epochs=1)
    with pytest.raises(InputError, match="the rows are images or series, which have their own axes; leave shape out"):
        model.fit(DIGITS[:30].reshape(-1, 8, 8))


@pytest.mark.parametrize("kind", [VariationalAutoencoder, SemanticHashing])
def test_kinds_with_codes_of_another_form_refuse_feature_maps(kind):
    model = kind(network=FeatureMaps(3, kernel_size=3), max_epochs=1)
    with pytest.raises(InputError, match="one number for each position, and kind (vae|hash) has one of another form"):
        model.fit(DIGITS[:40])


@pytest.mark.parametrize("shape", [None, (4, 4, 4)])
def test_reports_show_filters_along_one_axis_and_slices_of_those_of_volumes(shape, tmp_path):
    model = PredictiveSparseDecomposition(network=FeatureMaps(3, kernel_size=3, shape=shape), max_epochs=1)
    report.write(model.fit(DIGITS[:60]), DIGITS[:60], tmp_path / "report.html")
    assert "kernels of the first layer" in (tmp_path / "report.html").read_text()
