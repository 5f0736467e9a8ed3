"""Deep belief networks against enumeration, and their local rules against autograd."""

import copy
import itertools

import pytest
import torch
from torch import nn

from isthmus import InputError
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.wake_sleep import DBNObjective, can_be_transposed, start_transposed, unfold
from isthmus.parts.belief_networks import belief_network_coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from

from .test_contrastive_divergence import Memory, all_states


def make_layers(sizes=(4, 3, 3, 2), visible="bernoulli", scale=0.8, n_chains=7, weight_decay=0.0):
    generator = torch.Generator().manual_seed(0)
    layers = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        config = {"name": visible if k == 0 else "bernoulli"}
        rbm = RBMEnergy(likelihood_from(config, n), m, weight_scale=scale, generator=generator)
        with torch.no_grad():
            rbm.visible_bias.copy_(0.5 * torch.randn(n, generator=generator))
            rbm.hidden_bias.copy_(0.5 * torch.randn(m, generator=generator))
        layers.append(ContrastiveDivergence(rbm, n_chains=n_chains, weight_decay=weight_decay).double())
    return layers


def network_of(layers):
    """Return the criterion of the deep belief network of RBMs."""
    return DBNObjective(belief_network_coder([layer.rbm for layer in layers]), layers[-1]).double()


def network(sizes=(4, 3, 3, 2), **options):
    return network_of(make_layers(sizes, **options))


def log_bound(made, x, mask=None, n_draws=2000):
    """Return the bound on log p(x), with the exact log Z."""
    made.density.compute_log_partition()
    return made.density.log_bound(Batch(x, mask=mask), n_draws)


def log_probability(made, x):
    """Return log p(x) by summing over all states of all layers, with log Z of the top RBM."""
    states = [all_states(rbm.n_hidden) for rbm in made.recognition.rbms[:-1]]
    top = made.top.rbm
    log_top = -top.free_energy(states[-1]) - top.log_partition()
    for k in reversed(range(1, len(states))):
        conditional = torch.distributions.Bernoulli(logits=made.coder.decoder.parameters_below(k, states[k]))
        joint = conditional.log_prob(states[k - 1][:, None]).sum(-1) + log_top
        log_top = joint.logsumexp(1)
    conditional = torch.distributions.Bernoulli(logits=made.coder.decoder.parameters_below(0, states[0]))
    return (conditional.log_prob(x[:, None]).sum(-1) + log_top).logsumexp(1)


