"""Energies against enumeration, quadrature and autograd."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from isthmus import InputError
from isthmus.parts.deep_energies import EvenLayerUnits
from isthmus.parts.energies import RBMDecoder, RBMEnergy, nll_by_state
from isthmus.parts.hidden_units import RectifiedHidden, hidden_units, integrated_softplus
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.sampling import bernoulli

CONFIGS = {
    "bernoulli": {"name": "bernoulli"},
    "gaussian": {"name": "gaussian"},
    "gaussian-learned": {"name": "gaussian-learned"},
    "gaussian-per-column": {"name": "gaussian-per-column"},
    "categorical": {"name": "categorical", "groups": [[0, 2], [1, 3, 4]]},
    "multinomial": {"name": "multinomial"},
    "mixed": {
        "name": "mixed",
        "groups": [
            {"unit": "categorical", "columns": [0, 2]},
            {"unit": "binary", "columns": [1]},
            {"unit": "binary", "columns": [3]},
            {"unit": "real", "columns": [4]},
        ],
    },
}
DISCRETE = {
    "bernoulli": CONFIGS["bernoulli"],
    "categorical": CONFIGS["categorical"],
    "mixed": {
        "name": "mixed",
        "groups": [{"unit": "categorical", "columns": [0, 2, 4]}, {"unit": "binary", "columns": [1, 3]}],
    },
}
every_unit = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
every_discrete = pytest.mark.parametrize("config", DISCRETE.values(), ids=DISCRETE)


def machine(config, n_columns=5, n_hidden=3, hidden="bernoulli", seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = RBMEnergy(
        likelihood_from(config, n_columns), n_hidden, hidden=hidden, weight_scale=0.8, generator=generator
    ).double()
    with torch.no_grad():
        for bias in (made.visible_bias, made.hidden_bias, *made.likelihood.parameters()):
            bias.copy_(0.5 * torch.randn(bias.shape, generator=generator))
    return made


def rows(made, n=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return made.visible.sample(torch.randn(n, made.n_visible, generator=generator).double(), generator, total(made, n))


def total(made, n):
    return torch.full((n,), 4.0).double() if made.models_word_counts else None


def all_states(n_units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n_units))).double()


@every_unit
def test_the_free_energy_is_what_summing_every_hidden_state_leaves(config):
    made = machine(config)
    v, h = rows(made), all_states(3)
    enumerated = -torch.stack([-made.energy(v, state.expand(len(v), -1)) for state in h]).logsumexp(0)
    torch.testing.assert_close(made.free_energy(v), enumerated)


@every_unit
def test_the_hidden_mean_is_that_of_every_hidden_state(config):
    made = machine(config)
    v, h = rows(made), all_states(3)
    weight = torch.softmax(torch.stack([-made.energy(v, state.expand(len(v), -1)) for state in h]), 0)
    torch.testing.assert_close(made.hidden_mean(v), torch.einsum("sb,sh->bh", weight, h))


@every_discrete
def test_log_z_is_the_same_summed_over_either_side_and_over_both(config):
    made = machine(config)
    v = torch.cat(list(made._visible_states()))
    h = all_states(3)
    both = torch.stack([-made.energy(v, state.expand(len(v), -1)) for state in h]).flatten().logsumexp(0)
    torch.testing.assert_close((-made.free_energy(v)).logsumexp(0), both)
    torch.testing.assert_close((-made.hidden_free_energy(h)).logsumexp(0), both)
    torch.testing.assert_close(made.log_partition(), both)


@every_discrete
def test_the_visible_mean_is_that_of_every_visible_state(config):
    made = machine(config)
    v, h = torch.cat(list(made._visible_states())), all_states(3)
    for state in h:
        weight = torch.softmax(-made.energy(v, state.expand(len(v), -1)), 0)
        torch.testing.assert_close(made.visible_mean(state[None])[0], weight @ v)


def test_the_states_of_every_discrete_layer_are_all_there_once():
    for config, n in zip(DISCRETE.values(), (32, 6, 12), strict=True):
        states = torch.cat(list(machine(config)._visible_states()))
        assert len(states) == len({tuple(row) for row in states.tolist()}) == n


@pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "gaussian-per-column"])
def test_log_z_of_gaussian_units_is_the_integral_over_the_plane(name):
    made = machine(CONFIGS[name], n_columns=2, n_hidden=2)

    axis = torch.linspace(-14, 14, 561, dtype=torch.float64)  # the trapezoidal rule is exact to rounding for such tails
    plane = torch.cartesian_prod(axis, axis)
    integral = (-made.free_energy(plane)).logsumexp(0) + 2 * math.log(28 / 560)
    torch.testing.assert_close(made.log_partition(), integral, atol=1e-8, rtol=0)


@every_unit
def test_the_conditional_of_v_is_the_likelihood_at_the_parameters_from_above(config):
    made = machine(config)
    v, h = rows(made), all_states(3)[:6]
    joint = -made.energy(v, h)
    ours = joint + made.hidden_free_energy(h, total(made, len(h)))
    nll = made.likelihood.nll(RBMDecoder(made)(h), v)
    if made.models_word_counts:  # the likelihood is of the counts, the energy of the words in their order
        nll = nll + torch.lgamma(v.sum(-1) + 1) - torch.lgamma(v + 1).sum(-1)
    torch.testing.assert_close(-ours, nll)


def test_log_z_of_a_replicated_softmax_is_that_of_all_documents_of_so_many_words():
    made = machine(CONFIGS["multinomial"], n_columns=4, n_hidden=2)
    words = torch.tensor(list(itertools.product(range(4), repeat=3)))
    documents = torch.nn.functional.one_hot(words, 4).sum(1).double()
    torch.testing.assert_close((-made.free_energy(documents)).logsumexp(0), made.log_partition(total=3))


@every_unit
def test_the_gradient_of_the_free_energy_is_minus_the_mean_statistics(config):
    made = machine(config)
    v = rows(made)
    made.free_energy(v).sum().backward()
    torch.testing.assert_close(made.weight.grad, -made.hidden_mean(v).t() @ made.visible.sufficient_statistic(v))
    n = torch.ones(len(v)).double() if total(made, 6) is None else v.sum(1)
    torch.testing.assert_close(made.hidden_bias.grad, -(n[:, None] * made.hidden_mean(v)).sum(0))


def test_the_likelihood_gradient_is_data_minus_model_statistics_by_enumeration():
    made = machine(CONFIGS["bernoulli"])
    v, states = rows(made), torch.cat(list(machine(CONFIGS["bernoulli"])._visible_states()))
    log_z = (-made.free_energy(states)).logsumexp(0)
    nll = (made.free_energy(v) + log_z).mean()
    gradient = torch.autograd.grad(nll, made.weight)[0]
    p = torch.softmax(-made.free_energy(states), 0)
    data = made.hidden_mean(v).t() @ v / len(v)
    model = (p[:, None] * made.hidden_mean(states)).t() @ states
    torch.testing.assert_close(gradient, model - data)


@every_discrete
def test_the_logit_of_a_column_given_the_others_is_the_free_energy_of_its_flip(config):
    made = machine(DISCRETE["bernoulli"])
    v = rows(made)
    columns = torch.tensor([0, 1, 2, 3, 4, 0])
    on, off = v.clone(), v.clone()
    on[torch.arange(6), columns], off[torch.arange(6), columns] = 1.0, 0.0
    expected = made.free_energy(off) - made.free_energy(on)
    torch.testing.assert_close(made.conditional_logits(v, columns), expected)


@every_unit
def test_draws_of_either_layer_have_its_mean(config):
    made = machine(config)
    generator = torch.Generator().manual_seed(3)
    h = all_states(3)[5].expand(20000, -1)
    drawn = made.sample_visible(h, generator, total(made, len(h)))
    expected = made.visible_mean(h[:1], total(made, 1))[0]
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.06, rtol=0)
    v = rows(made, 1).expand(20000, -1)
    torch.testing.assert_close(made.sample_hidden(v, generator).mean(0), made.hidden_mean(v[:1])[0], atol=0.02, rtol=0)


def test_draws_leave_the_global_generator_alone_and_repeat_with_their_own():
    made = machine(CONFIGS["mixed"])
    before = torch.random.get_rng_state()
    first, again = (made.sample_visible(all_states(3), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_integral_of_the_softplus_is_the_dilogarithm():
    a = torch.linspace(-30, 30, 601).double().requires_grad_()
    value = integrated_softplus(a)
    np.testing.assert_allclose(value.detach(), -scipy.special.spence(1 + np.exp(a.detach().numpy())), atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(value.sum(), a)[0], torch.nn.functional.softplus(a), atol=1e-8, rtol=0
    )
    zero = torch.zeros(1).double().requires_grad_()
    assert torch.autograd.grad(integrated_softplus(zero), zero)[0].item() == pytest.approx(math.log(2), abs=1e-9)


def test_a_rectified_unit_is_many_binary_copies_with_falling_biases():
    unit, a = RectifiedHidden(), torch.linspace(-3, 12, 31).double()
    copies = a[:, None] - torch.arange(1, 60) + 0.5
    torch.testing.assert_close(unit.mean(a), torch.sigmoid(copies).sum(1), atol=0.02, rtol=0.02)
    torch.testing.assert_close(
        unit.log_normalizer(a), torch.nn.functional.softplus(copies).sum(1), atol=0.05, rtol=0.02
    )
    drawn = unit.sample(a.expand(40000, -1), torch.Generator().manual_seed(0))
    assert (drawn >= 0).all()
    torch.testing.assert_close(drawn.mean(0)[12:], unit.mean(a)[12:], atol=0.15, rtol=0.02)


def test_rectified_units_over_binary_ones_sum_over_the_visible_side():
    made = machine(CONFIGS["bernoulli"], hidden="rectified")
    v = all_states(5)
    torch.testing.assert_close(made.log_partition(), (-made.free_energy(v)).logsumexp(0))


def test_gaussian_hidden_units_integrate_to_their_free_energy_and_their_mean():
    made = machine(CONFIGS["bernoulli"], n_hidden=2, hidden="gaussian")
    v, axis = all_states(5), torch.linspace(-14, 14, 561, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    log_joint = -made.energy(v[:, None, :].expand(-1, len(plane), -1), plane.expand(len(v), -1, -1))
    torch.testing.assert_close(-made.free_energy(v), log_joint.logsumexp(1) + 2 * math.log(28 / 560))
    torch.testing.assert_close(made.hidden_mean(v), log_joint.softmax(1) @ plane)
    drawn = made.sample_hidden(v[:1].expand(40000, -1), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), made.hidden_mean(v[:1])[0], atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.ones(2).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(made.log_partition(), (-made.free_energy(v)).logsumexp(0))


class Largest(TorchDispatchMode):
    """The entries of the largest tensor that is made."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.entries = max(self.entries, made.numel())
        return made


