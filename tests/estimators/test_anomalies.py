"""The detector of odd rows: scikit-learn's interface, rates of false alarms, cells, files and bad input."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from scipy.stats import betabinom, spearmanr
from sklearn import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import AnomalyDetector, Autoencoder, InputError, LinearAutoencoder
from isthmus.data import Documents
from isthmus.evaluation.conformal import benjamini_hochberg
from isthmus.evaluation.planted import SORTS, plant_test

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(6, 6))


def clean(n, seed=0):
    """Rows of one distribution that is not Gaussian."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n, 6)) @ MIX
    return rows + 0.3 * rows[:, ::-1] ** 2


X = clean(500)


def table(n=200, seed=0):
    """A mixed table with missing cells: b is about 2 a, and the city depends on a."""
    generator = np.random.default_rng(seed)
    a = generator.normal(size=n)
    rows = pd.DataFrame(
        {
            "a": a, "b": 2 * a + generator.normal(0, 0.2, n), "visits": generator.poisson(3, n),
            "city": np.where(a > 0.5, "Bern", np.where(a > -0.5, "Rome", "Oslo")), "member": a > 0,
        },
        index=[f"r{i}" for i in range(n)],
    )  # fmt: skip
    rows.loc["r3", "b"] = np.nan
    rows.loc["r4", "city"] = None
    return rows


@pytest.fixture(scope="module")
def detector():
    return AnomalyDetector(random_state=0, false_alarm_rate=0.05).fit(X[:360])


@pytest.fixture(scope="module")
def of_table():
    return AnomalyDetector(random_state=0).fit(table())


@parametrize_with_checks(
    [
        AnomalyDetector(contamination=0.1),
        AnomalyDetector(contamination=0.1, n_folds=2, autoencoder=LinearAutoencoder(code_size=1, max_epochs=1)),
    ]
)
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_the_detector(estimator, check):
    check(estimator)


# -- scores and rates -------------------------------------------------------------------------------


def test_scores_decisions_p_values_and_predictions_agree(detector):
    rows = np.vstack([clean(200, 1), 10 * clean(20, 2)])
    scores, p = detector.score_samples(rows), detector.p_value(rows)
    np.testing.assert_array_equal(detector.decision_function(rows), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(rows), np.where(p <= 0.05, -1, 1))
    calibration = detector.score_samples(X[detector.calibration_rows_])
    np.testing.assert_allclose(detector.calibration_scores_, np.sort(calibration))
    expected = [(1 + (calibration <= score).sum()) / (len(calibration) + 1) for score in scores]
    np.testing.assert_allclose(p, expected)
    np.testing.assert_allclose(detector.part_scores(rows).mean(axis=1), -scores)
    assert (detector.predict(rows)[200:] == -1).mean() > 0.8


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_false_alarms_on_clean_rows_lie_within_binomial_limits(rate):
    # The number of n new rows with one of the k smallest of m + 1 p-values is beta-binomial, for any score.
    rows, new = clean(1000, 3), clean(4000, 4)
    found = AnomalyDetector(false_alarm_rate=rate, calibration_fraction=0.5, n_folds=2, random_state=0).fit(rows)
    m, n = len(found.calibration_scores_), len(new)
    k = int(rate * (m + 1))
    low, high = betabinom.interval(0.998, n, k, m + 1 - k)
    assert low <= (found.predict(new) == -1).sum() <= high


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_odd_rows_in_the_fit_make_fewer_false_alarms(share):
    rows, new = clean(760, 5), clean(3000, 6)
    rows[: round(share * 760)] *= 8
    found = AnomalyDetector(n_folds=2, random_state=0).fit(rows)
    m = len(found.calibration_scores_)
    k = int(0.05 * (m + 1))
    assert (found.predict(new) == -1).sum() <= betabinom.ppf(0.999, len(new), k, m + 1 - k)
    assert (found.predict(8 * clean(200, 7)) == -1).mean() > (0.9 if share < 0.05 else 0.1)


