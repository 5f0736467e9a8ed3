"""The criterion: corruption during training, weights of entries, named penalties, deterministic monitor."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from isthmus.errors import InputError
from isthmus.learning.objectives import MONITOR_SEED, Reconstruction, reduce_draws
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import GaussianNoise, Masking, MissingEntries
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, EncoderMap, Inference
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty


class Size(Penalty):
    """1/2 ||h||^2 per row, or its mean over the batch."""

    def __init__(self, weight, whole=False, inner=False):
        super().__init__(weight)
        self.whole, self.inner = whole, inner

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


class Draws(Inference):
    """Inference with k codes around a map, and densities of them."""

    def __init__(self, k):
        super().__init__()
        self.encoder, self.k = MLP((6, 4), generator=torch.Generator().manual_seed(0)), k

    def forward(self, batch, decoder, generator=None, progress=1.0):
        a = self.encoder(batch.x)
        if generator is None:
            return Code(a, a)
        h = a + torch.randn(self.k, *a.shape, generator=generator, dtype=a.dtype)
        return Code(h, a, log_q=-0.5 * (h - a).square().sum(-1), log_prior=-0.5 * h.square().sum(-1))


def random_model(k=5, **options):
    coder = Coder(
        Draws(k), MLP((4, 6), generator=torch.Generator().manual_seed(1)), likelihood_from({"name": "gaussian"}, 6)
    )
    return Reconstruction(coder, **options).double()


def terms_of_draws(objective):
    """The terms of each draw, (draws, batch), with numpy."""
    output = objective(Batch(X), torch.Generator().manual_seed(3))
    terms = {
        "reconstruction": objective.nll(output),
        "divergence": output.log_q - output.log_prior,
        "size": 0.5 * output.code.square().sum(-1),
    }
    return {name: term.detach().numpy() for name, term in terms.items()}


def found_terms(objective):
    terms, _ = objective.terms(Batch(X), 0.5, torch.Generator().manual_seed(3))
    return {name: term.detach().numpy() for name, term in terms.items()}


def test_terms_are_the_means_over_draws():
    objective = random_model(penalties={"size": Size(0.5)})
    expected, found = terms_of_draws(objective), found_terms(objective)
    assert found.keys() == expected.keys()
    for name, weight in (("reconstruction", 1), ("divergence", 1), ("size", 0.5)):
        np.testing.assert_allclose(found[name], weight * expected[name].mean(0))


def test_the_bound_is_the_log_of_the_mean_of_the_exponentials_of_all_inner_terms():
    for inner in (False, True):
        objective = random_model(reduction="logmeanexp", penalties={"size": Size(0.5, inner=inner)})
        expected, found = terms_of_draws(objective), found_terms(objective)
        total = expected["reconstruction"] + expected["divergence"] + (0.5 * expected["size"] if inner else 0)
        np.testing.assert_allclose(found["bound"], np.log(5) - logsumexp(-total, axis=0))
        assert found.keys() == ({"bound"} if inner else {"bound", "size"})
        if not inner:
            np.testing.assert_allclose(found["size"], 0.5 * expected["size"].mean(0))
        assert (found["bound"] < total.mean(0)).all(), "the bound is tighter than the mean"


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
def test_one_draw_has_the_same_total_for_every_reduction(reduction):
    objective = random_model(k=1, reduction=reduction)
    expected = terms_of_draws(objective)
    total = sum(found_terms(objective).values())
    np.testing.assert_allclose(total, (expected["reconstruction"] + expected["divergence"])[0])


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
def test_the_monitor_reduces_draws_as_the_criterion_does(reduction):
    objective = random_model(reduction=reduction, penalties={"size": Size(0.5)}).eval()
    first = objective.monitor(Batch(X))
    assert first.shape == (50,)
    assert torch.equal(objective.monitor(Batch(X)), first)
    terms, _ = objective.terms(Batch(X), 1.0, torch.Generator().manual_seed(MONITOR_SEED))
    torch.testing.assert_close(first, sum(terms.values()))


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
def test_terms_without_draws_and_terms_with_several_axes_of_draws_are_reduced(reduction):
    terms = {"reconstruction": torch.rand(3), "size": torch.rand(())}
    assert reduce_draws(terms, reduction) == terms
    draws = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    flat = reduce_draws({"reconstruction": draws.flatten(0, 1)}, reduction)
    assert reduce_draws({"reconstruction": draws}, reduction).keys() == flat.keys()
    for name, value in reduce_draws({"reconstruction": draws}, reduction).items():
        assert value.shape == (4,)
        torch.testing.assert_close(value, flat[name])


def test_an_unknown_reduction_raises():
    with pytest.raises(InputError, match="reduction 'logmean' is unknown; did you mean 'logmeanexp'"):
        model(reduction="logmean")
