"""Annealed importance sampling, the pseudo-likelihood and the free-energy gap against enumeration."""

import math

import pytest
import torch

from isthmus import InputError
from isthmus.evaluation.partition import (
    AnnealingPath,
    adaptive_betas,
    annealed_importance_sampling,
    free_energy_gap,
    log_pseudo_likelihood,
    reverse_annealed_importance_sampling,
)
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.likelihoods import likelihood_from

CATEGORICAL = {"name": "categorical", "groups": [[0, 1, 2], [3, 4], [5, 6, 7, 8]]}


def random_rbm(seed, config=None, n_columns=None, hidden="bernoulli", scale=None):
    """A random RBM of up to 12 x 12 units; some seeds have large weights."""
    generator = torch.Generator().manual_seed(seed)
    wide, tall = (int(torch.randint(4, 13, (), generator=generator)) for _ in range(2))
    config = config or {"name": "bernoulli"}
    scale = scale or (0.3, 0.7, 1.2, 2.0)[seed % 4]
    made = RBMEnergy(
        likelihood_from(config, n_columns or wide), tall, hidden=hidden, weight_scale=scale, generator=generator
    )
    with torch.no_grad():
        for bias in (made.visible_bias, made.hidden_bias, *made.likelihood.parameters()):
            bias.copy_(torch.randn(bias.shape, generator=generator))
    return made, generator


def model_draws(made, n, generator):
    """Exact samples, by enumeration of the hidden layer."""
    h = torch.cat(list(made._hidden_states()))
    p = torch.softmax(-made.hidden_free_energy(h).detach(), 0)
    return made.sample_visible(h[torch.multinomial(p, n, replacement=True, generator=generator)], generator)


@pytest.mark.parametrize("seed", range(20))
def test_log_z_is_estimated_within_a_tenth_of_a_nat_and_bracketed_by_the_reverse(seed):
    made, generator = random_rbm(seed)
    exact = float(made.log_partition())
    below = annealed_importance_sampling(made, generator, n_chains=100, n_temperatures=150)
    above = reverse_annealed_importance_sampling(made, model_draws(made, 100, generator), generator, betas=below.betas)
    assert below.log_partition == pytest.approx(exact, abs=0.1)
    assert above.log_partition == pytest.approx(exact, abs=0.1)
    assert below.interval[0] <= exact <= above.interval[1]
    assert below.effective_sample_size > 70


@pytest.mark.parametrize(
    ("config", "n_columns"), [({"name": "gaussian"}, 5), ({"name": "gaussian-per-column"}, 5), (CATEGORICAL, 9)]
)
def test_every_kind_of_visible_unit_can_be_annealed(config, n_columns):
    made, generator = random_rbm(2, config, n_columns, scale=0.4)
    base = 0.5 * made.visible_bias.detach()
    estimate = annealed_importance_sampling(made, generator, n_chains=200, n_temperatures=200, base=base)
    assert estimate.log_partition == pytest.approx(float(made.log_partition()), abs=0.1)


def test_word_counts_have_a_log_z_for_each_number_of_words():
    made, generator = random_rbm(1, {"name": "multinomial"}, 6)
    for total in (1, 7):
        estimate = annealed_importance_sampling(made, generator, n_chains=200, n_temperatures=200, total=total)
        assert estimate.log_partition == pytest.approx(float(made.log_partition(total)), abs=0.1)


def test_the_standard_error_is_the_standard_deviation_of_the_estimates():
    made, generator = random_rbm(3)
    betas = torch.linspace(0, 1, 15)
    runs = [annealed_importance_sampling(made, generator, n_chains=50, betas=betas) for _ in range(60)]
    scatter = torch.tensor([run.log_partition for run in runs]).std()
    told = torch.tensor([run.standard_error for run in runs]).mean()
    assert 0.6 < scatter / told < 1.7


def test_with_few_temperatures_forward_estimates_are_too_low_and_reverse_ones_too_high():
    made, generator = random_rbm(3, scale=3.0)
    exact, betas = float(made.log_partition()), torch.linspace(0, 1, 4)
    draws = model_draws(made, 30 * 20, generator).split(20)
    below = [annealed_importance_sampling(made, generator, n_chains=20, betas=betas).log_partition for _ in draws]
    above = [reverse_annealed_importance_sampling(made, v, generator, betas=betas).log_partition for v in draws]
    assert sum(below) / 30 < exact < sum(above) / 30
    estimate = annealed_importance_sampling(made, generator, n_chains=20, betas=betas)
    assert 1 <= estimate.effective_sample_size <= 20
    assert estimate.interval[0] < estimate.log_partition < estimate.interval[1]


def test_adaptive_temperatures_have_a_smaller_variance_than_even_ones():
    made, generator = random_rbm(7, scale=1.0)
    with torch.no_grad():
        made.weight.mul_(4)
    chosen = adaptive_betas(AnnealingPath(made), 60, generator)
    assert len(chosen) == 60
    assert chosen[0] == 0
    assert chosen[-1] == 1
    assert (chosen.diff() > 0).all()
    variance = {
        name: annealed_importance_sampling(made, generator, n_chains=2000, betas=betas).log_weights.var()
        for name, betas in (("chosen", chosen), ("even", torch.linspace(0, 1, 60)))
    }
    assert variance["chosen"] < variance["even"]


def test_hidden_units_without_exact_samples_are_refused():
    made, generator = random_rbm(0, hidden="rectified")
    with pytest.raises(
        InputError, match="needs exact samples of the hidden units, and those of hidden_units='rectified' are"
    ):
        annealed_importance_sampling(made, generator)


def test_the_standard_error_of_one_chain_is_infinite():
    made, generator = random_rbm(0)
    assert annealed_importance_sampling(made, generator, n_chains=1, n_temperatures=50).standard_error == math.inf


def test_the_pseudo_likelihood_is_that_of_each_column_given_the_others():
    made, generator = random_rbm(1)
    made = made.double()
    v = model_draws(made, 5, generator)
    total = torch.zeros(5).double()
    for j in range(v.shape[1]):
        other = v.clone()
        other[:, j] = 1 - v[:, j]
        pair = torch.stack([-made.free_energy(v), -made.free_energy(other)])
        total += torch.log_softmax(pair, 0)[0].detach()
    torch.testing.assert_close(log_pseudo_likelihood(made, v, block=2), total)
    gaussian, _ = random_rbm(1, {"name": "gaussian"}, 4)
    with pytest.raises(InputError, match="the pseudo-likelihood needs binary columns; found likelihood='gauss"):
        log_pseudo_likelihood(gaussian, v)


def test_the_free_energy_gap_is_positive_for_less_probable_rows():
    made, generator = random_rbm(3)
    draws = model_draws(made, 400, generator)
    assert abs(free_energy_gap(made.free_energy, draws[:200], draws[200:])) < 1.0
    assert (
        free_energy_gap(made.free_energy, draws, (torch.rand(400, draws.shape[1], generator=generator) < 0.5).float())
        > 1
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_chains": 0}, "n_chains=0"),
        ({"n_temperatures": 1}, "n_temperatures=1 must be an integer of at least 2"),
        ({"betas": torch.tensor([0.0, 0.7, 0.5, 1.0])}, "betas must increase strictly from 0"),
        ({"betas": torch.tensor([0.1, 1.0])}, "betas must increase strictly from 0"),
    ],
)
def test_invalid_annealing_arguments_are_refused(arguments, text):
    made, generator = random_rbm(0)
    with pytest.raises(InputError, match=text):
        annealed_importance_sampling(made, generator, **arguments)
