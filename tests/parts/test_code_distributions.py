"""Distributions of codes against those of torch: log q, divergence, means, samples, and relaxed samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    kl_divergence,
)

from isthmus.parts.code_distributions import (
    BernoulliUnits,
    CategoricalVariables,
    CodeDistribution,
    DiagonalNormal,
    FullNormal,
    Relaxation,
)
from isthmus.parts.sampling import RowGenerators, enumerate_states

N_ROWS, CODE_SIZE = 3, 6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Row:
    """A distribution of 6 units of the code of 3 rows.

    Attributes:
        build: function of (batch, n) free numbers that returns the distribution.
        n_numbers: n.
        oracle: function of the distribution that returns the one of torch, of codes in blocks as torch has them.
        prior: the standard prior, as torch has it.
        blocks: function of codes that returns those of torch.
    """

    build: Callable[[Tensor], CodeDistribution]
    n_numbers: int
    oracle: Callable[[CodeDistribution], Distribution]
    prior: Distribution
    blocks: Callable[[Tensor], Tensor] = lambda code: code


def full(free: Tensor) -> FullNormal:
    below = torch.tril(free[:, 2 * CODE_SIZE :].unflatten(-1, (CODE_SIZE, CODE_SIZE)), -1)
    return FullNormal(free[:, :CODE_SIZE], free[:, CODE_SIZE : 2 * CODE_SIZE], below)


def ones(size: int) -> Tensor:
    return torch.ones(size, dtype=torch.float64)


TABLE = {
    "diagonal": Row(
        lambda free: DiagonalNormal(*free.chunk(2, -1)),
        2 * CODE_SIZE,
        lambda q: Independent(Normal(q.mean, (0.5 * q.log_variance).exp()), 1),
        Independent(Normal(0 * ones(CODE_SIZE), ones(CODE_SIZE)), 1),
    ),
    "full": Row(
        full,
        2 * CODE_SIZE + CODE_SIZE**2,
        lambda q: MultivariateNormal(q.mean, scale_tril=q.scale_tril),
        MultivariateNormal(0 * ones(CODE_SIZE), torch.eye(CODE_SIZE, dtype=torch.float64)),
    ),
    "bernoulli": Row(
        BernoulliUnits,
        CODE_SIZE,
        lambda q: Independent(Bernoulli(logits=q.logits), 1),
        Independent(Bernoulli(probs=0.5 * ones(CODE_SIZE)), 1),
    ),
    "categorical": Row(
        lambda free: CategoricalVariables(free.unflatten(-1, (2, 3))),
        CODE_SIZE,
        lambda q: Independent(OneHotCategorical(logits=q.logits), 1),
        Independent(OneHotCategorical(probs=torch.ones(2, 3, dtype=torch.float64) / 3), 1),
        lambda code: code.unflatten(-1, (2, 3)),
    ),
}
every_distribution = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
every_discrete = pytest.mark.parametrize("row", [TABLE["bernoulli"], TABLE["categorical"]], ids=["units", "variables"])


@every_distribution
def test_log_probabilities_means_and_divergences_are_those_of_torch(row):
    q = row.build(numbers(N_ROWS, row.n_numbers))
    oracle, code = row.oracle(q), q.sample(5, seeded(1))
    torch.testing.assert_close(q.log_prob(code), oracle.log_prob(row.blocks(code)))
    torch.testing.assert_close(row.blocks(q.mean), oracle.mean)
    torch.testing.assert_close(q.divergence().sum(-1), kl_divergence(oracle, row.prior.expand(oracle.batch_shape)))
    assert (q.divergence() >= 0).all()


@every_distribution
def test_samples_have_the_mean_and_the_covariance_of_the_distribution(row):
    q, n = row.build(numbers(N_ROWS, row.n_numbers)), 40_000
    samples = q.sample(n, seeded(1))
    others = row.oracle(q).sample((n,)).reshape(samples.shape)
    for i in range(N_ROWS):
        scale = samples[:, i].std(0)
        assert ((samples[:, i].mean(0) - q.mean[i]).abs() < 5 * scale / math.sqrt(n)).all()
        error = (samples[:, i].T.cov() - others[:, i].T.cov()).abs()
        assert error.max() < 10 * scale.max() ** 2 / math.sqrt(n)


@every_distribution
def test_samples_of_a_row_depend_on_its_generator_and_one_number_for_all_rows_is_broadcast(row):
    q = row.build(numbers(N_ROWS, row.n_numbers))
    alone = row.build(numbers(N_ROWS, row.n_numbers)[1:2])
    both = q.sample(4, RowGenerators([seeded(s) for s in range(N_ROWS)]))
    torch.testing.assert_close(both[:, 1:2], alone.sample(4, RowGenerators([seeded(1)])))
    shared = q.noise(torch.empty(4, 1, CODE_SIZE, dtype=torch.float64), seeded(2))
    torch.testing.assert_close(q.draw(shared)[:, 1:2], alone.draw(shared))


@every_distribution
def test_a_constant_distribution_is_equal_and_has_no_gradient(row):
    free = numbers(N_ROWS, row.n_numbers).requires_grad_()
    q = row.build(free)
    code = q.sample(2, seeded(1)).detach()
    assert q.log_prob(code).requires_grad
    assert not q.constant().log_prob(code).requires_grad
    assert torch.equal(q.constant().log_prob(code), q.log_prob(code))


@every_distribution
@pytest.mark.parametrize("size", [-1e6, -40.0, 40.0, 1e6])
def test_extreme_parameters_of_discrete_codes_and_means_give_finite_values_and_gradients(row, size):
    free = numbers(N_ROWS, row.n_numbers).float()
    free[:, 0] = size
    q = row.build(free.requires_grad_())
    code = q.sample(3, seeded(1))
    total = q.log_prob(code.detach()).sum() + q.divergence().sum() + code.sum()
    (gradient,) = torch.autograd.grad(total, free)
    assert total.isfinite()
    assert gradient.isfinite().all()


# -- the full covariance ----------------------------------------------------------------------------------


def test_the_divergence_of_a_unit_is_that_of_its_prefix_minus_that_of_the_one_before():
    q = TABLE["full"].build(numbers(N_ROWS, TABLE["full"].n_numbers))
    of_prefixes = [torch.zeros(N_ROWS, dtype=torch.float64)]
    for j in range(1, CODE_SIZE + 1):
        marginal = MultivariateNormal(q.mean[:, :j], scale_tril=q.scale_tril[:, :j, :j])
        prior = MultivariateNormal(0 * ones(j), torch.eye(j, dtype=torch.float64)).expand((N_ROWS,))
        of_prefixes.append(kl_divergence(marginal, prior))
    torch.testing.assert_close(q.divergence(), torch.stack(of_prefixes, -1).diff(dim=-1))


def test_without_entries_below_the_diagonal_a_full_covariance_is_a_diagonal_one():
    free = numbers(N_ROWS, TABLE["full"].n_numbers)
    free[:, 2 * CODE_SIZE :] = 0
    q, diagonal = full(free), DiagonalNormal(*free[:, : 2 * CODE_SIZE].chunk(2, -1))
    noise = numbers(4, N_ROWS, CODE_SIZE, seed=1)
    torch.testing.assert_close(q.draw(noise), diagonal.draw(noise))
    torch.testing.assert_close(q.log_prob(noise), diagonal.log_prob(noise))
    torch.testing.assert_close(q.divergence(), diagonal.divergence())


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_squared_distances_are_those_of_the_covariance(name):
    row = TABLE[name]
    q = row.build(numbers(N_ROWS, row.n_numbers))
    oracle, code = row.oracle(q), numbers(4, N_ROWS, CODE_SIZE, seed=1)
    covariance = oracle.covariance_matrix if name == "full" else torch.diag_embed(oracle.variance)
    e = code - q.mean
    expected = (e * torch.linalg.solve(covariance, e.unsqueeze(-1)).squeeze(-1)).sum(-1)
    torch.testing.assert_close(q.squared_distance(code), expected)


# -- discrete codes -----------------------------------------------------------------------------------------


@every_discrete
def test_the_probabilities_of_all_codes_sum_to_1_and_other_codes_have_none(row):
    q = row.build(numbers(N_ROWS, row.n_numbers))
    codes = enumerate_states([2] * CODE_SIZE, 0, 2**CODE_SIZE).double()
    log_p = q.log_prob(codes[:, None])
    torch.testing.assert_close(log_p.exp().sum(0), ones(N_ROWS))
    assert q.log_prob(0.5 * codes[-1:].expand(N_ROWS, -1)).tolist() == [-math.inf] * N_ROWS
    assert q.squared_distance(codes[:, None]) is None


@every_discrete
def test_samples_are_codes_of_0_and_1(row):
    q = row.build(numbers(N_ROWS, row.n_numbers))
    samples = q.sample(50, seeded(1))
    assert samples.unique().tolist() == [0.0, 1.0]
    assert q.log_prob(samples).isfinite().all()


@every_discrete
def test_a_uniform_number_of_0_gives_finite_relaxed_samples(row):
    q = replace(row.build(numbers(N_ROWS, row.n_numbers).float()), relaxation=Relaxation(0.5))
    for u in (0.0, 1 - 2**-24):
        assert q.draw(torch.full((1, N_ROWS, CODE_SIZE), u)).isfinite().all()


RELAXED = {
    "bernoulli": lambda logits, t: RelaxedBernoulli(t, logits=logits),
    "categorical": lambda logits, t: RelaxedOneHotCategorical(t, logits=logits),
}


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", RELAXED)
def test_relaxed_samples_are_distributed_as_those_of_torch(name, temperature):
    q = replace(TABLE[name].build(numbers(1, CODE_SIZE)), relaxation=Relaxation(temperature))
    assert q.is_relaxed
    found = q.sample(3000, seeded(1)).flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        others = RELAXED[name](q.logits, torch.tensor(temperature)).sample((3000,)).flatten(1)
    for j in range(CODE_SIZE):
        assert ks_2samp(found[:, j], others[:, j]).pvalue > 1e-4


@every_discrete
def test_relaxed_samples_approach_the_states_of_the_same_numbers(row):
    states = row.build(numbers(N_ROWS, row.n_numbers))
    relaxed = replace(states, relaxation=Relaxation(1e-5))
    torch.testing.assert_close(relaxed.sample(20, seeded(1)), states.sample(20, seeded(1)))


@every_discrete
def test_straight_through_samples_are_states_with_the_gradient_of_relaxed_ones(row):
    free, weight = numbers(N_ROWS, row.n_numbers).requires_grad_(), numbers(4, N_ROWS, CODE_SIZE, seed=3)
    found = {}
    for straight_through in (True, False):
        q = replace(row.build(free), relaxation=Relaxation(0.7, straight_through))
        code = q.sample(4, seeded(1))
        found[straight_through] = code, torch.autograd.grad((code * weight).sum(), free)[0]
        assert q.is_relaxed != straight_through
    assert torch.equal(found[True][0], row.build(free).sample(4, seeded(1)))
    torch.testing.assert_close(found[True][1], found[False][1])
    assert found[True][1].abs().min() > 0
