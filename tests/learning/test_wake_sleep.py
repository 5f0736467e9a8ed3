"""A deep belief network against enumeration, and its local rules against autograd."""

import copy
import itertools

import pytest
import torch

from isthmus import InputError
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.wake_sleep import DBNObjective, UpperRBMObjective
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from

from .test_contrastive_divergence import Memory


def all_states(n_units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n_units)), dtype=torch.float64)


def network(sizes=(4, 3, 3, 2), visible="bernoulli", method="pcd", scale=0.8, n_chains=7):
    generator = torch.Generator().manual_seed(0)
    layers = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        config = {"name": visible if k == 0 else "bernoulli"}
        machine = RBMEnergy(likelihood_from(config, n), m, weight_scale=scale, generator=generator)
        with torch.no_grad():
            machine.visible_bias.copy_(0.5 * torch.randn(n, generator=generator))
            machine.hidden_bias.copy_(0.5 * torch.randn(m, generator=generator))
        layers.append(ContrastiveDivergence(machine, method=method, n_chains=n_chains).double())
    return DBNObjective(layers).double()


def log_probability(made, x):
    """log p(x) by summing over every state of every layer, and the top machine's Z."""
    states = [all_states(layer.rbm.n_hidden) for layer in made.layers[:-1]]
    top = made.top.rbm
    log_top = -top.free_energy(states[-1]) - top.log_partition()
    for k in reversed(range(1, len(states))):
        conditional = torch.distributions.Bernoulli(logits=made.generation.parameters_below(k, states[k]))
        joint = conditional.log_prob(states[k - 1][:, None]).sum(-1) + log_top
        log_top = joint.logsumexp(1)
    conditional = torch.distributions.Bernoulli(logits=made.generation.parameters_below(0, states[0]))
    return (conditional.log_prob(x[:, None]).sum(-1) + log_top).logsumexp(1)


