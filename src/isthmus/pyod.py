"""The detector of odd rows with the interface of PyOD: `IsthmusDetector`. It needs the extra `pyod`."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from isthmus.errors import InputError
from isthmus.estimators.anomalies import AnomalyDetector
from isthmus.estimators.inputs import unchanged_on_failure

try:
    from pyod.models.base import BaseDetector
except ImportError:
    raise InputError("isthmus.pyod needs the package pyod; install it with pip install 'isthmus[pyod]'") from None


class IsthmusDetector(BaseDetector):
    """`AnomalyDetector` with the methods and the signs of PyOD's detectors: scores are high for odd rows.

        decision_function(x) = -AnomalyDetector.score_samples(x)

    `labels_` and `predict` flag the rows whose score is above the 1 - `contamination` quantile of `decision_scores_`,
    as in PyOD. They state no rate of false alarms; `detector_.p_value` does. `detector_.explain` returns the cells that
    make a row odd.

    Args:
        contamination: fraction of odd rows among those of `fit`, above 0 and at most 0.5, or a thresholder of PyOD.
        autoencoder, calibration_fraction, n_folds, dtypes, unknown, layout, random_state, device: as in
            `isthmus.AnomalyDetector`.

    Attributes:
        decision_scores_: score of each row of `fit`, (n,), by a fit in which the row takes no part. The scores of
            `decision_function` for the same rows differ from these: it is that of one fit to all training rows.
        threshold_: the score above which a row is flagged.
        labels_: 1 for the rows of `fit` that are flagged and 0 for the others, (n,).
        detector_: the fitted `AnomalyDetector`.

    Raises:
        InputError: at `fit`, what `AnomalyDetector` refuses, such as fewer than 10 rows, or 50 with a thresholder.
        InputError: at `fit`, a contamination that is neither a number nor a thresholder.
        ValueError: a contamination outside (0, 0.5].

    Source: Zhao, Nasrullah & Li, PyOD: a Python toolbox for scalable outlier detection (2019).

    Example:
        >>> from isthmus.pyod import IsthmusDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> X[0], X[1] = X[0] + 6, X[1] - 6
        >>> detector = IsthmusDetector(contamination=0.01, random_state=0).fit(X)
        >>> np.flatnonzero(detector.labels_).tolist()
        [0, 1]
        >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])).tolist()
        [0, 1]
    """

    def __init__(
        self,
        contamination: Any = 0.1,
        *,
        autoencoder: Any = None,
        calibration_fraction: float = 0.25,
        n_folds: int = 5,
        dtypes: dict[str, str] | None = None,
        unknown: str = "missing",
        layout: str = "auto",
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(contamination=contamination)
        self.autoencoder = autoencoder
        self.calibration_fraction = calibration_fraction
        self.n_folds = n_folds
        self.dtypes = dtypes
        self.unknown = unknown
        self.layout = layout
        self.random_state = random_state
        self.device = device

    @unchanged_on_failure
    def fit(self, X: Any, y: Any = None) -> IsthmusDetector:
        """Fit the detector, and set scores, threshold and labels of the rows.

        Args:
            X: rows as `AnomalyDetector.fit` takes them.
            y: ignored, with the warning that PyOD's detectors give.

        Raises:
            InputError: see the class.
        """
        arguments = self.get_params(deep=False)
        if not isinstance(self.contamination, int | float):
            if not hasattr(self.contamination, "fit"):
                raise InputError(
                    f"contamination={self.contamination!r}: it must be a number above 0 and at most 0.5, or a "
                    "thresholder of PyOD"
                )
            arguments["contamination"] = None
        self._set_n_classes(y)
        self.detector_ = AnomalyDetector(**arguments).fit(X)
        self.decision_scores_ = -self.detector_.row_scores_
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the score of each row, (n,), in nats, at least 0: the higher, the odder."""
        check_is_fitted(self, "detector_")
        return -self.detector_.score_samples(X)
