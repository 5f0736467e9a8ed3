"""Every objective that trains an energy: its terms change nothing, and `update` stores what they carry."""

import pytest
import torch

from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.dbm_objective import DBMObjective, layer_objectives
from isthmus.learning.score_matching import ScoreMatching
from isthmus.learning.wake_sleep import DBNObjective
from isthmus.parts.belief_networks import belief_network_coder
from isthmus.parts.deep_energies import DBMEnergy
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli, Gaussian, likelihood_from
from isthmus.parts.semi_restricted import SemiRestrictedRBMEnergy

OFFSETS = {"density.visible_offset", "density.hidden_offset"}
CHAINS = {"density.particles"}


def rbm(likelihood=None, n_hidden=3, make=RBMEnergy):
    return make(likelihood or Bernoulli(4), n_hidden, generator=torch.Generator().manual_seed(0))


def dbm():
    return DBMEnergy(Bernoulli(4), (3, 2), generator=torch.Generator().manual_seed(0))


def belief_network():
    rbms = [rbm(), rbm(Bernoulli(3), 2)]
    return DBNObjective(belief_network_coder(rbms), ContrastiveDivergence(rbms[-1], n_chains=7))


CASES = {
    "persistent chains": (lambda: ContrastiveDivergence(rbm(), n_chains=7), CHAINS | OFFSETS),
    "chains from the rows": (lambda: ContrastiveDivergence(rbm(), method="cd", n_chains=7), OFFSETS),
    "word counts": (
        lambda: ContrastiveDivergence(rbm(likelihood_from({"name": "multinomial"}, 4)), n_chains=7),
        CHAINS | OFFSETS,
    ),
    "lateral weights": (
        lambda: ContrastiveDivergence(rbm(make=SemiRestrictedRBMEnergy), n_chains=7),
        CHAINS | OFFSETS,
    ),
    "score matching": (lambda: ScoreMatching(rbm(Gaussian(4))), OFFSETS),
    "denoising score matching": (lambda: ScoreMatching(rbm(Gaussian(4)), noise_scale=0.5), OFFSETS),
    "layer of a deep Boltzmann machine": (lambda: layer_objectives(dbm())[0], OFFSETS),
    "deep Boltzmann machine": (
        lambda: DBMObjective(dbm(), n_chains=7),
        CHAINS | {f"density.offset_{k}" for k in range(3)},
    ),
    "deep belief network": (
        belief_network,
        {f"{part}.{name}" for part in ("top.density", "density.top")
         for name in ("particles", "visible_offset", "hidden_offset")},
    ),
}  # fmt: skip
"""Each objective, and the names of the buffers that a step changes."""


def state_of(objective):
    return {name: value.clone() for name, value in objective.state_dict().items()}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def rows():
    return Batch((torch.rand(20, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float())


@pytest.mark.parametrize("name", CASES)
def test_terms_change_nothing_and_update_stores_chains_and_offsets(name):
    make, expected = CASES[name]
    objective = make().train()
    before = state_of(objective)
    terms, carried = objective.terms(rows(), 0.5, torch.Generator().manual_seed(2))
    sum(term.mean() for term in terms.values()).backward()
    assert changed(before, state_of(objective)) == set()
    values = {name: carried.latest(value).clone() for name, value in objective.state_dict(keep_vars=True).items()}
    objective.update(carried)
    assert changed(before, state_of(objective)) == expected
    assert changed(values, state_of(objective)) == set()


@pytest.mark.parametrize("name", CASES)
def test_a_skipped_step_stores_nothing(name):
    make, expected = CASES[name]
    objective = make().train()
    before = state_of(objective)
    _, carried = objective.terms(rows(), 0.5, torch.Generator().manual_seed(2))
    objective.update(carried, skip=torch.ones(()))
    assert changed(before, state_of(objective)) == set()
    objective.update(carried, skip=torch.zeros(()))
    assert changed(before, state_of(objective)) == expected


@pytest.mark.parametrize("name", CASES)
def test_monitor_changes_nothing_and_is_the_same_at_every_call(name):
    objective = CASES[name][0]().train()
    before = state_of(objective)
    first, second = objective.monitor(rows()), objective.monitor(rows())
    assert torch.equal(first, second)
    assert first.shape == (20,)
    assert not first.requires_grad
    assert changed(before, state_of(objective)) == set()


def test_score_matching_has_no_chains():
    objective = ScoreMatching(rbm(Gaussian(4)))
    assert objective.density.particles.shape == (0, 3)
    assert objective.density.totals is None
    samples = objective.density.sample(5, 10, torch.Generator().manual_seed(0))
    assert samples.shape == (5, 4)


def test_offsets_move_towards_the_means_of_the_batch_by_their_rate():
    objective, batch = ContrastiveDivergence(rbm(), n_chains=7), rows()
    _, carried = objective.terms(batch, 0.5, torch.Generator().manual_seed(2))
    objective.update(carried)
    torch.testing.assert_close(objective.density.visible_offset, 0.01 * batch.x.mean(0))
    torch.testing.assert_close(objective.density.hidden_offset, 0.01 * objective.rbm.hidden_mean(batch.x).mean(0))