def parted(made):
    """The directed layers moved away from the machines they began as."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for directed in made.generation.maps:
            directed.weight.add_(0.3 * torch.randn(directed.weight.shape, generator=generator))
    return made


@pytest.mark.parametrize("sizes", [(4, 3, 2), (4, 3, 3, 2)])
def test_the_bound_lies_below_the_enumerated_log_probability_and_near_it(sizes):
    made = parted(network(sizes, scale=0.3))
    made.finish(None)
    x = all_states(4)
    exact, bound = log_probability(made, x), made.log_bound(Batch(x), n_draws=2000)
    assert exact.exp().sum().item() == pytest.approx(1.0)
    assert (bound < exact + 0.02).all()
    assert (exact - bound).mean() < 0.4


def test_the_bound_of_a_row_with_missing_entries_lies_below_the_log_probability_of_the_others():
    made = parted(network(scale=0.3))
    made.finish(None)
    every, mask = all_states(4), torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    agrees = (every[:, None] * mask == every * mask).all(2)
    exact = log_probability(made, every).expand(16, -1).masked_fill(~agrees, -torch.inf).logsumexp(1)
    bound = made.log_bound(Batch(every, mask=mask.expand(16, -1)), n_draws=2000)
    assert (bound < exact + 0.02).all()
    assert (exact - bound).mean() < 0.4


def test_the_bound_of_two_layers_that_were_not_parted_is_no_worse_than_the_machine_below_alone():
    """A second layer that begins as the first, upside down, leaves the model as it was (Hinton 2006, section 3)."""
    below = network((4, 3, 4)).layers[0]
    x = all_states(4)
    made = DBNObjective([below, begun_on(below, 4, x)]).double()
    made.finish(None)
    first = below.rbm
    exact = -first.free_energy(x) - first.log_partition()
    torch.testing.assert_close(log_probability(made, x), exact)
    torch.testing.assert_close(made.log_bound(Batch(x), n_draws=1000), exact, atol=1e-6, rtol=0, check_dtype=False)


def begun_on(below, n_hidden, x):
    """A machine that stands where learning on the codes of the rows `x` begins."""
    generator = torch.Generator().manual_seed(1)
    upper = UpperRBMObjective(below, n_hidden, generator=generator, n_chains=7).double()
    upper.prepare(Memory(below.encode(Batch(x))[1].detach()))
    return upper


def test_units_that_are_left_over_say_next_to_nothing():
    below, x = network((4, 3, 4)).layers[0], all_states(4)
    top = begun_on(below, 9, x).rbm
    torch.testing.assert_close(top.weight[:4], below.rbm.weight.t())
    states = all_states(3)
    below_p, top_p = (
        torch.log_softmax(-energy, 0) for energy in (below_energy(below.rbm, states), top.free_energy(states))
    )
    torch.testing.assert_close(below_p, top_p, atol=0.02, rtol=0)


def below_energy(machine, h):
    """-log p(h) up to log Z, the visible units summed out."""
    return -(h @ machine.hidden_bias) - torch.nn.functional.softplus(machine.visible_bias + h @ machine.weight).sum(-1)


@pytest.mark.parametrize(("visible", "n_hidden"), [("bernoulli", 3), ("gaussian", 4)])
def test_a_machine_that_cannot_stand_upside_down_begins_as_any_does(visible, n_hidden):
    below, x = network((4, 3, 4), visible=visible).layers[0], all_states(4)
    upper = begun_on(below, n_hidden, x)
    rates = below.encode(Batch(x))[1].mean(0)
    torch.testing.assert_close(upper.rbm.visible_bias.sigmoid(), rates, atol=1e-3, rtol=0)
    assert bool((upper.rbm.weight.abs() < 0.5).all())
    assert not upper.rbm.hidden_bias.any()


def test_a_rows_bound_is_its_own_and_the_same_every_time():
    made, x = network(), all_states(4)
    whole = made.log_bound(Batch(x), n_draws=5)
    assert torch.equal(made.log_bound(Batch(x), n_draws=5), whole)
    torch.testing.assert_close(made.log_bound(Batch(x[[3, 9]]), n_draws=5), whole[[3, 9]])


def test_each_term_moves_the_parts_of_its_own_phase_alone():
    made = network()
    parts = {
        "generation": {f"decoder.maps.{k}.{what}" for k in range(2) for what in ("weight", "bias")},
        "recognition": {f"encoder.maps.{k}.{what}" for k in range(2) for what in ("weight", "bias")},
        "contrast": {f"top.encoder.{what}" for what in ("up.weight", "up.bias", "visible_bias")},
    }
    assert set().union(*parts.values()) == {name for name, _ in made.named_parameters()}
    for name, expected in parts.items():
        made.zero_grad()
        made.terms(Batch(all_states(4)), 0.0, torch.Generator().manual_seed(0))[name].mean().backward()
        assert {n for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} == expected


def test_the_wake_phase_learns_by_the_delta_rule():
    made, x = network((4, 3, 2)), all_states(4)
    made.terms(Batch(x), 0.0, torch.Generator().manual_seed(0))["generation"].sum().backward()
    (h,) = made.wake(x, torch.Generator().manual_seed(0))
    directed = made.generation.maps[0]
    rule = (torch.sigmoid(directed(h)) - x).t() @ h
    torch.testing.assert_close(directed.weight.grad, rule)


def test_the_sleep_phase_learns_by_the_delta_rule():
    made = network((4, 3, 2))
    fantasy = all_states(3)
    made.sleep(fantasy, torch.Generator().manual_seed(0)).backward()
    x = made._sample_below(0, fantasy, torch.Generator().manual_seed(0))
    upward = made.recognition.maps[0]
    torch.testing.assert_close(upward.weight.grad, (torch.sigmoid(upward(x)) - fantasy).t() @ x / 8)


def test_draws_are_of_the_network():
    made = network((4, 3, 2), n_chains=1)
    drawn = made.sample(20000, 30, torch.Generator().manual_seed(2))
    codes = (drawn @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()).long()
    expected = log_probability(made, all_states(4)).exp().detach()
    torch.testing.assert_close(torch.bincount(codes, minlength=16) / 20000, expected, atol=0.015, rtol=0,
                               check_dtype=False)  # fmt: skip
    assert made.sample(5, 3, torch.Generator().manual_seed(2), mean=True).shape == (5, 4)


def test_up_down_learning_raises_the_bound():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(200, 1, generator=generator) < 0.5).double().expand(-1, 4).contiguous()
    made = network(scale=0.3, n_chains=50)
    made.finish(None)
    before = made.log_bound(Batch(x)).mean()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        sum(term.mean() for term in made.terms(Batch(x), 0.0, generator).values()).backward()
        made.project_gradient()
        optimizer.step()
    made.finish(None)
    assert made.log_bound(Batch(x)).mean() > before + 0.5


def test_weights_of_both_ways_decay():
    made = network()
    names = made.terms(Batch(torch.ones(2, 4).double()), 0.0, None).keys()
    assert "weight_decay" not in names
    made.top.weight_decay = 0.1
    both = [layer.rbm.weight for layer in made.layers] + [down.weight for down in made.generation.maps]
    found = made.terms(Batch(torch.ones(2, 4).double()), 0.0, None)["weight_decay"]
    torch.testing.assert_close(found, 0.05 * sum(weight.square().sum() for weight in both))


def test_as_a_coder_it_is_the_network_of_rates():
    made, x = parted(network((4, 3, 2), visible="gaussian")), torch.randn(5, 4, dtype=torch.float64)
    output = made(Batch(x))
    up = torch.sigmoid(made.layers[1].rbm(torch.sigmoid(made.layers[0].rbm(x))))
    down = torch.sigmoid(up @ made.top.rbm.weight + made.top.rbm.visible_bias)
    torch.testing.assert_close(output.code, up)
    torch.testing.assert_close(output.parameters, made.generation.maps[0](down))
    again = copy.deepcopy(made)
    torch.testing.assert_close(again(Batch(x)).parameters, output.parameters)


@pytest.mark.parametrize(
    ("sizes", "changes", "text"),
    [
        ([(4, 3)], {}, "a deep belief network has two layers or more; found 1; give hidden_sizes"),
        ([(4, 3), (2, 2)], {}, "layer 1 has 3 units and layer 2 is made for 2; give each layer as many inputs"),
        ([(4, 3), (3, 2)], {"hidden": "rectified"}, "layer 1 of a deep belief network needs binary hidden units"),
    ],
)
def test_machines_that_make_no_network_are_refused(sizes, changes, text):
    generator = torch.Generator().manual_seed(0)
    layers = [
        ContrastiveDivergence(RBMEnergy(likelihood_from({"name": "bernoulli"}, n), m, generator=generator, **changes))
        for n, m in sizes
    ]
    with pytest.raises(InputError, match=text):
        DBNObjective(layers)