def test_rows_of_the_fit_have_p_values_by_fits_to_other_rows():
    rows = clean(400, 8)
    rows[:8] = 12 * rows[:8]
    found = AnomalyDetector(random_state=0).fit(rows)
    assert found.p_values_.shape == (400,)
    assert (found.p_values_ <= 0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert np.median(found.p_values_[:8]) <= 0.03
    assert benjamini_hochberg(found.p_values_, 0.2).shape == (400,)


def test_a_number_is_the_fraction_of_flagged_rows_and_auto_estimates_it():
    rows = RNG.normal(size=(600, 6)) @ MIX
    rows[:60] = 6 * rows[:60] + 5
    for rate in (0.1, 0.25):
        found = AnomalyDetector(contamination=rate, n_folds=2, random_state=0).fit(rows)
        assert (found.predict(rows) == -1).sum() == round(rate * 600)
        assert not hasattr(found, "odd_rate_")
    found = AnomalyDetector(contamination="auto", n_folds=2, random_state=0).fit(rows)
    assert found.odd_rate_.low <= found.odd_rate_.rate <= found.odd_rate_.high
    assert found.odd_rate_.rate == pytest.approx(0.1, abs=0.04)
    assert (found.predict(rows) == -1).mean() == pytest.approx(found.odd_rate_.rate, abs=0.01)


def test_the_seed_decides_on_everything(detector):
    again = clone(detector).fit(X[:360])
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    other = clone(detector).set_params(random_state=1).fit(X[:360])
    assert spearmanr(other.score_samples(X), detector.score_samples(X)).statistic > 0.8


# -- cells ------------------------------------------------------------------------------------------


def test_intervals_contain_nine_of_ten_cells_of_new_rows(detector):
    new = clean(1500, 9)
    found = detector.explain(new)
    coverage = ((found.low <= new) & (new <= found.high)).mean(0)
    assert coverage.shape == (6,)
    assert (np.abs(coverage - 0.9) < 0.1).all()
    assert (found.low <= found.expected).all()
    assert (found.expected <= found.high).all()
    assert abs(found.share.mean()) < 0.2


def test_the_cell_that_was_changed_has_the_largest_share_and_its_old_value_is_expected():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(400, 2))
    rows = np.hstack([a, a @ [[1.0], [1.0]], a @ [[1.0], [-1.0]]]) + 0.05 * generator.normal(size=(400, 4))
    found = AnomalyDetector(random_state=0, n_folds=2).fit(rows[:300])
    old = rows[300:].copy()
    new = old.copy()
    columns = np.arange(100) % 4
    new[np.arange(100), columns] += 3
    cells = found.explain(new)
    assert (cells.share.argmax(1) == columns).mean() > 0.9
    at = np.arange(100), columns
    assert np.corrcoef(cells.expected[at], old[at])[0, 1] > 0.95


def test_cells_of_a_table_have_its_index_columns_and_units(of_table):
    rows = table().iloc[:20]
    found = of_table.explain(rows)
    for part in (found.share, found.expected, found.low, found.high):
        assert part.index.equals(rows.index)
        assert part.columns.equals(rows.columns)
    assert np.isnan(found.share.loc["r3", "b"])
    assert np.isnan(found.share.loc["r4", "city"])
    assert int(found.share.isna().sum().sum()) == 2
    assert set(found.expected["city"]) <= {"Bern", "Rome", "Oslo"}
    assert found.low[["city", "member"]].isna().all().all()
    assert (found.low["a"] <= found.expected["a"]).all()
    assert found.expected.loc["r3", "b"] == pytest.approx(2 * rows.loc["r3", "a"], abs=1)
    odd = rows.iloc[[0]].assign(b=9.0)
    top = of_table.explain(odd).top(2)
    assert top.loc[0, ["row", "column"]].tolist() == ["r0", "b"]
    assert of_table.predict(odd).tolist() == [-1]


def test_polars_frames_give_polars_frames():
    polars = pytest.importorskip("polars")
    rows = polars.from_pandas(table().drop(columns="member"))
    fitted = AnomalyDetector(random_state=0, n_folds=2).fit(rows)
    found = fitted.explain(rows[:3])
    assert all(isinstance(part, polars.DataFrame) for part in vars(found).values())
    assert found.expected.columns == rows.columns
    assert len(found.top(2)) == 6
    assert plant_test(fitted, rows).shape == (8, 4)


