"""Deep Boltzmann machines against enumeration of small ones, and their gradients against autograd."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from isthmus import InputError
from isthmus.evaluation.partition import annealed_importance_sampling
from isthmus.learning.dbm_objective import DBMObjective, join_layers, layer_objectives, take_bias
from isthmus.learning.deep_densities import DBMDensity
from isthmus.learning.rows import evenly_spaced
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.deep_energies import DBMEnergy, DBMLayerRBM
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.mean_field import MeanField
from isthmus.parts.sampling import bernoulli

from .test_contrastive_divergence import Counting, Memory, all_states

BERNOULLI, GAUSSIAN = {"name": "bernoulli"}, {"name": "gaussian-per-column"}
SHAPES = [(3, 2), (3, 2, 2)]


def deep(sizes=SHAPES[0], config=BERNOULLI, n_columns=4, scale=0.8):
    generator = torch.Generator().manual_seed(0)
    made = DBMEnergy(likelihood_from(config, n_columns), sizes, weight_scale=scale, generator=generator)
    with torch.no_grad():
        for bias in made.biases:
            bias.copy_(0.5 * torch.randn(bias.shape, generator=generator))
    return made.double()


def rows(n=20, n_columns=4):
    return (torch.rand(n, n_columns, generator=torch.Generator().manual_seed(7)) < 0.4).double()


def hidden(made):
    """Return all joint states of the hidden layers, as a list of layers."""
    return list(all_states(sum(made.sizes[1:])).split(made.sizes[1:], 1))


def exact_free_energy(made, v):
    """Return -log of the sum of exp(-E) over all hidden states, per row."""
    units, total = hidden(made), torch.zeros(len(v), len(hidden(made)[0])).double()
    below = made.visible.sufficient_statistic(v)[:, None]
    for k, h in enumerate(units):
        total = total - (below @ made.weights[k].t() * h).sum(-1) - h @ made.biases[k + 1]
        below = h[None]
    return made.visible.energy(v, made.biases[0]) - (-total).logsumexp(1)


def exact_log_partition(made):
    return (-exact_free_energy(made, all_states(made.sizes[0]))).logsumexp(0)


def test_the_bound_of_a_row_with_missing_entries_is_one_on_its_observed_entries():
    made, v, every = deep(scale=0.4), rows(), all_states(4)
    mask = (torch.rand(20, 4, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    log_p = -exact_free_energy(made, every)
    agrees = ((v[:, None] == every) | (mask[:, None] == 0)).all(2)
    exact = log_p.masked_fill(~agrees, -torch.inf).logsumexp(1)
    bound = DBMDensity(made, 1, 10).log_bound(Batch(v, mask=mask))
    assert (bound <= exact).all()
    assert (exact - bound).max() < 0.1


def test_missing_real_columns_do_not_lift_the_bound_over_the_density_of_the_others():
    made = deep(config=GAUSSIAN, n_columns=2)
    with torch.no_grad():
        made.likelihood.free_log_variance.fill_(-4.0)
    grid = torch.linspace(-4, 4, 4001).double()
    along = torch.stack([torch.full_like(grid, 0.3), grid], 1)
    exact = torch.trapezoid((-exact_free_energy(made, along)).exp(), grid).log().detach()
    bound = DBMDensity(made, 1, 10).log_bound(Batch(along[:1], mask=torch.tensor([[1.0, 0.0]]).double()))
    assert float(exact) - 1 < float(bound) <= float(exact)


@pytest.mark.parametrize("config", [BERNOULLI, GAUSSIAN], ids=lambda config: config["name"])
@pytest.mark.parametrize("sizes", SHAPES)
def test_the_mean_field_bounds_the_free_energy_from_above_and_closely(sizes, config):
    made, v = deep(sizes, config), rows()
    with torch.no_grad():
        gap = made.free_energy(v, 50) - exact_free_energy(made, v)
    assert float(gap.min()) >= -1e-12
    assert float(gap.max()) < 0.25


@pytest.mark.parametrize("sizes", SHAPES)
def test_every_round_of_mean_field_lowers_its_free_energy(sizes):
    made, v = deep(sizes, scale=2.0), rows()
    with torch.no_grad():
        course = torch.stack([made.free_energy(v, n) for n in range(30)])
    assert float(course.diff(dim=0).max()) <= 1e-12
    assert float(course[0].sum() - course[-1].sum()) > 0.01


@pytest.mark.parametrize("sizes", SHAPES)
def test_the_mean_field_is_stationary(sizes):
    made, v = deep(sizes), rows()
    mu = [rates.clone().requires_grad_() for rates in made.mean_field(v, 300)]
    for slope in torch.autograd.grad(made.bound_given(v, mu).sum(), mu):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-8, rtol=0)


@pytest.mark.parametrize("sizes", SHAPES)
def test_the_encoder_reproduces_converged_marginals_and_fine_tunes_its_own_weights(sizes):
    made, v = deep(sizes), rows()
    coder = MeanField(made, 200)
    with torch.no_grad():
        settled = coder(v)
        torch.testing.assert_close(settled.sigmoid(), made.mean_field(v, 200)[-1])
        coder.separate_weights()
        torch.testing.assert_close(coder(v), settled)
    coder(v).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in coder.own.parameters())
    assert all(weight.grad is None for weight in made.parameters())


@pytest.mark.parametrize("sizes", SHAPES)
def test_the_sum_over_even_layers_equals_the_enumerated_sum(sizes):
    made = deep(sizes)
    states = [all_states(n) for n in made.sizes]
    grids = [torch.cartesian_prod(*[torch.arange(len(s)) for s in states]).T]
    v, *units = [s[i] for s, i in zip(states, grids[0], strict=True)]
    energies = made.energy(v, units)
    odd = torch.cat(units[::2], 1)
    given, number = torch.unique(odd, dim=0, return_inverse=True)
    expected = torch.stack([-(-energies[number == i]).logsumexp(0) for i in range(len(given))])
    torch.testing.assert_close(made.odd_free_energy(list(given.split(made.odd_sizes, 1))), expected)


@pytest.mark.parametrize("sizes", [*SHAPES, (2, 2, 2, 1)])
def test_the_bipartite_rbm_has_the_same_partition_function(sizes):
    made = deep(sizes)
    torch.testing.assert_close(made.log_partition(), exact_log_partition(made).detach())


def test_the_bipartite_rbm_of_categorical_columns_enumerates_every_state():
    config = {"name": "categorical", "groups": [[0, 1, 2], [3, 4]]}
    made = deep((9, 2), config, n_columns=5)  # fewer even than odd states: the even ones are summed
    v = torch.zeros(6, 5).double()
    for i, (a, b) in enumerate(itertools.product(range(3), range(3, 5))):
        v[i, [a, b]] = 1
    torch.testing.assert_close(made.log_partition(), (-exact_free_energy(made, v)).logsumexp(0).detach())


@pytest.mark.parametrize("config", [BERNOULLI, GAUSSIAN], ids=lambda config: config["name"])
def test_annealing_estimates_the_partition_function(config):
    made, generator = deep((3, 2), config), torch.Generator().manual_seed(0)
    as_bipartite_rbm = made.as_bipartite_rbm()
    found = annealed_importance_sampling(as_bipartite_rbm, generator, n_chains=200, n_temperatures=300)
    assert found.log_partition == pytest.approx(float(as_bipartite_rbm.log_partition()), abs=0.1)


def sampled_contrast(made, v, pretrained, progress=0.0, n=60000):
    """Return the gradients of the contrast by weights and biases, with chains sampled from the model."""
    objective = DBMObjective(made, n_chains=n, centred=False, n_iterations=100, pretrained=pretrained).double()
    generator = torch.Generator().manual_seed(1)
    p = torch.softmax(-made.odd_free_energy([all_states(3)]), 0)
    objective.density.particles.copy_(all_states(3)[torch.multinomial(p, n, replacement=True, generator=generator)])
    terms, _ = objective.terms(Batch(v), progress, generator)
    return torch.autograd.grad(terms["contrast"].mean(), [*made.weights, *made.biases])


@pytest.mark.parametrize("how", [{"pretrained": True}, {"pretrained": False, "progress": 0.6}], ids=str)
def test_the_contrast_has_the_gradient_of_the_bound_for_chains_sampled_from_the_model(how):
    made, v = deep(), rows(64)
    a = made.mean_field(v, 100)
    assert all(rates.requires_grad for rates in a)
    loss = made.bound_given(v, a).mean() + exact_log_partition(made)  # differentiates through all rounds
    expected = torch.autograd.grad(loss, [*made.weights, *made.biases])
    for mine, theirs in zip(sampled_contrast(made, v, **how), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.015, rtol=0)


def test_without_pretraining_the_early_gradient_is_that_of_the_likelihood():
    made, v = deep(), rows(64)
    loss = exact_free_energy(made, v).mean() + exact_log_partition(made)
    expected = torch.autograd.grad(loss, [*made.weights, *made.biases])
    found = sampled_contrast(made, v.repeat(500, 1), pretrained=False)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.015, rtol=0)


@pytest.mark.parametrize("sizes", SHAPES)
def test_samples_of_hidden_units_have_the_posterior_mean(sizes):
    made, v, n = deep(sizes), rows(1), 40000
    h = made.sample_hidden_layers(v.expand(n, -1), 30, torch.Generator().manual_seed(0))
    states = hidden(made)
    p = torch.softmax(-made.energy(v.expand(len(states[0]), -1), states), 0).detach()
    for found, units in zip(h, states, strict=True):
        torch.testing.assert_close(found.mean(0), p @ units, atol=0.01, rtol=0)


def test_steps_between_wide_hidden_layers_are_shorter():
    made = DBMEnergy(likelihood_from(BERNOULLI, 4), (200, 20, 3), generator=torch.Generator().manual_seed(0))
    objective, v = DBMObjective(made, centred=False, n_chains=5), rows(30, 4).float()
    steps = []
    for project in (False, True):
        made.zero_grad()
        terms, _ = objective.terms(Batch(v), 0.0, torch.Generator().manual_seed(1))
        terms["contrast"].mean().backward()
        if project:
            objective.project_gradient()
        steps.append([weight.grad.clone() for weight in made.weights])
    for share, plain, taken in zip((1.0, 0.5, 1.0), *steps, strict=True):
        torch.testing.assert_close(taken, share * plain)


def test_monitored_conditionals_match_the_energy_with_upper_layers_fixed():
    made, v = deep(), rows()
    first, above = hidden(made)[0], made.mean_field(v, 10)[1]
    flipped = [v.clone().index_fill_(1, torch.tensor([1]), value) for value in (1.0, 0.0)]

    def log_sum(v):
        outer = [h.expand(len(v), -1) for h in first.unique(dim=0)]
        return torch.stack([-made.energy(v, [h, above]) for h in outer]).logsumexp(0)

    found = made.conditional_logits(v, torch.ones(len(v), dtype=torch.long), above)
    torch.testing.assert_close(found, log_sum(flipped[0]) - log_sum(flipped[1]))


@pytest.mark.parametrize("sizes", SHAPES)
def test_gibbs_steps_keep_the_distribution_of_the_model(sizes):
    made, n = deep(sizes), 40000
    density, generator = DBMDensity(made, 1, 10).double(), torch.Generator().manual_seed(1)
    states = all_states(sum(made.odd_sizes))
    p = torch.softmax(-made.odd_free_energy(list(states.split(made.odd_sizes, 1))), 0).detach()
    start = states[torch.multinomial(p, n, replacement=True, generator=generator)]
    reached = torch.cat(density.run_chains(start, 3, generator), 1)
    powers = 2.0 ** torch.arange(states.shape[1] - 1, -1, -1).double()
    counts = torch.bincount((reached @ powers).long(), minlength=len(states)) / n
    torch.testing.assert_close(counts, p, atol=0.01, rtol=0, check_dtype=False)


@pytest.mark.parametrize("steady", [50, 2])
@pytest.mark.parametrize("sizes", SHAPES)
def test_the_centred_gradient_is_the_gradient_of_the_energy_in_centred_units(sizes, steady, monkeypatch):
    """The steps of the upper weights of that energy are reduced where layers are wide."""
    monkeypatch.setattr("isthmus.learning.dbm_objective.FULL_STEP_WIDTH", steady)
    made, v = deep(sizes), rows()
    objective = DBMObjective(made).double()
    objective.density.carry_offsets(v, made.mean_field(v, 10), rate=1.0)
    beta, n = objective.density.offsets, len(made.sizes)
    weights = [weight.detach().clone().requires_grad_() for weight in made.weights]
    with torch.no_grad():  # biases of the energy in u - beta: b_k + W_k beta_(k-1) + W_(k+1)' beta_(k+1)
        centred = [
            made.inputs(k, beta[k - 1] if k else None, beta[k + 1] if k + 1 < n else None).clone() for k in range(n)
        ]
    centred = [bias.requires_grad_() for bias in centred]

    def plain():
        biases = []
        for k in range(n):
            below = weights[k - 1] @ beta[k - 1] if k else 0.0
            above = weights[k].t() @ beta[k + 1] if k + 1 < n else 0.0
            biases.append(centred[k] - below - above)
        return weights, biases

    def loss(all_weights, all_biases):
        named = {f"weights.{k}": w for k, w in enumerate(all_weights)}
        named |= {f"biases.{k}": b for k, b in enumerate(all_biases)}

        class Loss(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.dbm = made

            def forward(self):
                odd = [all_states(size)[:2] for size in made.odd_sizes]
                return self.dbm.free_energy(v, 50).mean() - self.dbm.odd_free_energy(odd).mean()

        return torch.func.functional_call(Loss(), {f"dbm.{k}": value for k, value in named.items()}, ())

    steps = torch.autograd.grad(loss(*plain()), [*weights, *centred])
    shares = [1.0, *(min(1.0, steady / size) for size in sizes[:-1]), *[1.0] * n]
    with torch.no_grad():
        for value, share, step in zip([*weights, *centred], shares, steps, strict=True):
            value -= 0.1 * share * step
    expected = [value.detach() for part in plain() for value in part]
    loss(list(made.weights), list(made.biases)).backward()
    objective.project_gradient()
    for parameter, value in zip([*made.weights, *made.biases], expected, strict=True):
        torch.testing.assert_close(parameter - 0.1 * parameter.grad, value)


def test_layer_pretraining_doubles_the_input_of_missing_layers():
    made, v = deep((3, 2, 2)), rows()
    first, second, last = (DBMLayerRBM(made, k) for k in (1, 2, 3))
    torch.testing.assert_close(first(v), made.biases[1] + 2 * v @ made.weights[0].t())
    torch.testing.assert_close(first.down(all_states(3)), made.biases[0] + all_states(3) @ made.weights[0])
    torch.testing.assert_close(second(all_states(3)), made.biases[2] + 2 * all_states(3) @ made.weights[1].t())
    torch.testing.assert_close(second.down(all_states(2)) - second.visible_bias, 2 * all_states(2) @ made.weights[1])
    torch.testing.assert_close(last(all_states(2)), made.biases[3] + all_states(2) @ made.weights[2].t())
    torch.testing.assert_close(last.down(all_states(2)) - last.visible_bias, 2 * all_states(2) @ made.weights[2])
    assert first.weight is made.weights[0]
    assert last.hidden_bias is made.biases[3]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_centred_gradient_of_a_layer_is_invariant_to_flipping_units(k):
    """Flipping one side changes the sign of its biases and adds the weights to the biases of the other side."""
    generator, made = torch.Generator().manual_seed(3), deep((3, 2, 2))
    layer = DBMLayerRBM(made, k)
    data, model = (torch.rand(30, layer.n_visible, generator=generator).round().double() for _ in range(2))
    W, b, c = (part.detach().clone() for part in (layer.weight, layer.visible_bias, layer.hidden_bias))

    def step(weight, visible_bias, hidden_bias, is_flipped):
        objective = layer_objectives(made)[k - 1].double()
        rbm = objective.rbm
        with torch.no_grad():
            for part, value in zip(
                (rbm.weight, rbm.visible_bias, rbm.hidden_bias), (weight, visible_bias, hidden_bias),
                strict=True,
            ):  # fmt: skip
                part.copy_(value)
        rbm.zero_grad()
        v, other = (1 - data, 1 - model) if is_flipped else (data, model)
        objective.density.carry_offsets(v, rate=1.0)
        (rbm.free_energy_given(v, rbm(v)) - rbm.free_energy_given(other, rbm(other))).mean().backward()
        objective.project_gradient()
        return rbm.weight.grad.clone()

    plain = step(W, b, c, is_flipped=False)
    torch.testing.assert_close(step(-W, -b, c + layer.below * W.sum(1), is_flipped=True), -plain)
    torch.testing.assert_close(step(-W, b + layer.above * W.sum(0), -c, is_flipped=False), -plain)


def log_bound(density, x):
    """Return the mean of the bound on log p(x), with the exact log Z."""
    density.compute_log_partition()
    return float(density.log_bound(Batch(x)).mean())


@pytest.mark.parametrize("config", [BERNOULLI, GAUSSIAN], ids=lambda config: config["name"])
@pytest.mark.parametrize("pretrained", [True, False], ids=["layer by layer", "all at once"])
def test_training_raises_the_bound_on_the_likelihood(config, pretrained):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200, 1, generator=generator) < 0.5
    x = torch.where(first, torch.tensor([1.0, 0, 0, 1, 0, 0]), torch.tensor([0, 1.0, 0, 0, 1, 0]))
    if config is GAUSSIAN:
        x = 2 * x + torch.randn(x.shape, generator=generator)
    made = DBMEnergy(likelihood_from(config, 6), (5, 3), generator=generator)
    rate = 0.02 if config is GAUSSIAN else 0.2
    training_config = TrainingConfig(
        max_epochs=12 if pretrained else 30, batch_size=20, optimizer="sgd", momentum=0.5, learning_rate=rate
    )
    objective = DBMObjective(made, n_chains=50, pretrained=pretrained)
    DBMObjective(made, n_chains=50).prepare(Memory(x))
    before, initial_monitor = log_bound(objective.density, x), float(objective.monitor(Batch(x)).mean())
    layers = layer_objectives(made) if pretrained else []
    whole, below = nn.ModuleDict({"layers": nn.ModuleList(layers)}), x
    for k, layer in enumerate(layers, 1):
        if k > 1:
            take_bias(whole, k)
        layer.prepare(Memory(below))
        Trainer(layer, Memory(below), None, training_config, generator).run()
        below = layer.coder.encode(Batch(below)).code.detach()
    join_layers(whole)
    objective.prepare(Memory(x))
    Trainer(objective, Memory(x), None, training_config, generator).run()
    after = log_bound(objective.density, x)
    assert after > before + 0.4
    assert float(objective.monitor(Batch(x)).mean()) < initial_monitor
    if config is BERNOULLI:
        assert after < -torch.tensor(2.0).log()  # two rows, each half of the time


def test_numpy_integers_are_accepted():
    counts = {name: np.int64(3) for name in ("n_chains", "n_steps", "n_iterations")}
    objective = DBMObjective(deep(), **counts).double()
    assert objective.terms(Batch(rows()), 0.0, None)[0]["contrast"].shape == (20,)
    generator = torch.Generator().manual_seed(0)
    assert (
        annealed_importance_sampling(
            objective.energy.as_bipartite_rbm(), generator, n_chains=np.int64(3), n_temperatures=np.int64(5)
        ).standard_error
        > 0
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_chains": 0}, "n_chains=0: sampling needs at least one chain; give 1 or more"),
        ({"n_steps": 0}, "n_steps=0: it must be a whole number of at least 1, or a pair of such"),
        ({"n_iterations": 0}, "n_iterations=0: it must be a whole number of at least 1"),
        ({"weight_decay": -1.0}, "weight_decay: weight -1.0 is invalid"),
    ],
)
def test_invalid_arguments_raise(arguments, text):
    with pytest.raises(InputError, match=text):
        DBMObjective(deep(), **arguments)


def test_invalid_dbm_sizes_raise():
    with pytest.raises(InputError, match="a deep Boltzmann machine has two hidden layers or more; found 1"):
        deep((3,))
    with pytest.raises(InputError, match="a deep Boltzmann machine has no units for word counts"):
        deep(config={"name": "multinomial"})
    wide = deep((25, 24), n_columns=30)
    with pytest.raises(
        InputError, match=r"log Z of 54 visible and 25 hidden units is a sum over 2\^25 states, more than"
    ):
        wide.log_partition()


def test_chains_of_all_layers_start_from_many_rows_of_which_one_block_is_dense():
    x = (torch.rand(5000, 4, generator=torch.Generator().manual_seed(0)) + torch.linspace(0, 1, 5000)[:, None]).round()
    made, read = DBMDensity(deep((3, 2, 2)), 7, 10).double(), Counting(x.double())
    made.initialize_chains(read)
    assert max(read.sizes) <= 1024
    sample = x.double()[evenly_spaced(5000)]
    mu = made.energy.mean_field(sample, made.n_iterations)
    for offset, rates in zip(made.offsets, [sample, *mu], strict=True):
        torch.testing.assert_close(offset, rates.mean(0))
    odd = torch.cat(mu[::2], -1)[torch.arange(7) * len(sample) // 7]
    torch.testing.assert_close(made.particles, bernoulli(odd, torch.Generator().manual_seed(0)))
