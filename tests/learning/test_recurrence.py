"""The recurrence against numpy and against the feed-forward stack with the same parameters."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from isthmus import DeepRecurrentAutoencoder, InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.recurrence import RecurrentStack
from isthmus.learning.stacking import Stack
from isthmus.parts.corruptions import build_corruption
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP

SIZES = (7, 5, 4, 3)


def layers(sizes=SIZES, *, tied=False, rate=None):
    generator = torch.Generator().manual_seed(0)
    made = []
    for n, m in pairwise(sizes):
        encoder = MLP((n, m), generator=generator)
        decoder = TiedMLP(encoder) if tied else MLP((m, n), generator=generator)
        corruption = None if rate is None or made else build_corruption("masking", rate=rate, scale=1.0, n_columns=n)
        likelihood = likelihood_from({"name": "bernoulli"}, n)
        made.append(Reconstruction(encoder, decoder, likelihood, "sigmoid", corruption=corruption).double())
    return made


def rows(n=6):
    return torch.rand(n, SIZES[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def written_out(made, x, n_sweeps):
    """Return the codes after each sweep, computed with numpy alone."""
    maps = [(layer.encoder.affine_maps[0], layer.decoder.affine_maps[0]) for layer in made]
    up = [(u.weight.detach().numpy(), u.bias.detach().numpy()) for u, _ in maps]
    down = [(d.weight.detach().numpy(), d.bias.detach().numpy()) for _, d in maps]

    def s(a):
        return 1 / (1 + np.exp(-a))

    h = [x.numpy()]
    for W, b in up:
        h.append(s(h[-1] @ W.T + b))
    codes, top = [h[-1]], len(h) - 1
    for _ in range(n_sweeps):
        for k in [*range(top - 1, 0, -1), *range(2, top + 1)]:
            a = h[k - 1] @ up[k - 1][0].T + up[k - 1][1]
            if k < top:
                a = (a + h[k + 1] @ down[k][0].T + down[k][1]) / 2
            h[k] = s(a)
        codes.append(h[-1])
    return np.stack(codes)


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:3]])
def test_the_sweeps_equal_those_in_numpy(sizes):
    made = layers(sizes)
    stack = RecurrentStack(made, n_sweeps=4)
    np.testing.assert_allclose(stack.codes_by_sweep(rows()).detach().numpy(), written_out(made, rows(), 4), atol=1e-12)
    np.testing.assert_allclose(stack.encode(Batch(rows()))[1].detach(), written_out(made, rows(), 4)[-1], atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_without_sweeps_it_is_the_feed_forward_stack_with_the_same_parameters(tied):
    made = layers(tied=tied)
    plain, recurrent, batch = Stack(made), RecurrentStack(made, n_sweeps=0), Batch(rows())
    torch.testing.assert_close(recurrent(batch).parameters, plain(batch).parameters)
    torch.testing.assert_close(recurrent.terms(batch, 0, None), plain.terms(batch, 0, None))
    for n_sweeps in (0, 3):
        other = RecurrentStack(made, n_sweeps=n_sweeps)
        assert {id(p) for p in other.parameters()} == {id(p) for p in plain.parameters()}


def test_with_zero_input_from_above_and_doubled_input_from_below_a_sweep_is_feed_forward():
    made = layers(SIZES[:3])
    plain = copy.deepcopy(Stack(made))
    with torch.no_grad():
        for parameter in made[1].decoder.parameters():
            parameter.zero_()
        for parameter in made[0].encoder.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(
        RecurrentStack(made, n_sweeps=1).codes_by_sweep(rows())[1], plain.encode(Batch(rows()))[1]
    )


def test_layers_with_equal_inputs_are_a_fixed_point():
    made = layers(SIZES[:3])
    with torch.no_grad():  # inputs from above and below are equal for every row
        for parameter in (*made[1].decoder.parameters(), made[0].encoder.affine_maps[0].weight):
            parameter.zero_()
        made[1].decoder.affine_maps[0].bias.copy_(made[0].encoder.affine_maps[0].bias)
    codes = RecurrentStack(made, n_sweeps=3).codes_by_sweep(rows())
    torch.testing.assert_close(codes, codes[:1].expand_as(codes))


def test_the_criterion_is_the_mean_over_sweeps_of_the_clean_rows_under_the_corruption():
    stack = RecurrentStack(layers(rate=0.4), n_sweeps=2)
    corrupted = stack.corruption(rows(), torch.Generator().manual_seed(3)).x
    assert not torch.equal(corrupted, rows())
    nlls = [stack.likelihood.nll(stack.decoder(code), rows()) for code in stack.codes_by_sweep(corrupted)[1:]]
    found = stack.terms(Batch(rows()), 0.0, torch.Generator().manual_seed(3))["reconstruction"]
    torch.testing.assert_close(found, torch.stack(nlls).mean(0))


def test_the_gradient_through_the_sweeps_equals_finite_differences():
    stack = RecurrentStack(layers(SIZES[:3]), n_sweeps=3)
    x, weight = rows(2), stack.layers[1].decoder.affine_maps[0].weight

    def criterion(changed):
        return torch.func.functional_call(stack, {"decoder.decoders.0.layers.0.weight": changed}, (Batch(x),))

    assert dict(stack.named_parameters())["decoder.decoders.0.layers.0.weight"] is weight
    assert torch.autograd.gradcheck(lambda w: stack.nll(criterion(w)).sum(), weight.detach().clone().requires_grad_())


def test_fine_tuning_follows_pretraining_and_a_copy_is_independent():
    X = np.random.default_rng(0).random((60, 6)).round()
    model = DeepRecurrentAutoencoder(hidden_sizes=(5,), code_size=3, max_epochs=2, random_state=0).fit(X)
    assert [record["name"] for record in model.history_["pretraining"]] == ["layer 1 of 2", "layer 2 of 2"]
    assert model.history_["name"] == "fine-tuning"
    assert model.objective_.corruption is model.objective_.layers[0].corruption
    again, before = copy.deepcopy(model), model.transform(X)
    with torch.no_grad():
        for parameter in again.objective_.parameters():
            parameter.mul_(3)
    np.testing.assert_array_equal(model.transform(X), before)
    assert not np.allclose(again.transform(X), before)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_sweeps": -1}, "n_sweeps=-1: it must be a whole number, 0 or more"),
        ({"hidden_sizes": ()}, r"hidden_sizes=\(\) leaves one layer, and the recurrence needs two"),
        ({"layers": "rbm"}, "is the mean field of a deep Boltzmann machine"),
    ],
)
def test_invalid_recurrence_arguments_raise(changes, text):
    with pytest.raises(InputError, match=text):
        DeepRecurrentAutoencoder(code_size=2, max_epochs=1, **changes).fit(np.random.default_rng(0).random((9, 3)))


@pytest.mark.parametrize("training", ["joint", "supervised"])
def test_fine_tuning_follows_any_kind_of_pretraining(training):
    X = np.random.default_rng(0).random((60, 6)).round()
    model = DeepRecurrentAutoencoder(hidden_sizes=(5,), code_size=3, training=training, max_epochs=2, random_state=0)
    model.fit(X, np.arange(len(X)) % 2 if training == "supervised" else None)
    assert model.history_["name"] == "fine-tuning"