def test_images_sparse_rows_and_texts_are_explained_in_their_own_shape():
    images = RNG.integers(0, 255, (60, 6, 8), dtype=np.uint8)
    found = AnomalyDetector(random_state=0, n_folds=2).fit(images).explain(images[:3])
    assert found.share.shape == found.expected.shape == found.high.shape == (3, 6, 8)
    assert found.expected.dtype == np.uint8
    assert np.ptp(found.share[0, :2, :2]) == 0  # a patch
    assert len(found.top(2)) == 6
    rows = scipy.sparse.random(60, 12, 0.3, random_state=0).tocsr()
    found = AnomalyDetector(random_state=0, n_folds=2).fit(rows).explain(rows[:3])
    assert found.share.shape == (3, 12)
    texts = Documents([" ".join(RNG.choice(["oil", "price", "wheat", "gold", "tin"], 4)) for _ in range(60)])
    fitted = AnomalyDetector(random_state=0, n_folds=2).fit(texts)
    assert fitted.explain(texts[:3]).share.shape == (3, 5)
    with pytest.raises(InputError, match="^anomalies are planted in arrays and tables"):
        plant_test(fitted, texts)


def test_many_rows_add_the_denoiser_of_hidden_cells():
    generator = np.random.default_rng(0)
    t = generator.uniform(-3, 3, 820)
    rows = np.column_stack([t, np.sin(2 * t), np.cos(2 * t)]) + 0.03 * generator.normal(size=(820, 3))
    found = AnomalyDetector(random_state=0, n_folds=2).fit(rows)
    assert list(found.part_scores(rows[:2])) == ["gaussian", "mixture", "neighbours", "hidden cells"]
    assert bool(found.cells_.by_denoiser.any())  # the sine follows from t, but not linearly
    again = isthmus.load(saved(found))
    np.testing.assert_allclose(again.score_samples(rows), found.score_samples(rows), rtol=1e-9)
    np.testing.assert_allclose(again.explain(rows).expected, found.explain(rows).expected, rtol=1e-6, atol=1e-6)


def test_planted_anomalies_are_found_by_score_and_parts(of_table):
    found = plant_test(of_table, table())
    assert found.columns.tolist() == ["score", "gaussian", "mixture", "neighbours"]
    assert found.index.get_level_values(0).unique().tolist() == list(SORTS)
    assert found.loc[("scaled cells", 0.05), "score"] > 0.3
    assert found.xs(0.01, level=1).isna().all().all()  # 50 calibration rows allow no p-value of 0.01
    with pytest.raises(InputError, match="^the detector was fitted to 200 rows; give the rows of the fit"):
        plant_test(of_table, table(50))


# -- autoencoders and files -------------------------------------------------------------------------


FOLDER: list = []


@pytest.fixture(autouse=True)
def folder(tmp_path):
    FOLDER[:] = [tmp_path]


def saved(model):
    path = FOLDER[0] / "detector.isthmus"
    model.save(path)
    return path


def test_an_autoencoder_gives_the_score_by_its_codes_and_residuals():
    given = Autoencoder(code_size=2, max_epochs=5)
    found = AnomalyDetector(autoencoder=given, n_folds=2, random_state=0).fit(X[:200])
    assert not hasattr(given, "coder_")
    assert list(found.part_scores(X[:3])) == ["code density", "residual likelihood"]
    assert (found.predict(20 * X[200:260]) == -1).mean() > 0.8
    assert found.explain(X[:2]).share.shape == (2, 6)
    again = isthmus.load(saved(found))
    np.testing.assert_allclose(again.score_samples(X), found.score_samples(X), rtol=1e-9)
    assert again.autoencoder.code_size == 2
    assert isthmus.load(saved(found), device="cpu").scores_.model.device == "cpu"
    refitted = again.fit(X[:200])
    np.testing.assert_allclose(refitted.score_samples(X), found.score_samples(X), rtol=1e-6)


