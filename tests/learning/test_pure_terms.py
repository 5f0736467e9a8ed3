"""Terms and monitors change no state; `update` stores what a step carries."""

import copy

import pytest
import torch

from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import JointStack, SimultaneousLayers, Stack, SupervisedLayer
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.values.sparsities import BatchTopK


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(n_inputs=6, n_units=8, seed=0):
    """A layer whose pass carries running moments, a threshold and the activity of the units."""
    generator = seeded(seed)
    encoder = MLP((n_inputs, 5, n_units), normalization="batch", dropout=0.2, generator=generator)
    decoder = MLP((n_units, 5, n_inputs), normalization="batch", generator=generator)
    sparse = BatchTopK(k=2).parts(n_units)
    coder = Coder(EncoderMap(encoder, sparse.code_activation), decoder, Gaussian(n_inputs))
    return Reconstruction(coder, penalties=sparse.penalties)


def head():
    return MLP((8, 3), generator=seeded(3))


OBJECTIVES = {
    "reconstruction": layer,
    "stack": lambda: Stack([layer(), layer(8, 4, 1)]),
    "joint stack": lambda: JointStack([layer(), layer(8, 4, 1)]),
    "simultaneous layers": lambda: SimultaneousLayers([layer(), layer(8, 4, 1)]),
    "supervision": lambda: Supervision(layer(), head(), CrossEntropy(), reconstruction_weight=0.5),
    "supervised layer": lambda: SupervisedLayer(layer(), head(), CrossEntropy(), reconstruction_weight=0.5),
}

every_objective = pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES.keys())

BATCH = Batch(torch.randn(20, 6, generator=seeded(1)), label=torch.arange(20) % 3)


def state(objective):
    return {name: value.clone() for name, value in objective.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@every_objective
def test_terms_change_no_state(build):
    objective = build().train()
    before = state(objective)
    terms, carried = objective.terms(BATCH, 0.5, seeded())
    torch.stack([term.mean() for term in terms.values()]).sum().backward()
    assert changed(before, state(objective)) == set()
    assert len(carried) > 0


@every_objective
@pytest.mark.parametrize("training", [True, False])
def test_the_monitor_changes_no_state_and_repeats_its_values(build, training):
    objective = build().train(training)
    before = state(objective)
    first, second = objective.monitor(BATCH), objective.monitor(BATCH)
    assert changed(before, state(objective)) == set()
    assert first.shape == (20,)
    assert torch.equal(first, second)


@every_objective
def test_update_stores_the_values_that_a_criterion_without_a_collection_stores_at_once(build):
    objective, at_once = (build().train() for _ in range(2))
    before = state(objective)
    for seed in range(2):
        _, carried = objective.terms(BATCH, 0.5, seeded(seed))
        objective.update(carried)
        at_once.criterion(BATCH, 0.5, seeded(seed))
    assert changed(state(objective), state(at_once)) == set()
    parameters = {name for name, _ in objective.named_parameters(remove_duplicate=False)}
    assert changed(before, state(objective))
    assert changed(before, state(objective)).isdisjoint(parameters)


@every_objective
def test_update_stores_nothing_where_the_step_is_skipped(build):
    objective = build().train()
    before = state(objective)
    _, carried = objective.terms(BATCH, 0.5, seeded())
    objective.update(carried, torch.ones(()))
    assert changed(before, state(objective)) == set()
    objective.update(carried, torch.zeros(()))
    assert changed(before, state(objective))


def test_a_copy_carries_values_for_its_own_buffers():
    objective = layer().train()
    copied, before = copy.deepcopy(objective), state(objective)
    _, carried = copied.terms(BATCH, 0.5, seeded())
    copied.update(carried)
    assert changed(before, state(objective)) == set()
    assert changed(before, state(copied))


def test_a_frozen_autoencoder_carries_nothing():
    objective = Supervision(layer(), head(), CrossEntropy(), frozen=True).train()
    assert len(objective.terms(BATCH, 0.5, seeded())[1]) == 0