TABLE = {
    "name": "mixed",
    "groups": [{"unit": "categorical", "columns": [0, 2, 4]}, *({"unit": "binary", "columns": [j]} for j in (1, 3, 5))],
}


@pytest.mark.parametrize("joined", [False, True])
def test_enumerating_a_chunk_of_states_takes_memory_of_the_chunk(joined):
    units = machine(TABLE, n_columns=6).visible
    units = EvenLayerUnits(units, 6 + 2) if joined else units
    n = math.prod(units.sizes)
    bits = list(itertools.product([0.0, 1.0], repeat=5 if joined else 3))
    expected = {(*choice, *others) for choice in np.eye(3).tolist() for others in bits}
    with Largest() as largest:
        stretches = [units.states(start, start + 2) for start in range(0, n, 2)]
    assert largest.entries == 2 * len(stretches[0][0])
    order = [0, 2, 4, 1, 3, 5, *range(6, 8 if joined else 6)]
    assert {tuple(state) for state in torch.cat(stretches)[:, order].tolist()} == expected
    assert n == len(expected)


def test_a_partition_function_too_large_to_enumerate_gives_an_error_with_advice():
    large = RBMEnergy(likelihood_from({"name": "bernoulli"}, 784), 500, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"log Z of 784 visible and 500 hidden units would be a sum over 2\^500, more "
                       r"than 2\^20 states; estimate it by annealed importance sampling"):  # fmt: skip
        large.log_partition()
    assert not large.is_enumerable
    visible = likelihood_from({"name": "bernoulli"}, 784)
    rectified = RBMEnergy(visible, 500, hidden="rectified", generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="annealing needs binary hidden units that are independent given the rows"):
        rectified.log_partition()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_rare_unit_is_as_rare_in_every_precision(dtype):
    rate = torch.full((1_000_000,), 1e-3, dtype=dtype)
    drawn = bernoulli(rate, torch.Generator().manual_seed(0))
    assert drawn.dtype == dtype
    assert drawn.double().mean().item() == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("name", ["gaussian-unit", "continuous-bernoulli", "poisson", "mixture-density"])
