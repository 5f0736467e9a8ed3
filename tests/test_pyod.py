"""The detector of odd rows as a detector of PyOD."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import clone
from sklearn.metrics import roc_auc_score

from isthmus import AnomalyDetector, InputError, LinearAutoencoder

pytest.importorskip("pyod")

from pyod.models.base import BaseDetector
from pyod.utils.data import evaluate_print, generate_data

from isthmus.pyod import IsthmusDetector

N_TRAIN, N_TEST, CONTAMINATION = 200, 100, 0.1
X_TRAIN, X_TEST, Y_TRAIN, Y_TEST = generate_data(
    n_train=N_TRAIN, n_test=N_TEST, n_features=3, contamination=CONTAMINATION, random_state=42
)


@pytest.fixture(scope="module")
def detector():
    return IsthmusDetector(contamination=CONTAMINATION, random_state=0).fit(X_TRAIN)


def test_it_has_the_attributes_of_a_fitted_detector(detector):
    assert isinstance(detector, BaseDetector)
    assert detector.decision_scores_.shape == detector.labels_.shape == (N_TRAIN,)
    assert detector.threshold_ == np.percentile(detector.decision_scores_, 100 * (1 - CONTAMINATION))
    assert detector.labels_.sum() == CONTAMINATION * N_TRAIN
    assert detector._mu == detector.decision_scores_.mean()
    assert detector._sigma == detector.decision_scores_.std()


def test_scores_find_the_odd_rows(detector, capsys):
    scores = detector.decision_function(X_TEST)
    assert scores.shape == (N_TEST,)
    assert roc_auc_score(Y_TEST, scores) > 0.9
    assert roc_auc_score(Y_TRAIN, detector.decision_scores_) > 0.9
    evaluate_print("isthmus", Y_TEST, scores)
    assert "ROC" in capsys.readouterr().out


def test_scores_are_those_of_the_detector_with_the_sign_of_pyod(detector):
    ours = AnomalyDetector(contamination=CONTAMINATION, random_state=0).fit(X_TRAIN)
    np.testing.assert_array_equal(detector.decision_function(X_TEST), -ours.score_samples(X_TEST))


def test_scores_of_the_rows_of_fit_are_by_fits_without_them(detector):
    fitted, calibration = detector.detector_, detector.detector_.calibration_rows_
    again = detector.decision_function(X_TRAIN)
    np.testing.assert_allclose(detector.decision_scores_[calibration], again[calibration], rtol=1e-5, atol=1e-6)
    training = np.setdiff1d(np.arange(N_TRAIN), calibration)
    assert np.all(detector.decision_scores_[training] != again[training])
    order = np.argsort(fitted.p_values_[training])
    assert np.all(np.diff(detector.decision_scores_[training][order]) <= 0)


def test_scores_of_training_rows_have_the_distribution_of_those_of_new_rows():
    rows = np.random.default_rng(0).standard_t(4, (800, 5))
    detector = IsthmusDetector(random_state=0).fit(rows[:400])
    flagged = detector.predict(rows[400:]).mean()
    assert 0.05 < flagged < 0.16  # 4 standard deviations of the share and of the threshold about 0.1


def test_labels(detector):
    labels = detector.predict(X_TEST)
    np.testing.assert_array_equal(labels, detector.decision_function(X_TEST) > detector.threshold_)
    assert set(labels) == {0, 1}
    same, confidence = detector.predict(X_TEST, return_confidence=True)
    np.testing.assert_array_equal(same, labels)
    assert confidence.min() >= 0
    assert confidence.max() <= 1


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities(detector, method):
    probabilities = detector.predict_proba(X_TEST, method=method)
    assert probabilities.shape == (N_TEST, 2)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert roc_auc_score(Y_TEST, probabilities[:, 1]) > 0.9


def test_an_unknown_method_of_probabilities_is_refused(detector):
    with pytest.raises(ValueError, match="something"):
        detector.predict_proba(X_TEST, method="something")


def test_rejection(detector):
    assert set(detector.predict_with_rejection(X_TEST, c_r=0.1)) <= {-2, 0, 1}


def test_a_clone_has_the_arguments_and_no_fit(detector):
    copy = clone(IsthmusDetector(contamination=0.2, autoencoder=LinearAutoencoder(code_size=2), random_state=3))
    assert copy.contamination == 0.2
    assert copy.get_params()["autoencoder__code_size"] == 2
    assert not hasattr(clone(detector), "decision_scores_")
    fitted = clone(detector).fit(X_TRAIN)
    np.testing.assert_array_equal(fitted.decision_scores_, detector.decision_scores_)


def test_arguments_of_the_detector_are_given_to_it():
    detector = IsthmusDetector(autoencoder=LinearAutoencoder(code_size=2), n_folds=2, random_state=0)
    fitted = detector.set_params(calibration_fraction=0.5).fit(X_TRAIN).detector_
    assert fitted.autoencoder is detector.autoencoder
    assert len(fitted.calibration_rows_) == N_TRAIN // 2
    assert list(fitted.part_scores(X_TEST[:2]).columns) == list(fitted.scores_.names)


def test_tables_with_missing_cells_are_rows():
    rows = pd.DataFrame({"a": X_TRAIN[:, 0], "b": np.where(X_TRAIN[:, 1] > 5, "high", "low")})
    rows.loc[3, "a"] = np.nan
    detector = IsthmusDetector(random_state=0).fit(rows)
    assert detector.predict_proba(rows).shape == (N_TRAIN, 2)


class Thresholder:
    """A thresholder as those of PyOD: the rows above a fixed score."""

    def fit(self, scores):
        self.thresh_ = 2.0
        self.labels_ = self.predict(scores)
        return self

    def predict(self, scores):
        return (scores > self.thresh_).astype(int)


def test_contamination_may_be_a_thresholder():
    detector = IsthmusDetector(contamination=Thresholder(), random_state=0).fit(X_TRAIN)
    np.testing.assert_array_equal(detector.labels_, detector.decision_scores_ > 2)
    np.testing.assert_array_equal(detector.predict(X_TEST), detector.decision_function(X_TEST) > 2)


def test_invalid_contaminations_are_refused():
    for rate in (0.0, 0.6, -1):
        with pytest.raises(ValueError, match="contamination must be in"):
            IsthmusDetector(contamination=rate)
    with pytest.raises(InputError, match="contamination='auto'.*thresholder"):
        IsthmusDetector(contamination="auto").fit(X_TRAIN)


def test_a_fit_that_fails_leaves_the_detector(detector):
    copy = clone(detector).fit(X_TRAIN)
    with pytest.raises(InputError, match="at least 10 rows"):
        copy.fit(X_TRAIN[:9])
    np.testing.assert_array_equal(copy.labels_, detector.labels_)


def test_labels_of_the_rows_are_not_used(detector):
    with pytest.warns(UserWarning, match="y should not be presented"):
        again = clone(detector).fit(X_TRAIN, Y_TRAIN)
    np.testing.assert_array_equal(again.decision_scores_, detector.decision_scores_)


def test_without_pyod_one_line_names_the_extra():
    script = "import sys; sys.modules['pyod'] = None\nimport isthmus.pyod"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("isthmus.pyod needs the package pyod; install it with pip install 'isthmus[pyod]'")
