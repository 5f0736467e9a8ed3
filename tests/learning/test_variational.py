"""The bound of a variational autoencoder: its terms against closed forms, and its gradient against the ordinary one.

The ordinary gradient is that of `Reconstruction`, by reparameterisation alone; the doubly reparameterised one has to
have the same mean.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.learning.objectives import MONITOR_SEED, Reconstruction
from isthmus.learning.trainer import mean_over_rows
from isthmus.learning.variational import VariationalBound
from isthmus.parts.carried import collected
from isthmus.parts.code_distributions import standard_normal_kl
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Gaussian, GaussianPerColumn
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty
from isthmus.parts.priors import CodePrior, FlowPrior, GaussianMixture, PosteriorMixture, StandardNormal
from isthmus.parts.stochastic_inference import DiagonalGaussian
from tests.no_wait import NoWait

N_COLUMNS, CODE_SIZE = 4, 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = 1.5 * torch.randn(6, N_COLUMNS, generator=seeded(1), dtype=torch.float64)


def prior_named(name: str, inference: DiagonalGaussian) -> CodePrior | None:
    if name == "normal":
        return None
    if name == "mixture":
        return GaussianMixture(CODE_SIZE, 3, generator=seeded(4))
    if name == "flow":
        return FlowPrior(CODE_SIZE, n_transforms=1, hidden_sizes=(8,), seed=4)
    prior = PosteriorMixture(CODE_SIZE, 3, N_COLUMNS, inference.posterior)
    prior.start_at(X[:3])
    return prior


def coder(
    k: int = 1, prior: str = "normal", *, path_derivative: bool = False, sizes: tuple[int, ...] = (), **options
) -> Coder:
    """A linear model, or one with hidden layers, in float64."""
    encoder = MLP((N_COLUMNS, *sizes, 2 * CODE_SIZE), generator=seeded(2), **options)
    decoder = MLP((CODE_SIZE, *sizes, N_COLUMNS), generator=seeded(3), **options)
    inference = DiagonalGaussian(encoder, n_draws=k, path_derivative=path_derivative)
    inference.prior = prior_named(prior, inference)
    return Coder(inference, decoder, GaussianPerColumn(N_COLUMNS)).double()


def bound(k: int = 1, prior: str = "normal", *, sizes: tuple[int, ...] = (), **options) -> VariationalBound:
    """The criterion as the estimator builds it: several draws are importance samples."""
    several = k > 1
    options = {"reduction": "logmeanexp" if several else "mean"} | options
    return VariationalBound(coder(k, prior, path_derivative=several, sizes=sizes), **options)


class Size(Penalty):
    """The sum of |h| of each draw."""

    def forward(self, output, coder, generator):
        return output.code.abs().sum(-1)


def terms(objective: Reconstruction, seed: int = 5, progress: float = 1.0, batch: Batch | None = None):
    return objective.terms(Batch(X) if batch is None else batch, progress, seeded(seed))[0]


def total(objective: Reconstruction, seed: int = 5, progress: float = 1.0, batch: Batch | None = None):
    """The loss as the trainer sums it."""
    batch = Batch(X) if batch is None else batch
    found = terms(objective, seed, progress, batch)
    return torch.stack([mean_over_rows(term, batch.weight) for term in found.values()]).sum()


# -- terms --------------------------------------------------------------------------------------------


def test_the_divergence_is_that_of_torch():
    mean, log_variance = (torch.randn(5, 3, generator=seeded(s)) for s in (0, 1))
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(q, standard)
    torch.testing.assert_close(standard_normal_kl(mean, log_variance), expected)


def test_the_closed_form_is_the_mean_of_the_samples():
    closed, sampled = bound(), bound()
    inference = sampled.coder.inference
    inference.n_draws, inference.prior = 20_000, StandardNormal(CODE_SIZE)
    output = sampled(Batch(X), seeded())
    assert output.kl is None
    estimates = sampled.divergence(output)
    assert estimates.shape == (20_000, len(X))
    expected = closed.divergence(closed(Batch(X), seeded()))
    assert expected.shape == (len(X),)
    assert ((estimates.mean(0) - expected).abs() < 5 * estimates.std(0) / math.sqrt(20_000)).all()


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
def test_the_divergence_from_another_prior_is_estimated_by_the_sample(prior):
    objective = bound(prior=prior)
    output = objective(Batch(X), seeded(5))
    expected = output.log_q - objective.coder.inference.prior.log_prob(output.code)
    torch.testing.assert_close(terms(objective)["divergence"], expected[0])


def test_the_reconstruction_is_the_nll_of_the_drawn_code():
    objective = bound()
    output = objective(Batch(X), seeded(5))
    found = terms(objective)
    assert list(found) == ["reconstruction", "divergence"]
    torch.testing.assert_close(found["reconstruction"], objective.coder.nll(output)[0])
    assert (output.code[0] != objective.coder.encode(Batch(X)).code).all()


def test_several_draws_with_the_mean_are_the_mean_of_their_terms():
    objective = VariationalBound(coder(7))
    nll = objective.coder.nll(objective(Batch(X), seeded(5)))
    assert nll.shape == (7, len(X))
    torch.testing.assert_close(terms(objective)["reconstruction"], nll.mean(0))


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_beta_multiplies_the_divergence_alone(beta):
    plain, weighted = terms(bound()), terms(bound(beta=beta))
    assert torch.equal(weighted["reconstruction"], plain["reconstruction"])
    torch.testing.assert_close(weighted["divergence"], beta * plain["divergence"])


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)])
def test_the_weight_rises_linearly_in_the_warm_up(progress, factor):
    objective = bound(beta=3.0, warmup=0.4)
    assert objective.weight_at(progress) == pytest.approx(3 * factor)
    whole = terms(bound())["divergence"]
    torch.testing.assert_close(terms(objective, progress=progress)["divergence"], 3 * factor * whole)


def test_without_a_warm_up_the_weight_is_beta_from_the_start():
    assert bound(beta=2.0, warmup=0.0).weight_at(0.0) == 2.0


def test_the_monitor_has_the_weight_of_the_end():
    objective = bound(beta=3.0, warmup=1.0)
    expected = terms(objective, MONITOR_SEED, 1.0)
    torch.testing.assert_close(objective.monitor(Batch(X)), expected["reconstruction"] + expected["divergence"])
    assert torch.equal(objective.monitor(Batch(X)), objective.monitor(Batch(X)))


@pytest.mark.parametrize("free_bits", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_free_bits_are_the_least_cost_of_each_unit(free_bits, weighted):
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64) if weighted else None
    objective = bound(beta=1.5, free_bits=free_bits)
    by_unit = objective(Batch(X)).kl
    mean = by_unit.mean(0) if weight is None else (weight[:, None] * by_unit).sum(0) / weight.sum()
    expected = 1.5 * sum(max(free_bits, float(unit)) for unit in mean.detach())
    found = terms(objective, batch=Batch(X, weight=weight))["divergence"]
    assert found.shape == ()
    assert float(found.detach()) == pytest.approx(expected)


def test_units_below_their_free_bits_have_no_gradient():
    objective = bound(free_bits=100.0)
    divergence = terms(objective)["divergence"]
    grads = torch.autograd.grad(divergence, objective.coder.encoder.parameters(), allow_unused=True)
    assert all(grad is None or (grad == 0).all() for grad in grads)


def test_missing_entries_take_no_part():
    mask = torch.ones_like(X)
    mask[:, 1] = 0
    objective = bound()
    output = objective(Batch(X, mask=mask), seeded(5))
    by_column = objective.coder.likelihood.nll_by_column(output.parameters, X)[0]
    found = terms(objective, batch=Batch(X, mask=mask))["reconstruction"]
    torch.testing.assert_close(found, by_column[:, [0, 2, 3]].sum(1))


@pytest.mark.parametrize("k", [1, 3])
def test_the_loss_of_weighted_rows_is_that_of_repeated_rows(k):
    objective = bound(k, sizes=(5,))
    objective.coder.inference.n_draws = k
    noise = torch.randn(k, len(X), CODE_SIZE, generator=seeded(), dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    index = torch.repeat_interleave(torch.arange(len(X)), weight.long())

    def loss(batch, e):
        inference = objective.coder.inference
        original, inference.draw = inference.draw, lambda a, *_: DiagonalGaussian.draw(inference, a, e)
        try:
            return total(objective, batch=batch)
        finally:
            del inference.draw
            assert inference.draw == original

    torch.testing.assert_close(loss(Batch(X, weight=weight), noise), loss(Batch(X[index]), noise[:, index]))


# -- importance samples -------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp", "flow"])
@pytest.mark.parametrize("k", [2, 7])
def test_the_importance_bound_is_the_log_of_the_mean_of_the_weights(k, prior):
    plain = Reconstruction(coder(k, prior), reduction="logmeanexp")
    found = terms(bound(k, prior))
    assert list(found) == ["bound"]
    assert found["bound"].shape == (len(X),)
    torch.testing.assert_close(found["bound"], terms(plain)["bound"])


def test_the_bound_of_one_sample_is_the_evidence_lower_bound_of_that_sample():
    objective = VariationalBound(coder(1), reduction="logmeanexp")
    output = objective(Batch(X), seeded(5))
    expected = objective.coder.nll(output) + output.log_q - output.log_prior
    torch.testing.assert_close(terms(objective)["bound"], expected[0])


def test_the_warm_up_raises_the_ratio_to_the_power_of_the_weight():
    objective = bound(5, warmup=0.5)
    output = objective(Batch(X), seeded(5))
    log_w = 0.5 * (output.log_prior - output.log_q) - objective.coder.nll(output)
    expected = math.log(5) - torch.logsumexp(log_w, 0)
    torch.testing.assert_close(terms(objective, progress=0.25)["bound"], expected)


def test_equal_rows_have_the_monitored_bound_without_gradient():
    found = bound(5).monitor(Batch(X))
    assert found.shape == (len(X),)
    with torch.no_grad():
        torch.testing.assert_close(found.detach(), terms(bound(5), MONITOR_SEED)["bound"])


def gradient(objective: nn.Module, seed: int, batch: Batch, progress: float = 1.0) -> torch.Tensor:
    """The gradient of the loss with respect to all parameters, in the order of their names."""
    named = dict(sorted(objective.named_parameters()))
    grads = torch.autograd.grad(total(objective, seed, progress, batch), list(named.values()))
    return torch.cat([grad.flatten() for grad in grads])


def parts_of(objective: nn.Module) -> dict[str, list[int]]:
    """The positions of each part in the gradient."""
    found: dict[str, list[int]] = {}
    start = 0
    for name, parameter in sorted(objective.named_parameters()):
        part = "prior" if "prior" in name else name.split(".")[1]
        found.setdefault(part, []).extend(range(start, start + parameter.numel()))
        start += parameter.numel()
    return found


def gradients(objective: nn.Module, batch: Batch, n: int, progress: float = 1.0) -> torch.Tensor:
    """Gradients of n seeds, in one batch for each."""
    return torch.stack([gradient(objective, seed, batch, progress) for seed in range(n)])


def assert_same_mean(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Two gradients of the same noise agree in the mean of each parameter within 4.5 standard errors."""
    difference = found - expected
    z = difference.mean(0).abs() / (difference.std(0) / math.sqrt(len(found)) + 1e-10)
    assert z.max() < 4.5, f"largest deviation {float(z.max()):.1f} standard errors"


