"""The local rule against numpy and against the gradient that it approximates."""

import numpy as np
import pytest
import torch

from isthmus import InputError, RecirculationAutoencoder
from isthmus.learning.recirculation import Recirculation
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP

CANONICAL = ("gaussian", "bernoulli", "categorical", "poisson", "multinomial")
"""Likelihoods whose parameters' gradient is r - x."""


def loop(regression, name="gaussian", *, symmetric=True, tied=False, activation="sigmoid"):
    generator = torch.Generator().manual_seed(0)
    encoder = MLP((6, 3), generator=generator)
    decoder = TiedMLP(encoder) if tied else MLP((3, 6), generator=generator)
    if symmetric and not tied:
        decoder.affine_maps[0].weight.data = encoder.affine_maps[0].weight.data.t().clone()
    likelihood = likelihood_from({"name": name}, 6)
    return Recirculation(Coder(EncoderMap(encoder, activation), decoder, likelihood), regression=regression).double()


def rows(name="gaussian", n=5):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    if name == "categorical":
        return torch.eye(6, dtype=torch.float64)[:n]
    return x if name == "gaussian" else (x > 0).double()


def gradient(objective, value):
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(objective.parameters()))])


def rule(objective, batch):
    return gradient(objective, objective.terms(batch, 0.0, None)[0]["reconstruction"].sum())


def truth(objective, batch):
    return gradient(objective, objective.nll(objective(batch)).sum())


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_the_gradient_of_the_surrogate_equals_the_rule_in_numpy():
    objective = loop(0.75, symmetric=False)
    (up,), (down,) = objective.coder.encoder.affine_maps, objective.coder.decoder.affine_maps
    W, b, V, c = (part.detach().numpy() for part in (up.weight, up.bias, down.weight, down.bias))
    x = rows().numpy()
    h_1 = 1 / (1 + np.exp(-(x @ W.T + b)))
    x_2 = 0.75 * x + 0.25 * (h_1 @ V.T + c)
    h_3 = 1 / (1 + np.exp(-(x_2 @ W.T + b)))
    objective.terms(Batch(rows()), 0.0, None)[0]["reconstruction"].sum().backward()
    np.testing.assert_allclose(up.weight.grad.numpy(), -(h_1 - h_3).T @ x_2, atol=1e-12)
    np.testing.assert_allclose(up.bias.grad.numpy(), -(h_1 - h_3).sum(0), atol=1e-12)
    np.testing.assert_allclose(down.weight.grad.numpy(), -(x - x_2).T @ h_1, atol=1e-12)
    np.testing.assert_allclose(down.bias.grad.numpy(), -(x - x_2).sum(0), atol=1e-12)


@pytest.mark.parametrize("name", CANONICAL)
def test_with_symmetric_weights_the_rule_converges_to_the_gradient_of_the_nll(name):
    batch = Batch(rows(name))
    cosines = [cosine(rule(loop(r, name), batch), truth(loop(r, name), batch)) for r in (0.0, 0.75, 0.99, 0.9999)]
    assert cosines == sorted(cosines)
    assert cosines[-1] > 1 - 1e-6
    objective = loop(0.9999, name)
    torch.testing.assert_close(rule(objective, batch) / 1e-4, truth(objective, batch), rtol=1e-2, atol=1e-2)


def test_with_tied_weights_both_rules_sum_to_the_gradient():
    objective, batch = loop(0.9999, tied=True), Batch(rows())
    assert cosine(rule(objective, batch), truth(objective, batch)) > 1 - 1e-7


def test_logistic_outputs_follow_the_cross_entropy_for_both_binary_likelihoods():
    batch = Batch(rows("bernoulli"))
    squares, crossed = loop(0.9999, "gaussian-unit"), loop(0.9999, "bernoulli")
    torch.testing.assert_close(rule(squares, batch), rule(crossed, batch))
    assert cosine(rule(squares, batch), truth(squares, batch)) < 0.999


def test_without_symmetry_only_the_rule_of_the_decoder_is_a_gradient():
    objective, batch = loop(0.3, symmetric=False), Batch(rows())
    ours, true = rule(objective, batch), truth(objective, batch)
    n_encoder = 3 * 6 + 3
    torch.testing.assert_close(ours[n_encoder:] / 0.7, true[n_encoder:])
    near = rule(loop(0.9999, symmetric=False), batch)
    assert cosine(near[:n_encoder], true[:n_encoder]) < 0.9


def test_a_missing_entry_is_the_same_on_both_passes():
    objective, x = loop(0.5), rows()
    mask = torch.ones_like(x)
    mask[:, 2] = 0
    objective.terms(Batch(x, mask=mask), 0.0, None)[0]["reconstruction"].sum().backward()
    assert not objective.coder.decoder.affine_maps[0].weight.grad[2].any()


def test_the_encoder_problem_is_solved_without_back_propagation():
    X = np.repeat(np.eye(8), 10, axis=0)
    model = RecirculationAutoencoder(code_size=3, max_epochs=100, learning_rate=5, random_state=1).fit(X, validation=X)
    assert (model.reconstruct(np.eye(8)).round() == np.eye(8)).all()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"regression": 1.0}, "regression=1.0: it must be a number from 0 to below 1"),
        ({"regression": "a"}, "regression='a': it must be a number from 0 to below 1"),
        ({"momentum": 0.9}, "has no argument 'momentum'; give optimizer=SGD"),
        ({"likelihood": "gaussian-learned"}, "likelihood='gaussian-learned' has more; use 'gaussian'"),
        ({"optimizer": "sgdd"}, "optimizer='sgdd' is unknown; did you mean 'sgd'"),
    ],
)
def test_unsupported_recirculation_arguments_raise(changes, text):
    with pytest.raises(InputError, match=text):
        RecirculationAutoencoder(code_size=2, max_epochs=1, **changes).fit(np.random.default_rng(0).normal(size=(9, 3)))
