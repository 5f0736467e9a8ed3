"""The discrepancy of codes from a prior and the total correlation: loops, closed forms, invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from isthmus import MMD as Discrepancy
from isthmus import Autoencoder, DenoisingAutoencoder, InputError, Neighbours, SparseAutoencoder, VariationalAutoencoder
from isthmus import TotalCorrelation as Dependence
from isthmus.learning.rows import weighted_size
from isthmus.learning.stacking import CodeRows
from isthmus.parts.code_penalties import (
    KERNELS,
    MMD,
    BitBalance,
    Decorrelation,
    NeighbourReconstruction,
    TotalCorrelation,
)
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.priors import GaussianMixture
from isthmus.parts.stochastic_inference import DiagonalGaussian

SCALES = (0.3, 2.0)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coder_of(code_size=2, *, n_draws=1, prior=None):
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((4, 2 * code_size), (code_size, 4)))
    return Coder(DiagonalGaussian(encoder, n_draws=n_draws, prior=prior), decoder, Gaussian(4))


# -- the discrepancy ---------------------------------------------------------------------------------


def kernel_by_hand(name, a, b):
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    constants = [scale * 2 * len(a) for scale in SCALES]
    return sum(c / (c + squared) if name == "imq" else np.exp(-squared / c) for c in constants)


def discrepancy_by_hand(name, h, g, w):
    """The estimate as two loops over pairs of rows."""
    w, m = w / w.sum(), len(g)
    pairs = [(i, j) for i in range(len(h)) for j in range(len(h)) if i != j]
    codes = sum(w[i] * w[j] * kernel_by_hand(name, h[i], h[j]) for i, j in pairs) / sum(w[i] * w[j] for i, j in pairs)
    samples = sum(kernel_by_hand(name, g[i], g[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    both = sum(w[i] * kernel_by_hand(name, h[i], g[j]) / m for i in range(len(h)) for j in range(m))
    return codes + samples - 2 * both


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_discrepancy_is_that_of_two_loops(kernel, weighted):
    h, g = normals(2, 7, 3), normals(2, 5, 3, seed=1)
    w = torch.rand(7, generator=torch.Generator().manual_seed(2), dtype=torch.float64) if weighted else None
    found = MMD(kernel=kernel, scales=SCALES).of(h, g, w)
    weights = np.ones(7) if w is None else w.numpy()
    expected = np.mean([discrepancy_by_hand(kernel, a, b, weights) for a, b in zip(h.numpy(), g.numpy(), strict=True)])
    assert found.shape == ()
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_expectation_is_zero_for_codes_of_the_prior_and_positive_for_others(kernel):
    penalty, repeats = MMD(kernel=kernel), range(300)
    same = [penalty.of(normals(20, 2, seed=2 * i), normals(20, 2, seed=2 * i + 1)).item() for i in repeats]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < max(same)
    for other in (lambda h: h + 1, lambda h: 0.3 * h, lambda h: h[:, :1].repeat(1, 2)):
        found = [penalty.of(other(normals(20, 2, seed=2 * i)), normals(20, 2, seed=2 * i + 1)).item() for i in repeats]
        assert np.mean(found) > 8 * np.std(found) / np.sqrt(len(found))


def test_the_discrepancy_has_the_invariances_of_distances():
    h, g, penalty = normals(9, 3), normals(9, 3, seed=1), MMD()
    rotation = torch.from_numpy(scipy.stats.ortho_group.rvs(3, random_state=0))
    torch.testing.assert_close(penalty.of(h @ rotation + 2, g @ rotation + 2), penalty.of(h, g))
    torch.testing.assert_close(penalty.of(h.flip(0), g), penalty.of(h, g))
    torch.testing.assert_close(penalty.of(g, h), penalty.of(h, g))


def test_rows_of_weight_zero_are_left_out_and_the_scale_of_weights_has_no_effect():
    h, g, w = normals(6, 3), normals(6, 3, seed=1), torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 0.0])
    torch.testing.assert_close(MMD().of(h, g, w), MMD().of(h[:4], g, w[:4]))
    torch.testing.assert_close(MMD().of(h, g, 7 * w), MMD().of(h, g, w))


def test_one_row_has_no_pairs_and_a_finite_value():
    assert torch.isfinite(MMD().of(normals(1, 3), normals(1, 3, seed=1)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_of_the_discrepancy_is_that_of_finite_differences(kernel):
    h, g, w = normals(2, 4, 3).requires_grad_(), normals(2, 4, 3, seed=1), torch.rand(4, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(lambda h: MMD(kernel=kernel).of(h, g, w), h)


def test_equal_codes_have_a_finite_gradient():
    h = torch.zeros(5, 2, requires_grad=True)
    MMD().of(h, normals(5, 2).float()).backward()
    assert torch.isfinite(h.grad).all()


def test_the_samples_are_those_of_the_prior_of_the_inference():
    prior = GaussianMixture(2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prior.means.add_(5)
    coder = coder_of(n_draws=3, prior=prior)
    output = coder(Batch(normals(50, 4).float()), torch.Generator().manual_seed(0))
    near, far = prior.sample(150, torch.Generator().manual_seed(1)).reshape(3, 50, 2), normals(3, 50, 2).float()
    penalty = MMD()
    found = penalty(output, coder, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, penalty.of(output.code, near))
    assert penalty.of(near, near[:, :40]) < 0.1 < penalty.of(far, near)
    found.backward()
    assert prior.means.grad is None
    assert coder.encoder.affine_maps[0].weight.grad.abs().sum() > 0


def test_without_a_generator_the_samples_are_the_same_at_every_call():
    generator = torch.Generator().manual_seed(0)
    coder = Coder(EncoderMap(MLP((4, 2), generator=generator)), MLP((2, 4), generator=generator), Gaussian(4))
    output = coder(Batch(normals(20, 4).float()))
    assert MMD()(output, coder, None) == MMD()(output, coder, None) == MMD().of(output.code, normals_of_seed(20, 2))


def normals_of_seed(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_codes_in_half_precision_are_compared_in_full():
    h, g = normals(40, 8).bfloat16(), normals(40, 8, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = MMD().of(h, g)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, MMD().of(h.float(), g), rtol=1e-4, atol=1e-5)


def test_an_autoencoder_with_the_discrepancy_has_codes_of_the_prior():
    X = np.random.default_rng(0).normal(size=(400, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    options = {"code_size": 2, "hidden_sizes": (16,), "max_epochs": 30, "random_state": 0}
    plain, near = (Autoencoder(penalties=p, **options).fit(X).transform(X) for p in ((), [Discrepancy()]))
    distances = [np.abs(np.cov(codes.T) - np.eye(2)).max() + np.abs(codes.mean(0)).max() for codes in (plain, near)]
    assert distances[1] < 0.3 < distances[0]


# -- the total correlation ---------------------------------------------------------------------------


def correlated(n, rho, *, width=0.5, seed=0):
    """Samples, means and log-variances of n rows whose codes are together N(0, [[1, rho], [rho, 1]])."""
    rest = np.array([[1, rho], [rho, 1]]) - width**2 * np.eye(2)
    mean = normals(n, 2, seed=seed) @ torch.from_numpy(np.linalg.cholesky(rest)).T
    return mean + width * normals(n, 2, seed=seed + 1000), (mean, torch.full_like(mean, 2 * np.log(width)))


def closed_form(rho):
    return -0.5 * np.log(1 - rho**2)


def dependence_by_hand(h, mean, log_variance, w):
    """The mean of log q(h) - sum_j log q(h_j) for the mixture of the posteriors of all rows."""
    log_q = scipy.stats.norm(mean[None], np.exp(log_variance / 2)[None]).logpdf(h[:, None])
    joint = scipy.special.logsumexp(log_q.sum(-1) + np.log(w / w.sum()), axis=1)
    units = scipy.special.logsumexp(log_q + np.log(w / w.sum())[:, None], axis=1)
    return np.average(joint - units.sum(-1), weights=w)


@pytest.mark.parametrize("code_size", [3, 20])
def test_for_a_batch_of_all_rows_q_is_the_mixture_of_their_posteriors(code_size):
    mean, log_variance, w = normals(6, code_size), normals(6, code_size, seed=1), normals(6, seed=2).exp()
    h = normals(2, 6, code_size, seed=3) + mean
    expected = np.mean([dependence_by_hand(a.numpy(), mean.numpy(), log_variance.numpy(), w.numpy()) for a in h])
    found = TotalCorrelation().of(h, (mean, log_variance), w)
    assert found.shape == ()
    np.testing.assert_allclose(found.item(), expected, rtol=1e-10)


@pytest.mark.parametrize("rho", [0.0, 0.4, -0.7])
def test_the_total_correlation_of_a_gaussian_is_its_closed_form(rho):
    """The estimate from 1,500 rows has a standard error of about .02 and a bias of about .01 nats."""
    found = TotalCorrelation().of(*correlated(1500, rho)).item()
    assert found == pytest.approx(closed_form(rho), abs=0.06)


def test_small_batches_of_many_rows_have_the_closed_form_in_the_mean():
    """The logarithms of the estimates of q from 50 rows have a bias of less than .1 nats together."""
    penalty = TotalCorrelation()
    penalty.prepare(60_000)
    found = [penalty.of(*correlated(50, 0.7, seed=i)).item() for i in range(200)]
    assert np.mean(found) == pytest.approx(closed_form(0.7), abs=0.1)


def test_the_total_correlation_rises_with_the_correlation():
    found = [TotalCorrelation().of(*correlated(400, rho)).item() for rho in (0.0, 0.25, 0.5, 0.7)]
    assert found == sorted(found)


def test_independent_units_have_no_total_correlation():
    """The mixture over a grid of means is a product of mixtures, so each row contributes 0."""
    mean = torch.tensor(list(itertools.product([-1.0, 0.5, 2.0], [0.0, 3.0], [1.0, 4.0])), dtype=torch.float64)
    log_variance = torch.tensor([0.1, -1.0, 0.5]).double().expand_as(mean)
    found = TotalCorrelation().of(mean + normals(*mean.shape), (mean, log_variance))
    torch.testing.assert_close(found, torch.zeros(()).double(), atol=1e-12, rtol=0)


def test_one_unit_has_no_total_correlation():
    h, mean, log_variance = normals(2, 9, 1), normals(9, 1, seed=1), normals(9, 1, seed=2)
    penalty = TotalCorrelation()
    penalty.prepare(1000)
    torch.testing.assert_close(penalty.of(h, (mean, log_variance)), torch.zeros(()).double())


def test_affine_maps_of_units_and_orders_of_rows_and_units_have_no_effect():
    h, mean, log_variance = normals(9, 3) + 1, normals(9, 3, seed=1), normals(9, 3, seed=2)
    penalty, scale = TotalCorrelation(), torch.tensor([2.0, -0.1, 5.0]).double()
    penalty.prepare(200)
    expected = penalty.of(h, (mean, log_variance))
    mapped = penalty.of(scale * h + 3, (scale * mean + 3, log_variance + 2 * scale.abs().log()))
    torch.testing.assert_close(mapped, expected)
    torch.testing.assert_close(penalty.of(h.flip(0), (mean.flip(0), log_variance.flip(0))), expected)
    torch.testing.assert_close(penalty.of(h.flip(1), (mean.flip(1), log_variance.flip(1))), expected)


def test_a_row_of_weight_two_counts_as_two_rows():
    h, mean, log_variance = normals(5, 3), normals(5, 3, seed=1), normals(5, 3, seed=2)
    penalty, twice = TotalCorrelation(), torch.tensor([0, 1, 2, 3, 4, 4])
    weighted = penalty.of(h, (mean, log_variance), torch.tensor([1.0, 1, 1, 1, 2, 0])[:5])
    torch.testing.assert_close(weighted, penalty.of(h[twice], (mean[twice], log_variance[twice])))


@pytest.mark.parametrize("n_rows", [0, 100])
def test_rows_of_weight_zero_have_no_total_correlation_and_no_gradient(n_rows):
    h, mean, log_variance = (normals(5, 3, seed=i) for i in range(3))
    penalty, w = TotalCorrelation(), torch.tensor([1.0, 2.0, 0.5, 0.0, 0.0])
    penalty.prepare(n_rows)
    mean.requires_grad_()
    found = penalty.of(h, (mean, log_variance), w)
    torch.testing.assert_close(found, penalty.of(h[:3], (mean[:3], log_variance[:3]), w[:3]))
    found.backward()
    assert torch.isfinite(mean.grad).all()
    assert (mean.grad[3:] == 0).all()


def test_the_value_is_finite_for_one_row_and_for_rows_far_apart():
    penalty = TotalCorrelation()
    penalty.prepare(1000)
    h = 1e3 * normals(4, 3).float()
    assert torch.isfinite(penalty.of(h, (h, torch.full_like(h, -9.0))))
    assert torch.isfinite(penalty.of(h[:1], (h[:1], h[:1] * 0)))


@pytest.mark.parametrize("n_rows", [0, 50])
def test_the_gradient_of_the_total_correlation_is_that_of_finite_differences(n_rows):
    h, mean, log_variance = (normals(*shape).requires_grad_() for shape in ((2, 4, 3), (4, 3), (4, 3)))
    penalty = TotalCorrelation()
    penalty.prepare(n_rows)
    w = torch.tensor([1.0, 0.5, 2.0, 1.0]).double()
    assert torch.autograd.gradcheck(lambda h, m, v: penalty.of(h, (m, v), w), (h, mean, log_variance))


def test_the_moments_are_those_of_the_inference():
    coder = coder_of(n_draws=4)
    output = coder(Batch(normals(20, 4).float()), torch.Generator().manual_seed(0))
    moments = coder.inference.moments(output.preactivation)
    torch.testing.assert_close(TotalCorrelation()(output, coder, None), TotalCorrelation().of(output.code, moments))


# -- in models ---------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(60, 4))
QUICK = {"code_size": 2, "max_epochs": 1, "random_state": 0}


def test_the_number_of_rows_is_their_number_or_the_sum_of_their_weights():
    assert weighted_size(CodeRows(torch.zeros(5, 2))) == 5
    assert weighted_size(CodeRows(torch.zeros(3, 2), weights=torch.tensor([1.0, 2.0, 0.5]))) == pytest.approx(3.5)


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_the_objective_counts_the_training_rows(again, monkeypatch):
    seen = []
    monkeypatch.setattr(TotalCorrelation, "prepare", lambda self, n_rows: seen.append(n_rows))
    model = VariationalAutoencoder(penalties=["total-correlation"], validation_fraction=0.0, **QUICK).fit(X)
    getattr(model.set_params(warm_start=True), again)(X[:20])
    assert seen == [60, 20]


def test_the_total_correlation_needs_a_gaussian_code():
    with pytest.raises(InputError, match="TotalCorrelation needs mean and variance of the code of a row") as error:
        Autoencoder(penalties=[Dependence()], **QUICK).fit(X)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "activation"),
    [
        (DenoisingAutoencoder(penalties=[Discrepancy()], **QUICK), "'sigmoid'"),
        (SparseAutoencoder(penalties=["mmd"], sparsity="topk", **QUICK), "'TopK'"),
    ],
    ids=["denoising", "sparse"],
)
def test_the_discrepancy_needs_codes_of_any_value(model, activation):
    with pytest.raises(InputError, match=rf"penalties holds MMD\(\), .* code_activation is {activation}; give"):
        model.fit(X)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Discrepancy(weight=-1), "MMD: weight -1 is invalid"),
        (lambda: Discrepancy(kernel="rbf"), "MMD: kernel"),
        (lambda: Discrepancy(scales=()), r"MMD: scales=\(\): give at least one number above 0, in a list"),
        (lambda: Discrepancy(scales=(1.0, 0.0)), "MMD: scale"),
        (lambda: Discrepancy(scales=2.0), "MMD: scales=2.0: give at least one number above 0, in a list"),
        (lambda: Dependence(weight=float("nan")), "TotalCorrelation: weight nan is invalid"),
    ],
)
def test_invalid_fields_raise_in_one_line(build, text):
    with pytest.raises(InputError, match=text) as error:
        build()
    assert "\n" not in str(error.value)


# -- bits --------------------------------------------------------------------------------------------


def bits_of(n=40, size=5, seed=0):
    return torch.rand(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_balance_and_decorrelation_are_those_of_numpy():
    code, w = bits_of(), torch.linspace(0.1, 2, 40, dtype=torch.float64)
    rate, covariance = np.average(code, axis=0, weights=w), np.cov(code.T, aweights=w, bias=True)
    assert BitBalance().of(code, w).item() == pytest.approx(((2 * rate - 1) ** 2).sum())
    pairs = (4 * covariance[np.triu_indices(5, 1)]) ** 2
    assert Decorrelation().of(code, w).item() == pytest.approx(pairs.sum())


@pytest.mark.parametrize("penalty", [BitBalance(), Decorrelation()])
def test_rows_of_weight_two_count_as_two_rows_and_draws_as_rows(penalty):
    code, w = bits_of(6), torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0, 1.0])
    repeated = code[[0, 1, 1, 2, 3, 4, 4, 5]]
    assert penalty.of(code, w).item() == pytest.approx(penalty.of(repeated).item())
    assert penalty.of(torch.stack([code, code])).item() == pytest.approx(penalty.of(code).item())


def test_balanced_independent_bits_have_no_penalty():
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    assert BitBalance().of(states).item() == pytest.approx(0)
    assert Decorrelation().of(states).item() == pytest.approx(0)


def test_the_neighbours_term_is_the_nll_of_the_neighbour_and_zero_without_one():
    coder = coder_of()
    x, other = (torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 4))).float() for seed in (0, 1))
    mask = torch.tensor([[1.0, 0, 1, 1]] * 3)
    penalty = NeighbourReconstruction(n_neighbours=2)
    assert not penalty(coder(Batch(x)), coder, None).any()
    output = coder(Batch(x, neighbour=Batch(other, mask=mask)))
    found = penalty(output, coder, None)
    assert torch.allclose(found, coder.likelihood.nll(output.parameters, other, mask))


def test_bit_penalties_need_units_between_zero_and_one():
    with pytest.raises(InputError, match="units in \\(0, 1\\)"):
        Autoencoder(code_size=2, penalties=["bit-balance"]).fit(np.eye(8))


@pytest.mark.parametrize("kind", [Autoencoder, SparseAutoencoder, VariationalAutoencoder])
def test_other_kinds_take_neighbours(kind):
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = kind(code_size=3, penalties=[Neighbours(k=3)], max_epochs=2, random_state=0).fit(X)
    assert model.history_["epochs"][-1]["terms"]["neighbours"] > 0
    model.partial_fit(X)