REPEATED = Batch(X.repeat(100, 1))
"""A hundred copies of the rows: a gradient is then the mean over a hundred samples of the noise."""


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
@pytest.mark.parametrize("k", [2, 8])
def test_the_doubly_reparameterised_gradient_is_unbiased(k, prior):
    ordinary = Reconstruction(coder(k, prior), reduction="logmeanexp")
    objective = bound(k, prior)
    assert_same_mean(gradients(objective, REPEATED, 50), gradients(ordinary, REPEATED, 50))


def test_the_doubly_reparameterised_gradient_with_a_flow_is_unbiased():
    ordinary = Reconstruction(coder(4, "flow"), reduction="logmeanexp")
    assert_same_mean(gradients(bound(4, "flow"), REPEATED, 30), gradients(ordinary, REPEATED, 30))


class Tempered(VariationalBound):
    """The same bound with the ordinary gradient, for a weight other than 1."""

    def _importance_bound(self, output, weight):
        log_w = weight * (output.log_prior - output.log_q) - self.nll(output)
        return math.log(len(log_w)) - torch.logsumexp(log_w, 0)


def test_the_tempered_bound_has_the_value_of_the_criterion():
    tempered = Tempered(coder(5), warmup=0.5, reduction="logmeanexp")
    torch.testing.assert_close(
        terms(tempered, progress=0.25)["bound"], terms(bound(5, warmup=0.5), progress=0.25)["bound"]
    )


