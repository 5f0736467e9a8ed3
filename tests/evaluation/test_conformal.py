"""Conformal p-values, false discovery rates and the scale of scores, compared with scipy and with enumeration."""

import warnings

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from isthmus import InputError, InputWarning
from isthmus.evaluation import conformal
from isthmus.evaluation.conformal import TailScores

RNG = np.random.default_rng(0)


def test_p_values_count_calibration_scores_that_are_at_least_as_high():
    calibration, scores = RNG.integers(0, 8, 30).astype(float), np.arange(-1.0, 10.0)
    expected = [(1 + sum(c >= s for c in calibration)) / 31 for s in scores]
    np.testing.assert_allclose(conformal.p_values(calibration, scores), expected)
    among = [sum(c >= s for c in calibration) / 30 for s in calibration]
    np.testing.assert_allclose(conformal.p_values_among(calibration), among)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("m", [19, 100, 199])
def test_scores_above_the_threshold_are_those_of_small_p_values(rate, m):
    calibration, scores = RNG.normal(size=m), RNG.normal(0, 2, 500)
    if m < conformal.n_needed(rate):
        with pytest.raises(InputError, match="needs 99 calibration rows, and there are 19"):
            conformal.threshold(calibration, rate)
        return
    flagged = scores > conformal.threshold(calibration, rate)
    np.testing.assert_array_equal(flagged, conformal.p_values(calibration, scores) <= rate)


def test_p_values_of_exchangeable_scores_are_valid():
    m, n = 19, 4000
    scores = RNG.normal(size=(n, m + 1))
    p = np.array([conformal.p_values(row[:m], row[m:])[0] for row in scores])
    for rate in (0.05, 0.25):
        assert (p <= rate).mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / n))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_rejections_are_those_of_scipy(rate):
    for n in (1, 7, 200):
        p = RNG.uniform(size=n) ** 3
        expected = false_discovery_control(p, method="bh") <= rate
        np.testing.assert_array_equal(conformal.benjamini_hochberg(p, rate), expected)


def test_a_warning_says_when_no_row_can_be_a_discovery():
    p = np.where(np.arange(1000) < 2, 0.01, 0.9)
    text = (
        r"^no row is a discovery: with 99 calibration rows the smallest p-value is 0\.01, at which a false discovery "
        r"rate of 0\.1 among 1000 rows needs 100 rows or more"
    )
    with pytest.warns(InputWarning, match=text):
        assert not conformal.benjamini_hochberg(p, 0.1, n_calibration=99).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not conformal.benjamini_hochberg(np.array([0.9, 0.8]), 0.1, n_calibration=99).any()
    with pytest.raises(InputError, match="^rate=1: it must be a number above 0 and below 1"):
        conformal.benjamini_hochberg(p, 1)


def test_the_scale_of_exponential_scores_is_the_identity():
    reference = RNG.exponential(size=200_000)
    scores = np.array([0.1, 1.0, 2.5, 6.0, 20.0])
    np.testing.assert_allclose(TailScores.of(reference)(scores), scores, rtol=0.05)


@pytest.mark.parametrize("reference", [RNG.normal(size=30), RNG.integers(0, 3, 500).astype(float), np.ones(5)])
def test_the_scale_rises_with_the_score_and_is_strict_above_the_reference(reference):
    scale = TailScores.of(reference)
    t = scale(np.linspace(reference.min() - 1, reference.max() + 3, 300))
    assert t.min() >= 0
    assert (np.diff(t) >= 0).all()
    assert (np.diff(t)[-50:] > 0).all()
    assert np.isnan(scale(np.array([np.nan])))[0]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.15])
def test_the_rate_of_odd_rows_lies_in_its_interval(rate):
    scores = RNG.normal(size=3000)
    n_odd = round(rate * 3000)
    scores[:n_odd] = RNG.normal(6, 1, n_odd)
    found = conformal.odd_rate(scores, 0)
    assert found.low <= found.rate <= found.high
    assert found.rate == pytest.approx(rate, abs=0.03)
    assert conformal.odd_rate(scores, 0) == found
    assert conformal.odd_rate(np.ones(100), 0).rate == 0
