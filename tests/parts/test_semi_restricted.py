"""Lateral weights among hidden units, against enumeration of a small model."""

import itertools

import pytest
import torch

from isthmus import InputError, RestrictedBoltzmannMachine
from isthmus.evaluation.partition import annealed_importance_sampling
from isthmus.learning.chains import BlockGibbs, ChainState, run_chain
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.semi_restricted import SemiRestrictedRBMEnergy

CONFIGS = [{"name": "bernoulli"}, {"name": "gaussian-per-column"}]


def all_states(n_units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n_units)), dtype=torch.float64)


def make_rbm(config=CONFIGS[0], n_columns=4, n_hidden=3, strength=1.5, **options):
    generator = torch.Generator().manual_seed(0)
    made = SemiRestrictedRBMEnergy(
        likelihood_from(config, n_columns), n_hidden, weight_scale=0.8, generator=generator, **options
    )
    with torch.no_grad():
        for value, scale in ((made.visible_bias, 0.5), (made.hidden_bias, 0.5), (made.free_lateral, strength)):
            value.copy_(scale * torch.randn(value.shape, generator=generator))
    return made.double()


def rows(n=20, n_columns=4):
    return (torch.rand(n, n_columns, generator=torch.Generator().manual_seed(7)) < 0.4).double()


def exact_free_energy(made, v):
    """Return F(v) and E[h | v] by enumeration of h."""
    h = all_states(made.n_hidden)
    energies = made.energy(v[:, None], h.expand(len(v), -1, -1))
    return -(-energies).logsumexp(1), torch.softmax(-energies, 1) @ h


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["name"])
def test_the_energy_adds_every_pair_to_the_energy_of_the_rbm(config):
    made, v = make_rbm(config), rows(8)
    h = all_states(3)
    pairs = sum(made.lateral[i, j] * h[:, i] * h[:, j] for i in range(3) for j in range(i))
    plain = make_rbm(config, strength=0.0)
    torch.testing.assert_close(made.energy(v, h), plain.energy(v, h) - pairs)
    assert torch.equal(made.lateral, made.lateral.t())
    assert torch.equal(made.lateral.diagonal(), torch.zeros(3).double())


def test_mean_field_bounds_the_free_energy_and_equals_it_without_lateral_weights():
    made, v = make_rbm(), rows()
    free, _ = exact_free_energy(made, v)
    assert bool((made.free_energy(v) >= free - 1e-12).all())
    assert float((made.free_energy(v) - free).detach().max()) < 0.3
    plain = make_rbm(strength=0.0)
    torch.testing.assert_close(plain.free_energy(v), exact_free_energy(plain, v)[0])


def test_no_means_near_the_mean_field_have_a_tighter_bound():
    made, v = make_rbm(n_iterations=200), rows()
    with torch.no_grad():
        a = made(v)
        mu = made.rates(a).clone()
    mu.requires_grad_()
    entropy = torch.special.entr(mu) + torch.special.entr(1 - mu)
    bound = -(mu * a).sum() - 0.5 * ((mu @ made.lateral.detach()) * mu).sum() - entropy.sum()
    (slope,) = torch.autograd.grad(bound, mu)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


def test_the_gradient_of_the_free_energy_equals_that_through_the_iteration():
    made, v = make_rbm(n_iterations=200), rows()
    weights = [made.free_lateral, made.weight, made.hidden_bias]
    fixed = torch.autograd.grad(made.free_energy(v).sum(), weights)
    a = made(v)
    mu = made.rates(a)
    entropy = torch.special.entr(mu) + torch.special.entr(1 - mu)
    unrolled = made.visible.energy(v, made.visible_bias).sum() - (mu * a).sum() - entropy.sum()
    unrolled = unrolled - 0.5 * ((mu @ made.lateral) * mu).sum()
    for ours, theirs in zip(fixed, torch.autograd.grad(unrolled, weights), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["name"])
def test_the_sum_over_codes_is_the_partition(config):
    made = make_rbm(config)
    v = all_states(4)
    if config["name"] == "bernoulli":
        expected = (-exact_free_energy(made, v)[0]).logsumexp(0)
    else:  # exp(-E) of a code, integrated: V is a Gaussian's
        h = all_states(3)
        a, variance = made.visible_bias + h @ made.weight, made.likelihood.variance
        square = 0.5 * ((a**2 - made.visible_bias**2) / variance + (2 * torch.pi * variance).log()).sum(1)
        pairs = 0.5 * ((h @ made.lateral) * h).sum(1)
        expected = (square + h @ made.hidden_bias + pairs).logsumexp(0)
    torch.testing.assert_close(made.log_partition(), expected.detach())


def test_gibbs_steps_keep_the_distribution_of_the_model():
    made, n = make_rbm(), 40000
    generator = torch.Generator().manual_seed(1)
    v, h = all_states(4), all_states(3)
    energies = made.energy(v[:, None].expand(-1, 8, -1), h.expand(16, -1, -1)).flatten()
    states = torch.multinomial(torch.softmax(-energies, 0), n, replacement=True, generator=generator)
    state = run_chain(BlockGibbs(made), ChainState(h[states % 8], v[states // 8]), 3, generator)
    p = torch.softmax(-energies, 0).view(16, 8).sum(0)
    numbers = (state.h @ torch.tensor([4.0, 2.0, 1.0]).double()).long()
    torch.testing.assert_close(
        torch.bincount(numbers, minlength=8) / n, p.detach(), atol=0.01, rtol=0, check_dtype=False
    )


def test_the_contrast_has_the_gradient_of_the_bound_for_chains_sampled_from_the_model():
    made, v, n = make_rbm(), rows(64), 60000
    objective = ContrastiveDivergence(made, n_chains=n, centred=False).double()
    generator = torch.Generator().manual_seed(1)
    p = torch.softmax(-made.hidden_free_energy(all_states(3)), 0)
    objective.density.particles.copy_(all_states(3)[torch.multinomial(p, n, replacement=True, generator=generator)])
    weights = dict(made.named_parameters())
    terms, _ = objective.terms(Batch(v), 0.0, generator)
    ours = torch.autograd.grad(terms["contrast"].mean(), list(weights.values()))
    loss = made.free_energy(v).mean() + (-made.hidden_free_energy(all_states(3))).logsumexp(0)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, list(weights.values())), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.015, rtol=0)


def test_methods_that_need_independent_hidden_units_raise():
    made = make_rbm()
    with pytest.raises(InputError, match="annealed importance sampling needs hidden units that are independent"):
        annealed_importance_sampling(made, torch.Generator())
    with pytest.raises(InputError, match="the pseudo-likelihood has no closed form with lateral weights"):
        made.conditional_logits(rows(), torch.zeros(20, dtype=torch.long))
    with pytest.raises(InputError, match="n_iterations=0: it must be a whole number of at least 1"):
        make_rbm(n_iterations=0)
    for changes in ({"method": "score"}, {"hidden_units": "rectified"}):
        with pytest.raises(InputError, match="lateral=True has binary hidden units and learns by chains"):
            RestrictedBoltzmannMachine(code_size=2, lateral=True, max_epochs=1, **changes).fit(rows().numpy())
