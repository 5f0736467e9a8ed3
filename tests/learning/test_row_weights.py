"""A row of weight 0 has no effect on the loss of any objective, terms of the batch included."""

import pytest
import torch

from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import JointStack, SimultaneousLayers, Stack, SupervisedLayer
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.learning.trainer import mean_over_rows
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import TargetRate


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(n_inputs=6, n_units=4):
    encoder, decoder = (MLP(sizes, generator=seeded()) for sizes in ((n_inputs, n_units), (n_units, n_inputs)))
    coder = Coder(EncoderMap(encoder, "sigmoid"), decoder, Bernoulli(n_inputs))
    return Reconstruction(coder, penalties={"rate": TargetRate()})


def rbm():
    energy = RBMEnergy(Bernoulli(6), 4, weight_scale=1.0, generator=seeded())
    return ContrastiveDivergence(energy, n_chains=5, weight_decay=0.1, penalties={"rate": TargetRate()})


def head():
    return MLP((4, 3), generator=seeded(3))


OBJECTIVES = {
    "reconstruction": layer,
    "stack": lambda: Stack([layer(), layer(4, 3)]),
    "joint stack": lambda: JointStack([layer(), layer(4, 3)]),
    "simultaneous layers": lambda: SimultaneousLayers([layer(), layer(4, 3)]),
    "rbm": rbm,
    "supervision": lambda: Supervision(layer(), head(), CrossEntropy(), reconstruction_weight=0.5),
    "supervised layer": lambda: SupervisedLayer(layer(), head(), CrossEntropy(), reconstruction_weight=0.5),
}

X, LABELS = torch.rand(6, 6, generator=seeded(1)), torch.arange(6) % 3


def unsupervised_loss(objective, batch):
    """The sum of the means of the terms but the loss of the labels, which have no weights."""
    terms, _ = objective.terms(batch, 0.5, None)
    terms.pop(CrossEntropy.name, None)
    return torch.stack([mean_over_rows(term, objective.row_weights(batch)) for term in terms.values()]).sum()


@pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_a_row_of_weight_zero_has_no_effect_on_the_loss(build):
    weight = torch.tensor([1.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    whole = unsupervised_loss(build(), Batch(X, label=LABELS, weight=weight))
    part = unsupervised_loss(build(), Batch(X[:3], label=LABELS[:3], weight=weight[:3]))
    torch.testing.assert_close(whole, part)
    assert not torch.isclose(whole, unsupervised_loss(build(), Batch(X, label=LABELS)))


def test_the_weights_of_rows_count_in_the_rate_of_samples_of_the_code():
    codes, weight = torch.rand(3, 4, 2, generator=seeded()), torch.tensor([2.0, 1.0, 0.0, 1.0])
    repeated = codes[:, [0, 0, 1, 3]]
    torch.testing.assert_close(TargetRate().of(codes, weight), TargetRate().of(repeated))
