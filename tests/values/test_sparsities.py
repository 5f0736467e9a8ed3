"""The parts of every sparsity: activation, penalties and constraints."""

from __future__ import annotations

import pytest
import torch

from isthmus import L1, BatchTopK, InputError, JumpReLU, KLRate, LogPenalty, StudentT, TopK
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import UnitColumns
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import LaplacePrior, StudentTPrior
from isthmus.values.sparsities import SPARSITY, dead_units

CODE_SIZE = 64


def coder_of(parts) -> Coder:
    """Return a coder of 16 columns with the activation of a sparsity."""
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((16, CODE_SIZE), (CODE_SIZE, 16)))
    return Coder(EncoderMap(encoder, parts.code_activation), decoder, likelihood_from({"name": "gaussian"}, 16))


@pytest.mark.parametrize("value", [*SPARSITY.values.values(), TopK(k=4, prefixes=(8, 16))], ids=repr)
def test_every_sparsity_has_a_code_and_trainable_terms(value):
    parts = value.parts(CODE_SIZE)
    model = coder_of(parts)
    output = model(Batch(torch.randn(20, 16, generator=torch.Generator().manual_seed(1))))
    terms = {term: penalty(output, model, None) for term, penalty in parts.penalties.items()}
    assert terms
    assert all(term.shape in ((20,), ()) and torch.isfinite(term).all() for term in terms.values())
    sum(term.mean() for term in terms.values()).add(output.parameters.square().mean()).backward()
    assert model.encoder.affine_maps[0].weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in model.code_activation.parameters())


@pytest.mark.parametrize("kind", [TopK, BatchTopK])
def test_k_comes_from_the_rate_where_it_is_not_given(kind):
    assert kind(rate=0.125).parts(CODE_SIZE).code_activation.k == 8
    assert kind(rate=0.125, k=3).parts(CODE_SIZE).code_activation.k == 3
    assert kind(rate=0.001).parts(CODE_SIZE).code_activation.k == 1


def test_the_decoder_is_gathered_for_few_active_units_of_a_large_code():
    assert TopK(k=2).parts(CODE_SIZE).gather
    assert not TopK(k=3).parts(CODE_SIZE).gather
    assert not JumpReLU().parts(CODE_SIZE).gather


def test_priors_of_non_negative_codes_use_the_one_sided_density():
    prior = L1().parts(CODE_SIZE).penalties["sparsity"]
    assert isinstance(prior, LaplacePrior)
    assert prior.non_negative
    linear = StudentT().parts(CODE_SIZE, "linear")
    assert isinstance(linear.penalties["sparsity"], StudentTPrior)
    assert not linear.penalties["sparsity"].non_negative
    assert "dead_units" not in linear.penalties


def test_fields_of_a_value_are_arguments_of_its_parts():
    prior = StudentT(weight=0.2, degrees=3, scale=2).parts(CODE_SIZE).penalties["sparsity"]
    assert (prior.weight, prior.degrees, prior.scale) == (0.2, 3, 2)
    assert LogPenalty(scale=0.5).parts(CODE_SIZE).penalties["sparsity"].scale == 0.5
    activation = JumpReLU(threshold=0.5, bandwidth=0.2).parts(CODE_SIZE).code_activation
    torch.testing.assert_close(activation.log_threshold.exp(), torch.full((CODE_SIZE,), 0.5))
    assert activation.bandwidth == 0.2
    assert TopK(k=4, prefixes=(8, 16)).parts(CODE_SIZE).penalties["prefixes"].prefixes == (8, 16)
    assert "prefixes" not in TopK(k=4).parts(CODE_SIZE).penalties


def test_columns_have_unit_norm_except_for_bounded_units():
    assert isinstance(L1().parts(CODE_SIZE).constraints[0], UnitColumns)
    assert L1(unit_columns=False).parts(CODE_SIZE).constraints == ()
    assert KLRate().parts(CODE_SIZE).constraints == ()


def test_columns_of_a_decoder_that_is_not_linear_have_unit_norm_where_that_is_given():
    assert L1().parts(CODE_SIZE, linear=False).constraints == ()
    assert len(L1(unit_columns=True).parts(CODE_SIZE, linear=False).constraints) == 1


def test_a_unit_is_dead_after_a_hundred_expected_intervals():
    assert TopK(k=2).parts(CODE_SIZE).penalties["dead_units"].dead_after == 3200
    assert L1().parts(CODE_SIZE).penalties["dead_units"].dead_after == 2000
    assert dead_units(CODE_SIZE, 0.1)["dead_units"].dead_after == 1000


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: SPARSITY.expanded("top-k"),
            "sparsity='top-k' is unknown; did you mean 'topk'? Known: l1, student-t, log, kl, topk, batch-topk",
        ),
        (lambda: TopK(k=65).parts(CODE_SIZE), "k=65 active units do not fit a code of 64 units; give k from 1 to 64"),
        (lambda: TopK(prefixes=(8, 64)).parts(CODE_SIZE), "prefixes=(8, 64): 64 is not a whole number from 1 to 63"),
        (lambda: TopK(prefixes=(8, 4)), "prefixes=(8, 4) do not increase; give each number once, in order: [4, 8]"),
        (lambda: TopK(k=0), "k=0: it must be a whole number of at least 1"),
        (lambda: BatchTopK(rate=1.5), "BatchTopK: rate 1.5 is not a rate between 0 and 1; give e.g. 0.05"),
        (lambda: KLRate(rate=1.5), "KLRate: rate 1.5 is not a rate between 0 and 1; give e.g. 0.05"),
        (
            lambda: KLRate().parts(CODE_SIZE, "relu"),
            "sparsity=KLRate() needs units in (0, 1), but code_activation is 'relu'",
        ),
        (
            lambda: TopK(k=2).parts(CODE_SIZE, "relu"),
            "sparsity=TopK(k=2) sets the activation of the code, but code_activation is 'relu'",
        ),
        (lambda: L1(weight=-1.0), "L1: weight -1.0 is invalid; give a finite number of at least 0"),
        (lambda: L1().parts(CODE_SIZE, "rleu"), "code_activation 'rleu' is unknown; did you mean 'relu'?"),
    ],
)
def test_invalid_options_raise(build, text):
    with pytest.raises(InputError) as refused:
        build()
    assert str(refused.value).startswith(text)