@pytest.mark.parametrize("progress", [0.0, 0.25])
def test_the_gradient_is_unbiased_during_the_warm_up(progress):
    """With the weight w the samples of the encoder's gradient have the factors (1 - w) w_i + w w_i^2."""
    tempered = Tempered(coder(5), warmup=0.5, reduction="logmeanexp")
    objective = bound(5, warmup=0.5)
    assert_same_mean(gradients(objective, REPEATED, 40, progress), gradients(tempered, REPEATED, 40, progress))


def test_the_decoder_and_the_prior_get_the_ordinary_gradient_of_the_same_noise():
    ordinary, objective = Reconstruction(coder(5, "mixture"), reduction="logmeanexp"), bound(5, "mixture")
    parts = parts_of(objective)
    assert parts.keys() == {"decoder", "inference", "likelihood", "prior"}
    found, expected = (gradient(o, 3, Batch(X)) for o in (objective, ordinary))
    for part in ("decoder", "likelihood", "prior"):
        torch.testing.assert_close(found[parts[part]], expected[parts[part]])
    assert not torch.allclose(found[parts["inference"]], expected[parts["inference"]])


def at_optimum(objective: nn.Module) -> nn.Module:
    """Move the encoder of a linear model near the posterior by some steps of the closed form."""
    closed = VariationalBound(objective.coder)
    inference = objective.coder.inference
    k, inference.n_draws = inference.n_draws, 1
    optimizer = torch.optim.Adam(inference.encoder.parameters(), 0.05)
    for seed in range(150):
        optimizer.zero_grad()
        total(closed, seed).backward()
        optimizer.step()
    inference.n_draws = k
    return objective