def perturbed(made):
    """Add noise to the directed weights, so that they differ from those of the RBMs."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for directed in made.coder.decoder.maps:
            directed.weight.add_(0.3 * torch.randn(directed.weight.shape, generator=generator))
    return made


@pytest.mark.parametrize("sizes", [(4, 3, 2), (4, 3, 3, 2)])
def test_the_bound_is_below_and_near_the_enumerated_log_probability(sizes):
    made, x = perturbed(network(sizes, scale=0.3)), all_states(4)
    exact, bound = log_probability(made, x), log_bound(made, x)
    assert exact.exp().sum().item() == pytest.approx(1.0)
    assert (bound < exact + 0.02).all()
    assert (exact - bound).mean() < 0.4


def test_the_bound_of_a_row_with_missing_entries_is_below_the_log_probability_of_the_others():
    made = perturbed(network(scale=0.3))
    every, mask = all_states(4), torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    agrees = (every[:, None] * mask == every * mask).all(2)
    exact = log_probability(made, every).expand(16, -1).masked_fill(~agrees, -torch.inf).logsumexp(1)
    bound = log_bound(made, every, mask.expand(16, -1))
    assert (bound < exact + 0.02).all()
    assert (exact - bound).mean() < 0.4


def test_the_bound_of_an_untrained_second_layer_is_no_worse_than_that_of_the_first():
    """A second layer that is initialized as the transposed first does not change the model (Hinton 2006, section 3)."""
    below, x = make_layers((4, 3, 4))[0], all_states(4)
    made = network_of([below, prepared_upper(below, 4, x)])
    first = below.rbm
    exact = -first.free_energy(x) - first.log_partition()
    torch.testing.assert_close(log_probability(made, x), exact)
    torch.testing.assert_close(log_bound(made, x, n_draws=1000), exact, atol=1e-6, rtol=0, check_dtype=False)


def prepared_upper(below, n_hidden, x):
    """Return the criterion of an upper RBM as a deep belief network starts it, on the codes of the rows `x`."""
    bernoulli, generator = likelihood_from({"name": "bernoulli"}, below.rbm.n_hidden), torch.Generator().manual_seed(1)
    transposed = can_be_transposed(below.rbm, n_hidden)
    rbm = RBMEnergy(bernoulli, n_hidden, generator=generator)
    upper = ContrastiveDivergence(rbm, n_chains=7, starts_biases=not transposed).double()
    if transposed:
        start_transposed(nn.ModuleDict({"layers": nn.ModuleList([below, upper])}), 2)
    upper.prepare(Memory(below.coder.encode(Batch(x)).code.detach()))
    return upper


def test_additional_units_of_a_transposed_rbm_hardly_change_the_model():
    below, x = make_layers((4, 3, 4))[0], all_states(4)
    top = prepared_upper(below, 9, x).rbm
    torch.testing.assert_close(top.weight[:4], below.rbm.weight.t())
    states = all_states(3)
    below_p, top_p = (
        torch.log_softmax(-energy, 0) for energy in (below_energy(below.rbm, states), top.free_energy(states))
    )
    torch.testing.assert_close(below_p, top_p, atol=0.02, rtol=0)


def below_energy(rbm, h):
    """Return -log p(h) up to log Z, with the visible units summed out."""
    return -(h @ rbm.hidden_bias) - torch.nn.functional.softplus(rbm.visible_bias + h @ rbm.weight).sum(-1)


@pytest.mark.parametrize(("visible", "n_hidden"), [("bernoulli", 3), ("gaussian", 4)])
def test_an_rbm_that_cannot_be_transposed_is_initialized_as_usual(visible, n_hidden):
    below, x = make_layers((4, 3, 4), visible=visible)[0], all_states(4)
    upper = prepared_upper(below, n_hidden, x)
    rates = below.coder.encode(Batch(x)).code.mean(0)
    torch.testing.assert_close(upper.rbm.visible_bias.sigmoid(), rates, atol=1e-3, rtol=0)
    assert bool((upper.rbm.weight.abs() < 0.5).all())
    assert not upper.rbm.hidden_bias.any()


def test_the_bound_of_a_row_is_deterministic_and_independent_of_other_rows():
    made, x = network(), all_states(4)
    whole = log_bound(made, x, n_draws=5)
    assert torch.equal(log_bound(made, x, n_draws=5), whole)
    torch.testing.assert_close(log_bound(made, x[[3, 9]], n_draws=5), whole[[3, 9]])


def test_each_term_trains_the_parts_of_its_own_phase_only():
    made = network()
    parts = {
        "generation": {f"coder.decoder.maps.{k}.{what}" for k in range(2) for what in ("weight", "bias")},
        "recognition": {f"coder.inference.encoder.maps.{k}.{what}" for k in range(2) for what in ("weight", "bias")},
        "contrast": {f"coder.inference.encoder.top.{what}" for what in ("up.weight", "up.bias", "visible_bias")},
    }
    assert set().union(*parts.values()) == {name for name, _ in made.named_parameters()}
    for name, expected in parts.items():
        made.zero_grad()
        terms, _ = made.terms(Batch(all_states(4)), 0.0, torch.Generator().manual_seed(0))
        terms[name].mean().backward()
        assert {n for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} == expected


def test_the_gradient_of_the_wake_phase_is_the_delta_rule():
    made, x = network((4, 3, 2)), all_states(4)
    terms, _ = made.terms(Batch(x), 0.0, torch.Generator().manual_seed(0))
    terms["generation"].sum().backward()
    (h,) = made.wake(x, torch.Generator().manual_seed(0))
    directed = made.coder.decoder.maps[0]
    rule = (torch.sigmoid(directed(h)) - x).t() @ h
    torch.testing.assert_close(directed.weight.grad, rule)


def test_the_gradient_of_the_sleep_phase_is_the_delta_rule():
    made = network((4, 3, 2))
    fantasy = all_states(3)
    made.sleep(fantasy, torch.Generator().manual_seed(0)).backward()
    x = made.density.sample_below(0, fantasy, torch.Generator().manual_seed(0))
    upward = made.recognition.maps[0]
    torch.testing.assert_close(upward.weight.grad, (torch.sigmoid(upward(x)) - fantasy).t() @ x / 8)


def test_samples_have_the_distribution_of_the_network():
    made = network((4, 3, 2), n_chains=1)
    samples = made.density.sample(20000, 30, torch.Generator().manual_seed(2))
    codes = (samples @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()).long()
    expected = log_probability(made, all_states(4)).exp().detach()
    torch.testing.assert_close(torch.bincount(codes, minlength=16) / 20000, expected, atol=0.015, rtol=0,
                               check_dtype=False)  # fmt: skip
    assert made.density.sample(5, 3, torch.Generator().manual_seed(2), mean=True).shape == (5, 4)


def test_up_down_training_raises_the_bound():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(200, 1, generator=generator) < 0.5).double().expand(-1, 4).contiguous()
    made = network(scale=0.3, n_chains=50)
    before = log_bound(made, x, n_draws=20).mean()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        terms, carried = made.terms(Batch(x), 0.0, generator)
        sum(term.mean() for term in terms.values()).backward()
        made.update(carried)
        made.project_gradient()
        optimizer.step()
    assert log_bound(made, x, n_draws=20).mean() > before + 0.5


def test_weight_decay_applies_to_both_directions():
    batch = Batch(torch.ones(2, 4).double())
    terms, _ = network().terms(batch, 0.0, None)
    assert "weight_decay" not in terms
    made = network(weight_decay=0.1)
    terms, _ = made.terms(batch, 0.0, None)
    both = [rbm.weight for rbm in made.recognition.rbms] + [down.weight for down in made.coder.decoder.maps]
    torch.testing.assert_close(terms["weight_decay"], 0.05 * sum(weight.square().sum() for weight in both))


def test_unfolding_copies_the_weights_of_the_rbms_to_the_directed_layers():
    made = perturbed(network())
    for _ in range(2):  # a second call changes nothing
        unfold(nn.ModuleDict({"coder": made.coder}))
        for directed, rbm in zip(made.coder.decoder.maps, made.recognition.rbms, strict=False):
            assert torch.equal(directed.weight, rbm.weight.t())


def test_encoder_and_decoder_propagate_means():
    made, x = perturbed(network((4, 3, 2), visible="gaussian")), torch.randn(5, 4, dtype=torch.float64)
    output, (first, second) = made.coder(Batch(x)), made.recognition.rbms
    up = torch.sigmoid(second(torch.sigmoid(first(x))))
    down = torch.sigmoid(up @ made.top.rbm.weight + made.top.rbm.visible_bias)
    torch.testing.assert_close(output.code, up)
    torch.testing.assert_close(output.parameters, made.coder.decoder.maps[0](down))
    again = copy.deepcopy(made)
    torch.testing.assert_close(again.coder(Batch(x)).parameters, output.parameters)


@pytest.mark.parametrize(
    ("sizes", "changes", "text"),
    [
        ([(4, 3)], {}, "a deep belief network has two layers or more; found 1; give hidden_sizes"),
        ([(4, 3), (2, 2)], {}, "layer 1 has 3 units but layer 2 has 2 inputs; give each layer as many"),
        ([(4, 3), (3, 2)], {"hidden": "rectified"}, "layer 1 of a deep belief network needs binary hidden units"),
    ],
)
def test_rbms_that_do_not_form_a_network_raise(sizes, changes, text):
    generator = torch.Generator().manual_seed(0)
    rbms = [RBMEnergy(likelihood_from({"name": "bernoulli"}, n), m, generator=generator, **changes) for n, m in sizes]
    with pytest.raises(InputError, match=text):
        belief_network_coder(rbms)
