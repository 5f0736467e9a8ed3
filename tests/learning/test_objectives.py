"""The criterion: corrupted while learning, counted by entry, penalised by named terms, looked at under fixed draws."""

import pytest
import torch

from isthmus.learning.objectives import Reconstruction
from isthmus.parts.corruptions import GaussianNoise, Masking, MissingEntries
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.passes import Batch
from isthmus.parts.penalties import Penalty


class Size(Penalty):
    """1/2 ||h||^2 by row, or its mean over the batch."""

    def __init__(self, weight, whole=False):
        super().__init__(weight)
        self.whole = whole

    def forward(self, trip, coder, generator):
        by_row = 0.5 * trip.code.square().sum(-1)
        return by_row.mean() if self.whole else by_row


def model(n_inputs=6, **options):
    generator = torch.Generator().manual_seed(0)
    return Reconstruction(
        MLP((n_inputs, 4), generator=generator), MLP((4, 6), generator=generator),
        likelihood_from({"name": "gaussian"}, 6), "sigmoid", **options,
    ).double()  # fmt: skip


X = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def squares(objective, trip):
    return 0.5 * (X - objective.likelihood.mean(trip.parameters)).square()


CONSTANT = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))


def test_rows_are_corrupted_while_learning_and_read_as_they_are():
    objective = model(corruption=GaussianNoise(1.0))
    learning = objective(Batch(X), 0.0, torch.Generator().manual_seed(3))
    reading = objective(Batch(X))
    assert not torch.equal(learning.corrupted, X)
    assert torch.equal(reading.corrupted, X)
    assert torch.equal(objective.encode(Batch(X))[1], reading.code)
    torch.testing.assert_close(objective.nll(learning), (squares(objective, learning) + CONSTANT).sum(1))


@pytest.mark.parametrize(("hit_weight", "other_weight"), [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_entries_count_by_whether_they_were_hit(hit_weight, other_weight):
    objective = model(corruption=Masking(0.4), corrupted_weight=hit_weight, clean_weight=other_weight)
    trip = objective(Batch(X), 0.0, torch.Generator().manual_seed(3))
    by_entry = squares(objective, trip) + CONSTANT
    expected = torch.where(trip.hit > 0, hit_weight * by_entry, other_weight * by_entry).sum(1)
    torch.testing.assert_close(objective.nll(trip), expected)
    mask = (torch.rand(X.shape, generator=torch.Generator().manual_seed(4)) < 0.5).double()
    trip = objective(Batch(X, mask=mask), 0.0, torch.Generator().manual_seed(3))
    expected = (torch.where(trip.hit > 0, hit_weight * by_entry, other_weight * by_entry) * mask).sum(1)
    torch.testing.assert_close(objective.nll(trip), expected)


def test_an_encoder_that_sees_the_mask_is_told_what_is_missing_when_reading_too():
    objective = model(n_inputs=12, corruption=MissingEntries(0.5, n_columns=6))
    mask = torch.ones_like(X)
    mask[:, 2] = 0.0
    other = X.clone()
    other[:, 2] = 7.0
    code = objective.encode(Batch(X, mask=mask))[1]
    assert torch.equal(objective.encode(Batch(other, mask=mask))[1], code)
    assert not torch.equal(objective.encode(Batch(X))[1], code)
    zeroed = X.clone()
    zeroed[:, 2] = 0.0
    assert not torch.equal(objective.encode(Batch(zeroed))[1], code), "a measured zero is not a missing one"


def test_a_penalty_is_a_term_of_its_own_times_its_weight():
    objective = model(penalties={"size": Size(0.5), "mean size": Size(3.0, whole=True)})
    terms = objective.terms(Batch(X), 0.5, None)
    size = 0.5 * objective(Batch(X)).code.square().sum(1)
    torch.testing.assert_close(terms["size"], 0.5 * size)
    torch.testing.assert_close(terms["mean size"], 3.0 * size.mean())
    assert {name: term.shape for name, term in terms.items()} == {
        "reconstruction": (50,), "size": (50,), "mean size": (),
    }  # fmt: skip
    whole = terms["reconstruction"] + terms["size"] + terms["mean size"]
    torch.testing.assert_close(objective.monitor(Batch(X)), whole)


def test_what_is_looked_at_is_the_criterion_under_the_same_draws_every_time():
    objective = model(corruption=Masking(0.4)).eval()
    first = objective.monitor(Batch(X))
    assert torch.equal(objective.monitor(Batch(X)), first)
    assert not torch.equal(objective.nll(objective(Batch(X))), first)
