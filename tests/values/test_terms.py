"""Penalties of a list: values and functions, in every kind that takes them."""

import re

import numpy as np
import pytest
import torch
from sklearn.base import clone

import isthmus
from isthmus import (
    L1,
    Autoencoder,
    Contraction,
    ContractiveAutoencoder,
    Convolutional,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    InputError,
    KLRate,
    LogPenalty,
    SparseAutoencoder,
    StudentT,
    TopK,
)
from isthmus.parts.likelihoods import likelihood_from
from isthmus.values.terms import penalties_of

X = np.random.default_rng(0).normal(size=(40, 5))
QUICK = {"code_size": 4, "max_epochs": 1, "random_state": 0, "precision": "fp32"}
KINDS = {
    "deep": Autoencoder(**QUICK),
    "conv": ConvolutionalAutoencoder(network=Convolutional((2,), dense_sizes=()), **QUICK),
    "sparse": SparseAutoencoder(**QUICK),
    "denoising": DenoisingAutoencoder(**QUICK),
    "contractive": ContractiveAutoencoder(**QUICK),
}


def energy(output, coder):
    return 0.1 * output.code.square().sum(-1)


@isthmus.register_penalty("test-spread")
def spread(output, coder):
    """A term of the whole batch."""
    return output.code.var(0).sum()


class Scaled:
    """A penalty with an argument."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, output, coder):
        return self.weight * output.code.abs().sum(-1)


def terms(model):
    return model.history_["epochs"][-1]["terms"]


def fitted(penalties, **options):
    return Autoencoder(penalties=penalties, **QUICK | options).fit(X)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_with_a_criterion_of_its_own_takes_values_and_functions(name):
    plain, model = clone(KINDS[name]).fit(X), clone(KINDS[name]).set_params(penalties=[StudentT(), energy, spread])
    assert terms(model.fit(X)).keys() - terms(plain).keys() == {"student_t", "energy", "spread"}
    assert not np.array_equal(model.transform(X), plain.transform(X))


def test_a_value_in_the_list_is_the_penalty_of_its_argument():
    options = {"network": "mlp", **QUICK}
    alone = ContractiveAutoencoder(contraction=Contraction(0.3), **options).fit(X)
    listed = ContractiveAutoencoder(contraction=None, penalties=[Contraction(0.3)], **options).fit(X)
    np.testing.assert_array_equal(listed.transform(X), alone.transform(X))
    assert terms(listed) == terms(alone)


def test_a_function_counts_with_the_weight_that_it_has():
    by_value = fitted([L1(weight=0.2)], code_activation="relu")
    by_function = fitted([lambda output, coder: 0.2 * output.code.sum(-1)], code_activation="relu")
    np.testing.assert_allclose(by_function.transform(X), by_value.transform(X), atol=1e-6)


def test_terms_have_the_names_of_values_and_functions_and_numbers_where_they_repeat():
    found = penalties_of([L1(), L1(), LogPenalty(), KLRate(), energy, energy, Scaled(0.5)], "sigmoid")
    assert list(found) == ["l1", "l1_2", "log", "rate", "energy", "energy_2", "Scaled"]
    model = ContractiveAutoencoder(penalties=[Contraction(of="reconstruction")], **QUICK).fit(X)
    assert {"contraction", "contraction_2"} <= terms(model).keys()


def named(name):
    """A function with a name."""

    def function(output, coder):
        return output.code.square().sum(-1)

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    "name", ["reconstruction", "sparsity", "dead_units", "gate_reconstruction", "prefixes", "values", "a.b", "<lambda>"]
)
def test_a_function_of_any_name_takes_no_place_of_another_term(name):
    sparse = {"sparsity": TopK(k=2, prefixes=(1, 2)), **QUICK}
    plain, model = SparseAutoencoder(**sparse).fit(X), SparseAutoencoder(penalties=[named(name)], **sparse).fit(X)
    assert terms(plain).keys() < terms(model).keys()
    assert len(terms(model)) == len(terms(plain)) + 1


def test_names_with_numbers_do_not_take_the_place_of_other_terms():
    assert len(penalties_of([L1(), L1(), named("l1_2")], "relu")) == 3


def test_registered_functions_and_values_are_saved(tmp_path):
    model = fitted([spread, L1(0.2), "test-spread", Contraction(0.3)])
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert list(again.penalties) == [spread, L1(0.2), "test-spread", Contraction(0.3)]
    assert again.history_ == model.history_
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(clone(again).fit(X).transform(X), model.transform(X))


@pytest.mark.parametrize(
    ("penalty", "title"),
    [(energy, "energy"), (lambda output, coder: output.code.sum(-1), "<lambda>"), (Scaled(0.5), "Scaled")],
)
def test_other_functions_are_refused_by_name_when_the_model_is_saved(penalty, title, tmp_path):
    model = fitted([L1(), penalty])
    text = rf"penalties holds the function .*{re.escape(title)}, which cannot be saved in a file; decorate it with"
    with pytest.raises(InputError, match=text) as error:
        model.save(tmp_path / "m")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def columns(output, coder):
    return output.code.square()


def number(output, coder):
    return 0.5


@pytest.mark.parametrize(
    ("penalties", "text"),
    [
        ([columns], r"penalty columns returned shape \((\d+), 4\) for codes of shape \(\1, 4\); return shape \(\1,\)"),
        ([number], "penalty number returned float; return a torch tensor of shape"),
        (["l2"], "penalty 'l2' is not registered"),
        (["test-spred"], "penalty 'test-spred' is not registered .*known: .*test-spread"),
        ([L1], "penalties holds <class .*L1'>; give a value such as L1.weight=0.1. or Contraction.., or a function"),
        ([TopK(k=2)], r"penalties holds TopK\(k=2\); give a value such as"),
        ([0.5], "penalties holds 0.5; give a value such as"),
        (
            [L1(unit_columns=True)],
            "penalties holds L1.unit_columns=True.: unit_columns has an effect in sparsity=... alone",
        ),
        ([KLRate()], "penalties holds KLRate.., which needs units in .0, 1., and code_activation is 'linear'"),
        ("l1", "penalties='l1': give a list, of a value such as"),
        ("test-spread", "penalties='test-spread': give a list, of a value such as"),
        (L1(), r"penalties=L1\(\): give a list, of a value such as"),
        (energy, "penalties=<function energy at .*>: give a list, of a value such as"),
        (None, "penalties=None: give a list, of a value such as"),
    ],
)
def test_other_penalties_are_refused_in_one_line(penalties, text):
    with pytest.raises(InputError, match=text) as error:
        fitted(penalties)
    assert "\n" not in str(error.value)


def test_a_term_of_a_function_is_that_of_the_output():
    seen = []

    def watched(output, coder):
        seen.append((output.code.shape, coder.likelihood.name))
        return torch.zeros_like(output.code[:, 0])

    model = fitted([watched], likelihood="gaussian-learned")
    assert likelihood_from(model.likelihood_, 5).name == "gaussian-learned"
    assert {name for _, name in seen} == {"gaussian-learned"}
    assert {shape[1] for shape, _ in seen} == {4}
    assert terms(model)["watched"] == 0
