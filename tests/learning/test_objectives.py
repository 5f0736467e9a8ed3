"""The criterion: corruption during training, weights of entries, named penalties, deterministic monitor."""

import pytest
import torch

from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import GaussianNoise, Masking, MissingEntries
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty


class Size(Penalty):
    """1/2 ||h||^2 per row, or its mean over the batch."""

    def __init__(self, weight, whole=False):
        super().__init__(weight)
        self.whole = whole

    def forward(self, output, coder, generator):
        by_row = 0.5 * output.code.square().sum(-1)
        return by_row.mean() if self.whole else by_row


def model(sees_mask=False, **options):
    generator = torch.Generator().manual_seed(0)
    encoder = MLP((12 if sees_mask else 6, 4), generator=generator)
    coder = Coder(
        EncoderMap(encoder, "sigmoid", sees_mask=sees_mask),
        MLP((4, 6), generator=generator),
        likelihood_from({"name": "gaussian"}, 6),
    )
    return Reconstruction(coder, **options).double()


X = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def squares(objective, output):
    return 0.5 * (X - objective.coder.likelihood.mean(output.parameters)).square()


CONSTANT = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))


def test_rows_are_corrupted_in_training_and_not_in_evaluation():
    objective = model(corruption=GaussianNoise(1.0))
    learning = objective(Batch(X), torch.Generator().manual_seed(3))
    reading = objective(Batch(X))
    assert not torch.equal(learning.seen.x, X)
    assert torch.equal(reading.seen.x, X)
    assert torch.equal(objective.coder.encode(Batch(X)).code, reading.code)
    torch.testing.assert_close(objective.nll(learning), (squares(objective, learning) + CONSTANT).sum(1))


@pytest.mark.parametrize(("corrupted_weight", "clean_weight"), [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_corrupted_and_clean_entries_have_their_own_weights(corrupted_weight, clean_weight):
    objective = model(corruption=Masking(0.4), corrupted_weight=corrupted_weight, clean_weight=clean_weight)
    output = objective(Batch(X), torch.Generator().manual_seed(3))
    by_entry = squares(objective, output) + CONSTANT
    expected = torch.where(output.corruption_mask > 0, corrupted_weight * by_entry, clean_weight * by_entry).sum(1)
    torch.testing.assert_close(objective.nll(output), expected)
    mask = (torch.rand(X.shape, generator=torch.Generator().manual_seed(4)) < 0.5).double()
    output = objective(Batch(X, mask=mask), torch.Generator().manual_seed(3))
    expected = (
        torch.where(output.corruption_mask > 0, corrupted_weight * by_entry, clean_weight * by_entry) * mask
    ).sum(1)
    torch.testing.assert_close(objective.nll(output), expected)


def test_a_mask_aware_encoder_gets_the_mask_in_eval_mode_too():
    objective = model(sees_mask=True, corruption=MissingEntries(0.5, n_columns=6))
    mask = torch.ones_like(X)
    mask[:, 2] = 0.0
    other = X.clone()
    other[:, 2] = 7.0
    code = objective.coder.encode(Batch(X, mask=mask)).code
    assert torch.equal(objective.coder.encode(Batch(other, mask=mask)).code, code)
    assert not torch.equal(objective.coder.encode(Batch(X)).code, code)
    zeroed = X.clone()
    zeroed[:, 2] = 0.0
    assert not torch.equal(objective.coder.encode(Batch(zeroed)).code, code), "a measured zero is not a missing one"


def test_a_penalty_is_a_separate_term_times_its_weight():
    objective = model(penalties={"size": Size(0.5), "mean size": Size(3.0, whole=True)})
    terms, _ = objective.terms(Batch(X), 0.5, None)
    size = 0.5 * objective(Batch(X)).code.square().sum(1)
    torch.testing.assert_close(terms["size"], 0.5 * size)
    torch.testing.assert_close(terms["mean size"], 3.0 * size.mean())
    assert {name: term.shape for name, term in terms.items()} == {
        "reconstruction": (50,), "size": (50,), "mean size": (),
    }  # fmt: skip
    whole = terms["reconstruction"] + terms["size"] + terms["mean size"]
    torch.testing.assert_close(objective.monitor(Batch(X)), whole)


def test_monitor_is_the_criterion_with_fixed_noise():
    objective = model(corruption=Masking(0.4)).eval()
    first = objective.monitor(Batch(X))
    assert torch.equal(objective.monitor(Batch(X)), first)
    assert not torch.equal(objective.nll(objective(Batch(X))), first)