def test_a_likelihood_without_a_visible_unit_is_refused(name):
    with pytest.raises(InputError, match=f"likelihood='{name}' has no visible unit of an energy; choose one of: bern"):
        RBMEnergy(likelihood_from({"name": name}, 4), 2, generator=torch.Generator())


def test_other_invalid_arguments_are_refused():
    with pytest.raises(InputError, match="hidden_units 'bernouli' is unknown; did you mean 'bernoulli'"):
        hidden_units("bernouli")
    with pytest.raises(InputError, match="RBMEnergy: size 0 at position 0"):
        RBMEnergy(likelihood_from({"name": "bernoulli"}, 4), 0, generator=torch.Generator())
    words = machine(CONFIGS["multinomial"])
    with pytest.raises(InputError, match="does not model the number of words of a row; give it as total="):
        words.log_partition()
    with pytest.raises(InputError, match="likelihood='gaussian' has infinitely many states"):
        machine(CONFIGS["gaussian"]).visible.states(0, 1)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "multinomial"])
def test_the_nll_of_every_row_under_every_state_is_that_of_the_likelihood(name):
    made = machine(CONFIGS[name])
    x = rows(made)
    mask = torch.ones_like(x)
    mask[1:, [0, 2]] = 0.0
    mask[2:, 1] = 0.0
    mask[3] = 0.0
    parameters = made.down(all_states(3)).detach()
    expected = torch.stack([made.likelihood.nll(r.expand_as(x), x, mask) for r in parameters])
    torch.testing.assert_close(nll_by_state(made.likelihood, parameters, x, mask), expected)


@every_discrete
def test_the_log_marginal_of_observed_entries_is_the_sum_over_the_others(config):
    made = machine(config)
    every = made.visible.states(0, math.prod(made.visible.sizes)).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]]).double()
    if config["name"] == "categorical":
        mask[1:3] = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 1, 0, 0]])  # the columns of a choice are missing together
    v = every[-1].expand(len(mask), -1)
    agrees = ((v[:, None] == every) | (mask[:, None] == 0)).all(2)
    expected = (-made.free_energy(every)).masked_fill(~agrees, -torch.inf).logsumexp(1)
    torch.testing.assert_close(made.log_marginal(v, mask), expected.detach())
