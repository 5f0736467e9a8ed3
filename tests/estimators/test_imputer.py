"""`Imputer`: filled cells, intervals, draws."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from isthmus import Imputer

SMALL = {"hidden_sizes": (8,), "code_size": 8, "max_epochs": 2}


@parametrize_with_checks([Imputer(**SMALL)])
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_the_imputer(estimator, check):
    check(estimator)
