"""One fitted model of every row of the table of kinds, shared by the tests that only read it."""

from sklearn import clone
from sklearn.datasets import load_digits

from .kinds import KINDS

X = load_digits().data[:300]

_FITTED: dict = {}


def fitted(name):
    """The row of the table, fitted once on `X`."""
    if name not in _FITTED:
        _FITTED[name] = clone(KINDS[name]).fit(X)
    return _FITTED[name]