def test_the_gradient_of_the_encoder_has_a_smaller_variance_with_many_samples():
    ordinary = Reconstruction(coder(50), reduction="logmeanexp")
    objective = bound(50)
    objective.load_state_dict(at_optimum(ordinary).state_dict())
    rows = parts_of(objective)["inference"]
    doubly, plain = (gradients(o, Batch(X), 100)[:, rows].var(0).sum() for o in (objective, ordinary))
    assert doubly < 0.5 * plain


def test_the_path_derivative_of_one_sample_is_that_of_the_evidence_lower_bound():
    path = Reconstruction(coder(1, path_derivative=True))
    closed = VariationalBound(coder(1))
    assert_same_mean(gradients(path, REPEATED, 40), gradients(closed, REPEATED, 40))


def test_the_path_derivative_vanishes_where_q_is_the_posterior():
    """Of log p(x, h) - log q(h | x) along h: constant in h if q is the exact posterior."""
    model = coder(1, path_derivative=True)
    encoder, decoder = model.encoder.affine_maps[0], model.decoder.affine_maps[0]
    with torch.no_grad():
        q, _ = torch.linalg.qr(torch.randn(N_COLUMNS, CODE_SIZE, generator=seeded(7), dtype=torch.float64))
        decoder.weight.copy_(q)
        decoder.bias.zero_()
        free = 10 * torch.atanh(torch.tensor(0.5, dtype=torch.float64).log() / 10)
        encoder.weight.copy_(torch.cat([0.5 * q.T, torch.zeros_like(q.T)]))
        encoder.bias.copy_(torch.cat([torch.zeros(CODE_SIZE), free.expand(CODE_SIZE)]))
    grads = torch.autograd.grad(total(Reconstruction(model)), model.encoder.parameters())
    assert all(grad.abs().max() < 1e-10 for grad in grads)


# -- steps ----------------------------------------------------------------------------------------------

STEPS = {
    "evidence lower bound": {},
    "free bits": {"free_bits": 0.1},
    "importance samples": {"k": 4},
    "mixture": {"prior": "mixture"},
    "pseudo-inputs": {"prior": "vamp"},
    "flow": {"prior": "flow"},
    "importance samples, pseudo-inputs": {"k": 4, "prior": "vamp"},
}
every_step = pytest.mark.parametrize("options", STEPS.values(), ids=STEPS.keys())


@every_step
def test_terms_change_nothing(options):
    objective = bound(sizes=(5,), **options).train()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    first, again = (terms(objective, progress=0.3) for _ in range(2))
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(torch.equal(first[name], again[name]) for name in first)


@every_step
def test_a_step_does_not_wait(options):
    objective = bound(sizes=(5,), **options).train()
    with NoWait(), collected():
        loss = total(objective, progress=0.3)
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


