"""The recurrence against numpy and against the feed-forward stack with the same parameters."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from isthmus import DeepRecurrentAutoencoder, InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import Stack, stacked_coder
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import Masking
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP
from isthmus.parts.recurrence import Recurrence

SIZES = (7, 5, 4, 3)


def layers(sizes=SIZES, *, tied=False, rate=None):
    generator = torch.Generator().manual_seed(0)
    made = []
    for n, m in pairwise(sizes):
        encoder = MLP((n, m), generator=generator)
        decoder = TiedMLP(encoder) if tied else MLP((m, n), generator=generator)
        corruption = None if rate is None or made else Masking(rate)
        likelihood = likelihood_from({"name": "bernoulli"}, n)
        coder = Coder(EncoderMap(encoder, "sigmoid"), decoder, likelihood)
        made.append(Reconstruction(coder, corruption=corruption).double())
    return made


def recurrent_stack(made, *, n_sweeps):
    coders = [layer.coder for layer in made]
    feed_forward = stacked_coder(coders)
    coder = Coder(Recurrence(coders, n_sweeps=n_sweeps), feed_forward.decoder, feed_forward.likelihood)
    return Stack(made, coder, corruption=made[0].corruption)


def rows(n=6):
    return torch.rand(n, SIZES[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def written_out(made, x, n_sweeps):
    """Return the codes after each sweep, computed with numpy alone."""
    maps = [(layer.coder.encoder.affine_maps[0], layer.coder.decoder.affine_maps[0]) for layer in made]
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
    stack = recurrent_stack(made, n_sweeps=4)
    np.testing.assert_allclose(
        stack.coder.inference.codes_by_sweep(rows()).detach().numpy(), written_out(made, rows(), 4), atol=1e-12
    )
    np.testing.assert_allclose(
        stack.coder.encode(Batch(rows())).code.detach(), written_out(made, rows(), 4)[-1], atol=1e-12
    )


@pytest.mark.parametrize("tied", [False, True])
def test_without_sweeps_it_is_the_feed_forward_stack_with_the_same_parameters(tied):
    made = layers(tied=tied)
    plain, recurrent, batch = Stack(made), recurrent_stack(made, n_sweeps=0), Batch(rows())
    seeded = torch.Generator().manual_seed(0)
    torch.testing.assert_close(recurrent(batch).parameters, plain(batch).parameters)
    torch.testing.assert_close(recurrent.terms(batch, 0, seeded)[0], plain.terms(batch, 0, seeded)[0])
    for n_sweeps in (0, 3):
        other = recurrent_stack(made, n_sweeps=n_sweeps)
        assert {id(p) for p in other.parameters()} == {id(p) for p in plain.parameters()}


def test_with_zero_input_from_above_and_doubled_input_from_below_a_sweep_is_feed_forward():
    made = layers(SIZES[:3])
    plain = copy.deepcopy(Stack(made))
    with torch.no_grad():
        for parameter in made[1].coder.decoder.parameters():
            parameter.zero_()
        for parameter in made[0].coder.encoder.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(
        recurrent_stack(made, n_sweeps=1).coder.inference.codes_by_sweep(rows())[1],
        plain.coder.encode(Batch(rows())).code,
    )


def test_layers_with_equal_inputs_are_a_fixed_point():
    made = layers(SIZES[:3])
    with torch.no_grad():  # inputs from above and below are equal for every row
        for parameter in (*made[1].coder.decoder.parameters(), made[0].coder.encoder.affine_maps[0].weight):
            parameter.zero_()
        made[1].coder.decoder.affine_maps[0].bias.copy_(made[0].coder.encoder.affine_maps[0].bias)
    codes = recurrent_stack(made, n_sweeps=3).coder.inference.codes_by_sweep(rows())
    torch.testing.assert_close(codes, codes[:1].expand_as(codes))


def test_the_criterion_is_the_mean_over_sweeps_of_the_clean_rows_under_the_corruption():
    stack = recurrent_stack(layers(rate=0.4), n_sweeps=2)
    corrupted = stack.corruption(rows(), torch.Generator().manual_seed(3)).x
    assert not torch.equal(corrupted, rows())
    coder = stack.coder
    nlls = [coder.likelihood.nll(coder.decode(code), rows()) for code in coder.inference.codes_by_sweep(corrupted)[1:]]
    found = stack.terms(Batch(rows()), 0.0, torch.Generator().manual_seed(3))[0]["reconstruction"]
    torch.testing.assert_close(found, torch.stack(nlls).mean(0))


def test_the_gradient_through_the_sweeps_equals_finite_differences():
    stack = recurrent_stack(layers(SIZES[:3]), n_sweeps=3)
    x, weight = rows(2), stack.layers[1].coder.decoder.affine_maps[0].weight

    def criterion(changed):
        return torch.func.functional_call(stack, {name: changed}, (Batch(x), torch.Generator().manual_seed(0)))

    name = "coder.decoder.decoders.0.layers.0.weight"
    assert dict(stack.named_parameters())[name] is weight
    assert torch.autograd.gradcheck(lambda w: stack.nll(criterion(w)).sum(), weight.detach().clone().requires_grad_())


def test_fine_tuning_follows_pretraining_and_a_copy_is_independent():
    X = np.random.default_rng(0).random((60, 6)).round()
    model = DeepRecurrentAutoencoder(hidden_sizes=(5,), code_size=3, max_epochs=2, random_state=0).fit(X)
    assert [record["name"] for record in model.history_["pretraining"]] == ["layer 1 of 2", "layer 2 of 2"]
    assert model.history_["name"] == "fine-tuning"
    recipe = model._with_criterion()
    assert isinstance(recipe.objective.corruption, Masking)
    assert recipe.objective.corruption is recipe.layers[0].corruption
    again, before = copy.deepcopy(model), model.transform(X)
    with torch.no_grad():
        for parameter in again.coder_.parameters():
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


@pytest.mark.parametrize("pretraining", ["joint", "supervised"])
def test_fine_tuning_follows_any_kind_of_pretraining(pretraining):
    X = np.random.default_rng(0).random((60, 6)).round()
    options = {"hidden_sizes": (5,), "code_size": 3, "max_epochs": 2, "random_state": 0}
    model = DeepRecurrentAutoencoder(pretraining=pretraining, **options)
    model.fit(X, np.arange(len(X)) % 2 if pretraining == "supervised" else None)
    assert model.history_["name"] == "fine-tuning"
