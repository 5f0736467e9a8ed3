"""Model files of every kind that stay readable: what a user saved once opens in later versions.

`python -m tests.estimators.fixture_files` writes the files that are missing for the schema of today. It changes no
file that is there: a file that a later version cannot read is an error of that version.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn import clone
from sklearn.decomposition import PCA

from isthmus import (
    AnomalyDetector,
    CodeClassifier,
    CodeRegressor,
    Convolutional,
    Convolutional1d,
    FilterBank,
    Imputer,
    InputWarning,
    SparseAutoencoder,
    TopK,
    Whitening,
)
from isthmus.files import SCHEMA

from .kinds import KINDS, SMALL

FOLDER = Path(__file__).parent.parent / "fixtures"
X = np.round(np.random.default_rng(0).random((60, 12)) * np.linspace(0.2, 1.0, 12), 3)
"""The rows on which every file was trained, in [0, 1]."""

ROWS = {
    **KINDS,
    "sparse, prefixes": SparseAutoencoder(code_size=32, sparsity=TopK(k=4, prefixes=(8, 16)), **SMALL),
    "conv, along series": clone(KINDS["conv"]).set_params(network=Convolutional1d((4,), dense_sizes=(8,))),
    "conv, images": clone(KINDS["conv"]).set_params(network=Convolutional((4,), dense_sizes=(8,))),
    "classifier": CodeClassifier(encoder=clone(KINDS["deep"]), hidden_sizes=(4,), **SMALL),
    "regressor": CodeRegressor(encoder=clone(KINDS["rbm"]), frozen=True, **SMALL),
    "anomalies": AnomalyDetector(random_state=0),
    "anomalies, codes": AnomalyDetector(autoencoder=clone(KINDS["linear"]), n_folds=2, random_state=0),
    "imputer": Imputer(hidden_sizes=(4,), code_size=4, max_epochs=2, n_folds=2, random_state=0),
    "filter bank, tiled": FilterBank(n_filters=2, filter_size=2, n_tiles=2, pool_size=2, normalization_size=3,
                                     random_state=0),
    "filter bank, learned": FilterBank(PCA(4), filter_size=2, pool_size=2, random_state=0),
    "whitening": Whitening(),
}  # fmt: skip


def rows_of(name):
    """The rows of a file: images for some of them, and twice as many for the imputer, whose denoisers need 100."""
    if name == "imputer":
        return np.where(np.arange(2 * len(X))[:, None] % 12 == np.arange(12), np.nan, np.tile(X, (2, 1)))
    return X.reshape(-1, 3, 4) if name == "conv, images" or name.startswith("filter bank") else X


def path_of(name, schema=SCHEMA):
    """The file of a row of the table."""
    return FOLDER / f"schema-{schema}" / f"{name.replace(', ', '-').replace(' ', '-')}.isthmus"


def outputs(name, model):
    """What the model gives for the first rows: predictions, or codes, reconstructions and their scores."""
    rows = rows_of(name)[:4]
    if isinstance(model, AnomalyDetector):
        found = {"scores": model.score_samples(rows), "expected": model.explain(rows).expected}
    elif isinstance(model, Imputer):
        found = {"filled": model.transform(rows), "low": model.interval(rows, 0.8).low}
    elif isinstance(model, FilterBank | Whitening):
        found = {"features": model.transform(rows)}
    elif hasattr(model, "predict"):
        found = {"predictions": model._outputs(rows)}
    else:
        found = {"codes": model.transform(rows), "reconstructions": model.reconstruct(rows), "nll": model.nll(rows)}
    return {part: np.asarray(values, np.float64).ravel().round(6).tolist() for part, values in found.items()}


def expected_path(schema=SCHEMA):
    """The file of what every model gives."""
    return FOLDER / f"schema-{schema}" / "outputs.json"


def write_missing():
    """Fit and save the rows of the table that have no file, and add what they give to `outputs.json`."""
    expected_path().parent.mkdir(exist_ok=True)
    expected = json.loads(expected_path().read_text()) if expected_path().exists() else {}
    for name, estimator in ROWS.items():
        if path_of(name).exists():
            continue
        y = np.arange(len(X)) % 3 if hasattr(estimator, "predict") else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            model = clone(estimator).fit(rows_of(name), y)
        model.save(path_of(name))
        expected[name] = outputs(name, model)
    expected_path().write_text(json.dumps(expected, indent=None) + "\n")


if __name__ == "__main__":
    write_missing()