@every_step
def test_a_second_backward_pass_gives_the_same_gradient(options):
    objective = bound(sizes=(5,), **options)
    torch.testing.assert_close(gradient(objective, 1, Batch(X)), gradient(objective, 1, Batch(X)))
    copied = copy.deepcopy(objective)
    torch.testing.assert_close(gradient(copied, 1, Batch(X)), gradient(objective, 1, Batch(X)))


@every_step
def test_terms_under_autocast_are_in_single_precision(options):
    objective = bound(sizes=(5,), **options).float()
    batch = Batch(X.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = terms(objective, batch=batch)
    expected = terms(objective, batch=batch)
    for name, term in found.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, expected[name], rtol=0.1, atol=0.2)


def test_a_penalty_is_an_outer_term():
    objective = bound(penalties={"size": Size(0.5)})
    output = objective(Batch(X), seeded(5))
    torch.testing.assert_close(terms(objective)["size"], 0.5 * output.code.abs().sum(-1)[0])


def test_the_gradient_of_a_penalty_is_not_weighted_by_the_importance_of_the_samples():
    try:
        objective = bound(5, penalties={"size": Size(0.5)})
    except InputError:
        return  # the estimator refuses them, too
    found, named = terms(objective), list(objective.coder.encoder.parameters())
    grads = torch.autograd.grad(found["size"].mean(), named)
    output = objective(Batch(X), seeded(5))
    size = 0.5 * output.code.abs().sum(-1).mean()
    for grad, expected in zip(grads, torch.autograd.grad(size, named), strict=True):
        torch.testing.assert_close(grad, expected)


# -- before training ------------------------------------------------------------------------------------


class ListOfRows:
    """Rows that count how many are read."""

    n_columns = N_COLUMNS

    def __init__(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        self.x, self.mask, self.read = x, mask, 0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index):
        self.read += len(index)
        return Batch(self.x[index], mask=None if self.mask is None else self.mask[index])


def test_pseudo_inputs_start_at_rows():
    objective, rows = bound(prior="vamp"), ListOfRows(torch.arange(40.0).view(10, 4).double())
    objective.prepare(rows)
    assert torch.equal(objective.coder.inference.prior.inputs, rows.x[[0, 3, 6]])


def test_pseudo_inputs_have_the_mean_of_the_column_at_missing_entries():
    """Its value in model space may lie far from the placeholder, as for counts or pixels."""
    x = torch.full((6, N_COLUMNS), 5.0, dtype=torch.float64)
    mask = torch.ones_like(x)
    mask[0, 1] = 0
    objective = bound(prior="vamp")
    objective.prepare(ListOfRows(torch.where(mask > 0, x, 0.0), mask))
    assert torch.equal(objective.coder.inference.prior.inputs, x[:3])


@pytest.mark.parametrize("prior", ["normal", "mixture", "flow"])
def test_a_prior_that_does_not_start_at_rows_reads_none(prior):
    rows, plain = (ListOfRows(X) for _ in range(2))
    bound(prior=prior).prepare(rows)
    Reconstruction(coder(prior=prior)).prepare(plain)
    assert rows.read == plain.read


def test_the_exact_log_density_is_reached_by_the_bound_of_the_posterior():
    """A linear model whose q is the posterior: each bound is log N(x; 0, W W' + I)."""
    q, _ = torch.linalg.qr(torch.randn(N_COLUMNS, CODE_SIZE, generator=seeded(7), dtype=torch.float64))
    for k in (1, 6):
        model = coder(k, path_derivative=k > 1)
        model.likelihood = Gaussian(N_COLUMNS)
        encoder, decoder = model.encoder.affine_maps[0], model.decoder.affine_maps[0]
        with torch.no_grad():
            decoder.weight.copy_(q)
            decoder.bias.zero_()
            free = 10 * torch.atanh(torch.tensor(0.5, dtype=torch.float64).log() / 10)
            encoder.weight.copy_(torch.cat([0.5 * q.T, torch.zeros_like(q.T)]))
            encoder.bias.copy_(torch.cat([torch.zeros(CODE_SIZE), free.expand(CODE_SIZE)]))
        covariance = q @ q.T + torch.eye(N_COLUMNS, dtype=torch.float64)
        zero = torch.zeros(N_COLUMNS, dtype=torch.float64)
        expected = -torch.distributions.MultivariateNormal(zero, covariance).log_prob(X)
        objective = VariationalBound(model, reduction="logmeanexp")
        torch.testing.assert_close(terms(objective)["bound"], expected)
