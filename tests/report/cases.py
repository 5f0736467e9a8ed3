"""Small fitted models for every type of data, with too few rows for t-SNE."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse
from sklearn.datasets import load_digits, load_wine

from isthmus import Autoencoder, Convolutional, ConvolutionalAutoencoder, LinearAutoencoder
from isthmus.data.dataset import Documents

NASTY = "<img src=x onerror=body.id=1>&</script>"
"""Text that sets the id of the page's body if a browser executes it."""

QUOTED = """var(--ours) "double" 'single'"""


@dataclass
class Case:
    model: object
    X: object
    labels: object = None
    options: dict = field(default_factory=dict)


def _fitted(kind, X, **options):
    return kind(**{"code_size": 3, "max_epochs": 2, "random_state": 0, **options}).fit(X)


def image_case():
    digits = load_digits()
    X = digits.images[:50].astype(np.uint8) * 15
    return Case(_fitted(Autoencoder, X, hidden_sizes=(8,)), X, digits.target[:50])


def colour_case():
    X = np.random.default_rng(0).uniform(size=(30, 6, 5, 3)).astype(np.float32)
    model = _fitted(ConvolutionalAutoencoder, X, network=Convolutional((4,)))
    return Case(model, X, np.linspace(0, 1, 30) ** 2)


def table_case():
    wine = load_wine(as_frame=True)
    table = wine.data.iloc[::4, :5].copy()
    table.columns = [NASTY, "b<b>&", "ash", QUOTED, "var(--plus)"]
    table["region"] = np.array(["north & west", NASTY, QUOTED])[np.arange(len(table)) % 3]
    table["bottles"] = np.arange(len(table)) % 5
    table.loc[table.index[3], "ash"] = np.nan
    table.index = [f"{NASTY} {i}" for i in range(len(table))]
    labels = [[NASTY, "Barolo", QUOTED][t] for t in wine.target.iloc[::4]]
    model = _fitted(Autoencoder, table, hidden_sizes=(8,), missing="mean")
    return Case(model, table, labels, {"title": f"Wines {NASTY}"})


def text_case():
    words = np.array(["oil", "crude", "barrel", "gold", "silver", "bank", "rate", "wheat", "corn", "grain", "<b>"])
    texts = [" ".join(row) for row in np.random.default_rng(0).choice(words, (40, 6))]
    labels = [["oil", "gold"], ["tin"], [], ["oil"]] * 10
    return Case(_fitted(Autoencoder, Documents(texts), hidden_sizes=(8,)), Documents(texts), labels)


def sparse_case():
    X = scipy.sparse.random(40, 90, 0.1, random_state=0, format="csr")
    return Case(_fitted(LinearAutoencoder, X), X)


CASES = {
    "images": image_case, "colours": colour_case, "table": table_case, "text": text_case, "sparse": sparse_case,
}  # fmt: skip


def narrow_model():
    """A code of one unit, and no validation rows."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("abcd"))
    return _fitted(LinearAutoencoder, X, code_size=1, validation_fraction=0)
