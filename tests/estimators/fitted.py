"""One fitted model of every row of the table of kinds, shared by the tests that only read it."""

import copy

import torch
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


def criterion(model):
    """The criterion of a fitted model, built around a copy of its parts."""
    return copy.deepcopy(model)._with_criterion().objective


def state(module):
    """A copy of the tensors of a module."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def kept_state(model):
    """A copy of the tensors of the parts that a model keeps."""
    return state(model._parts)


def equal(a, b):
    """True if two states have the same names and bit-equal tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