def test_a_file_keeps_scores_p_values_and_cells(of_table):
    rows, again = table(60, 1), isthmus.load(saved(of_table))
    np.testing.assert_allclose(again.score_samples(rows), of_table.score_samples(rows), rtol=1e-9)
    np.testing.assert_array_equal(again.p_value(rows), of_table.p_value(rows))
    np.testing.assert_array_equal(again.p_values_, of_table.p_values_)
    np.testing.assert_array_equal(again.row_scores_, of_table.row_scores_)
    pd.testing.assert_frame_equal(again.explain(rows).share, of_table.explain(rows).share)
    assert again.get_params() == of_table.get_params() | {"random_state": 0}
    auto = AnomalyDetector(contamination="auto", n_folds=2, random_state=0).fit(X[:100])
    assert isthmus.load(saved(auto)).odd_rate_ == auto.odd_rate_


# -- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rows", "text"),
    [
        ({}, X[:49], "n_samples=49: a detector needs at least 50 rows, or 10 with a number for contamination="),
        ({"contamination": 0.1}, X[:9], "n_samples=9: a detector needs at least 10 rows"),
        ({}, np.ones((60, 3)), "all 60 rows are equal, so that no row is odd; give rows that differ"),
        ({"false_alarm_rate": 0}, X, "false_alarm_rate=0: it must be a number above 0 and below 1, such as 0.05"),
        ({"false_alarm_rate": 1}, X, "false_alarm_rate=1: it must be a number above 0 and below 1, such as 0.05"),
        (
            {"false_alarm_rate": 0.001}, X,
            "false_alarm_rate=0.001 needs 999 calibration rows, at most half of the 500 rows; give 1998 rows or more, "
            "or a rate of at least 0.004",
        ),
        (
            {}, np.where(np.arange(500)[:, None] == 7, np.nan, X),
            "row 7 has no observed cell (1 such row in all); remove it",
        ),
        (
            {"contamination": "few"}, X,
            "contamination='few': it must be None, 'auto', or a number above 0 and at most 0.5",
        ),
        ({"n_folds": 1}, X, "n_folds=1: it must be a whole number of at least 2"),
        (
            {"autoencoder": "deep"}, X,
            "autoencoder='deep' is not an autoencoder; give an unfitted one of isthmus, such as isthmus.Autoencoder()",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(arguments, rows, text):
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        AnomalyDetector(**arguments).fit(rows)


def test_further_rows_must_have_the_schema_of_the_fit(detector, of_table):
    with pytest.raises(ValueError, match="X has 5 features, but AnomalyDetector is expecting 6"):
        detector.score_samples(X[:, :5])
    with pytest.raises(ValueError, match="member"):
        of_table.predict(table().drop(columns="member"))
    with pytest.raises(InputError, match="^row 0 has no observed cell"):
        detector.explain(np.full((2, 6), np.nan))


def test_a_fit_that_fails_leaves_the_detector_as_it_was(detector):
    before = detector.score_samples(X[:5])
    with pytest.raises(InputError):
        detector.fit(np.ones((60, 6)))
    np.testing.assert_array_equal(detector.score_samples(X[:5]), before)


def test_one_changed_cell_does_not_change_what_is_expected_of_the_others():
    rng = np.random.default_rng(3)
    t = rng.normal(size=(400, 1))
    X = t * [1.0, 2.0, -1.0, 0.5] + rng.normal(0, 0.1, (400, 4))
    detector = AnomalyDetector(random_state=0).fit(X)
    row = np.array([[1.0, 2.0, -1.0, 0.5]])
    changed = row.copy()
    changed[0, 1] = 12.0
    plain, found = detector.explain(row), detector.explain(changed)
    assert found.share[0].argmax() == 1
    assert np.abs(found.expected - plain.expected)[0, [0, 2, 3]].max() < 0.5
    assert found.share[0, [0, 2, 3]].max() < 3


def test_calibration_windows_are_the_last_ones_and_share_no_row_with_training():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": np.sin(np.arange(900) / 5) + 0.1 * rng.normal(size=900)})
    found = isthmus.data.windows(table, size=10, stride=2)
    detector = AnomalyDetector(random_state=0, false_alarm_rate=0.1).fit(found)
    calibration = detector.calibration_rows_
    assert calibration.max() == len(found) - 1
    assert (np.diff(calibration) == 1).all()
    assert np.isfinite(detector.p_values_).all()
    assert np.isfinite(detector.row_scores_).all()
    assert detector.preprocessing_.channels == ["x"]
    assert detector.explain(found.X[:3]).share.shape == (3, 10, 1)
