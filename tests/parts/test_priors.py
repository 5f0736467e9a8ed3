"""Priors of the code: densities against scipy, torch and scikit-learn, samples against densities, gradients, files."""

from __future__ import annotations

import copy
import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from isthmus.errors import InputError
from isthmus.learning.rows import evenly_spaced
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.priors import (
    CodePrior,
    FittedMixture,
    FlowPrior,
    GaussianMixture,
    PosteriorMixture,
    StandardNormal,
    component_samples,
    gaussian_log_prob,
)
from isthmus.parts.stochastic_inference import DiagonalGaussian
from tests.no_wait import NoWait

N_COLUMNS = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def inference(code_size: int, **options: object) -> DiagonalGaussian:
    return DiagonalGaussian(MLP((N_COLUMNS, 6, 2 * code_size), generator=seeded(5)), **options)


def mixture(code_size: int) -> GaussianMixture:
    """A learned mixture of three components with unequal weights and variances."""
    prior = GaussianMixture(code_size, 3, generator=seeded(1))
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        prior.free_log_variances.copy_(normals(3, code_size, seed=2) - 1)
    return prior


def vamp(code_size: int) -> PosteriorMixture:
    prior = PosteriorMixture(code_size, 3, N_COLUMNS, inference(code_size).posterior)
    prior.start_at(3 * normals(30, N_COLUMNS, seed=3))
    return prior


def flow(code_size: int) -> FlowPrior:
    """A flow whose weights are far from those of the identity."""
    prior = FlowPrior(code_size, hidden_sizes=(16,), n_transforms=2, seed=3)
    with torch.no_grad():
        for i, parameter in enumerate(prior.parameters()):
            parameter.add_(0.5 * normals(*parameter.shape, seed=i))
    return prior


def fitted(code_size: int) -> FittedMixture:
    prior = FittedMixture(code_size, 2)
    codes = normals(400, code_size, seed=4)
    codes[:150] = codes[:150] @ (normals(code_size, code_size, seed=6) / 2) + 2
    prior.fit(codes, seed=0)
    return prior


def doubled(prior: CodePrior) -> CodePrior:
    """The prior in float64, with the encoder of a VampPrior, which is no part of the prior."""
    if isinstance(prior, PosteriorMixture):
        prior._posterior[0].__self__.double()
    return prior.double()


PRIORS = {"normal": StandardNormal, "mixture": mixture, "vamp": vamp, "flow": flow, "fitted": fitted}
every_prior = pytest.mark.parametrize("build", PRIORS.values(), ids=PRIORS.keys())


# -- every prior --------------------------------------------------------------------------------------


@every_prior
def test_the_density_of_one_unit_integrates_to_1(build):
    h = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    density = doubled(build(1)).log_prob(h[:, None]).exp().detach()
    assert float(torch.trapezoid(density, h)) == pytest.approx(1, abs=1e-4)


@every_prior
def test_the_density_of_two_units_integrates_to_1(build):
    h = torch.linspace(-9, 9, 451, dtype=torch.float64)
    grid = torch.cartesian_prod(h, h)
    with torch.no_grad():
        total = doubled(build(2)).log_prob(grid).exp().sum() * (h[1] - h[0]) ** 2
    assert float(total) == pytest.approx(1, abs=3e-3)


@every_prior
def test_samples_have_the_moments_of_the_density(build):
    prior, n = doubled(build(2)), 20_000
    h = torch.linspace(-9, 9, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(h, h)
    with torch.no_grad():
        p = prior.log_prob(grid).exp() * (h[1] - h[0]) ** 2
    samples = build(2).sample(n, seeded(7)).double()
    assert samples.shape == (n, 2)
    assert not samples.requires_grad
    for moment in (lambda x: x, lambda x: x.square(), lambda x: x.prod(-1, keepdim=True), lambda x: (x > 0).double()):
        drawn, expected = moment(samples), (p[:, None] * moment(grid)).sum(0)
        slack = 5 * drawn.std(0) / math.sqrt(n) + 0.03  # the second part is the error of the grid at steps
        assert ((drawn.mean(0) - expected).abs() < slack).all()


@every_prior
def test_samples_depend_on_the_generator_alone(build):
    prior = build(2)
    before = torch.random.get_rng_state()
    first, again, other = (prior.sample(5, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@every_prior
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_leading_axes_are_kept_and_codes_are_independent(build, shape):
    prior, codes = build(2), normals(*shape, 2)
    found = prior.log_prob(codes)
    assert found.shape == shape
    torch.testing.assert_close(found.flatten(), torch.stack([prior.log_prob(h[None])[0] for h in codes.view(-1, 2)]))


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "fitted"])
def test_a_density_is_evaluated_with_its_gradient_without_waiting(name):
    prior, codes = PRIORS[name](2), normals(3, 7, 2).requires_grad_()
    with NoWait():
        prior.log_prob(codes).sum().backward()
    assert codes.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())


@every_prior
def test_the_gradient_is_that_of_finite_differences(build):
    prior, codes = doubled(build(2)), normals(4, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(prior.log_prob, (codes,))


@every_prior
def test_a_state_dict_restores_a_prior(build):
    torch.manual_seed(0)
    prior, other = build(2), build(2)
    with torch.no_grad():
        for tensor in (*other.parameters(), *(b for b in other.buffers() if b.is_floating_point())):
            tensor.zero_()
    other.load_state_dict(prior.state_dict())
    codes = normals(5, 2)
    assert torch.equal(other.log_prob(codes), prior.log_prob(codes))
    assert torch.equal(other.sample(5, seeded()), prior.sample(5, seeded()))


@every_prior
def test_densities_far_away_are_finite(build):
    codes = torch.full((1, 2), 150.0).requires_grad_()
    found = build(2).log_prob(codes)
    found.sum().backward()
    assert found.isfinite().all()
    assert found < -100
    assert codes.grad.isfinite().all()


@every_prior
def test_densities_under_autocast_are_those_of_single_precision(build):
    prior, codes = build(3), 2 * normals(200, 3)
    expected = prior.log_prob(codes)
    with torch.autocast("cpu", torch.bfloat16):
        found = prior.log_prob(codes)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < (0.3 if build is vamp else 1e-3)  # vamp: its encoder may run in bf16


@every_prior
def test_a_prior_has_the_precision_of_its_parameters(build):
    prior = doubled(build(2))
    assert prior.log_prob(normals(3, 2).double()).dtype == torch.float64


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "normal"])
def test_a_prior_in_float64_samples(name):
    samples = doubled(PRIORS[name](2)).sample(3, seeded())
    assert samples.dtype == torch.float64


def test_densities_of_float64_codes_agree_with_those_of_float32():
    for build in PRIORS.values():
        codes = normals(50, 2)
        torch.testing.assert_close(
            doubled(build(2)).log_prob(codes.double()).float(), build(2).log_prob(codes), rtol=1e-3, atol=1e-3
        )


# -- formulas -----------------------------------------------------------------------------------------


def test_the_log_density_of_gaussians_is_that_of_scipy():
    mean, log_variance, codes = normals(3), normals(3, seed=1), normals(6, 3, seed=2)
    expected = multivariate_normal(mean.numpy(), np.diag(log_variance.exp())).logpdf(codes.numpy())
    np.testing.assert_allclose(gaussian_log_prob(codes, mean, log_variance), expected, rtol=1e-5)
    np.testing.assert_allclose(
        StandardNormal(3).log_prob(codes), multivariate_normal(np.zeros(3)).logpdf(codes.numpy()), rtol=1e-5
    )


def test_means_and_variances_of_each_row_broadcast_over_draws():
    mean, log_variance, codes = normals(5, 3), normals(5, 3, seed=1), normals(4, 5, 3, seed=2)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp()), 1).log_prob(codes)
    torch.testing.assert_close(gaussian_log_prob(codes, mean, log_variance), expected)


def torch_mixture(prior) -> MixtureSameFamily:
    log_pi, (mean, log_variance) = prior.components()
    components = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    return MixtureSameFamily(Categorical(logits=log_pi), components)


@pytest.mark.parametrize("build", [mixture, vamp])
def test_the_log_density_of_a_mixture_is_that_of_torch(build):
    prior, codes = build(3), 2 * normals(2, 6, 3)
    torch.testing.assert_close(prior.log_prob(codes), torch_mixture(prior).log_prob(codes))


def test_the_components_of_a_learned_mixture_are_its_parameters():
    prior = mixture(2)
    log_pi, (mean, log_variance) = prior.components()
    torch.testing.assert_close(log_pi.exp(), prior.logits.softmax(0))
    assert torch.equal(mean, prior.means)
    torch.testing.assert_close(log_variance, LOG_VARIANCE_BOUND * torch.tanh(prior.free_log_variances / 10))


def test_a_new_mixture_has_equal_weights_unit_variances_and_means_of_its_generator():
    before = torch.random.get_rng_state()
    prior, again, other = (GaussianMixture(3, 400, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    log_pi, (mean, log_variance) = prior.components()
    torch.testing.assert_close(log_pi, torch.full((400,), -math.log(400)))
    assert (log_variance == 0).all()
    assert torch.equal(mean, again.means)
    assert not torch.equal(mean, other.means)
    assert abs(float(mean.detach().std()) - 1) < 0.1


@pytest.mark.parametrize("weights", [[1.0], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.999, 0.001]])
def test_components_are_sampled_by_their_weights(weights):
    n, p = 50_000, torch.tensor(weights)
    counts = torch.bincount(component_samples(p.log(), n, seeded()), minlength=len(p)) / n
    assert len(counts) == len(p)
    assert ((counts - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_weights_that_sum_to_less_than_1_by_rounding_give_components_that_exist():
    log_weights = torch.full((1000,), math.log(1e-3)) - 1e-4
    assert component_samples(log_weights, 100_000, seeded()).max() == 999


# -- the VampPrior --------------------------------------------------------------------------------------


def test_the_components_are_the_posteriors_of_the_pseudo_inputs():
    model = inference(2)
    prior = PosteriorMixture(2, 5, N_COLUMNS, model.posterior)
    prior.start_at(normals(5, N_COLUMNS))
    log_pi, (mean, log_variance) = prior.components()
    a = model.encoder(prior.inputs)
    assert torch.equal(log_pi, torch.full((5,), -math.log(5)))
    torch.testing.assert_close(mean, a[:, :2])
    torch.testing.assert_close(log_variance, LOG_VARIANCE_BOUND * torch.tanh(a[:, 2:] / LOG_VARIANCE_BOUND))
    torch.testing.assert_close(mean, model(Batch(prior.inputs), None).code)


def test_posteriors_of_pseudo_inputs_of_a_mask_aware_encoder_are_those_of_complete_rows():
    encoder = MLP((2 * N_COLUMNS, 4), generator=seeded(5))
    model = DiagonalGaussian(encoder, sees_mask=True)
    rows = normals(3, N_COLUMNS)
    expected = model(Batch(rows, mask=torch.ones_like(rows)), None).code
    torch.testing.assert_close(model.posterior(rows)[0], expected)


@pytest.mark.parametrize(("n_rows", "expected"), [(6, [0, 2, 4]), (3, [0, 1, 2]), (2, [0, 0, 1]), (1, [0, 0, 0])])
def test_pseudo_inputs_start_at_evenly_spaced_rows(n_rows, expected):
    rows = normals(n_rows, N_COLUMNS)
    prior = PosteriorMixture(2, 3, N_COLUMNS, inference(2).posterior)
    prior.start_at(rows)
    assert torch.equal(prior.inputs, rows[expected])
    if n_rows >= 3:
        assert torch.equal(prior.inputs, rows[evenly_spaced(n_rows, 3)])


def coder_with_vamp() -> Coder:
    model = inference(2)
    model.prior = PosteriorMixture(2, 3, N_COLUMNS, model.posterior)
    model.prior.start_at(normals(9, N_COLUMNS))
    return Coder(model, MLP((2, N_COLUMNS), generator=seeded()), Gaussian(N_COLUMNS))


def test_gradients_reach_pseudo_inputs_and_through_them_the_encoder():
    coder = coder_with_vamp()
    coder.inference.prior.log_prob(normals(5, 2)).sum().backward()
    assert (coder.inference.prior.inputs.grad != 0).any()
    assert all((p.grad != 0).any() for p in coder.encoder.parameters())


def test_a_copy_of_a_model_has_the_pseudo_inputs_encoded_by_the_copy():
    coder, codes = coder_with_vamp(), normals(5, 2)
    before = coder.inference.prior.log_prob(codes)
    for made in (copy.deepcopy(coder), copy.deepcopy(torch.nn.ModuleDict({"coder": coder}))["coder"]):
        torch.testing.assert_close(made.inference.prior.log_prob(codes), before)
        with torch.no_grad():
            for parameter in made.encoder.parameters():
                parameter.mul_(2)
        assert not torch.allclose(made.inference.prior.log_prob(codes), before)
        torch.testing.assert_close(coder.inference.prior.log_prob(codes), before)


def test_each_tensor_of_a_model_with_a_vamp_prior_has_one_name():
    coder = coder_with_vamp()
    names = list(coder.state_dict())
    assert len({tensor.data_ptr() for tensor in coder.state_dict().values()}) == len(names)
    assert [name for name in names if "prior" in name] == ["inference.prior.inputs"]
    assert len(list(coder.parameters())) == len(names)


def test_a_model_with_a_vamp_prior_is_moved_and_converted_as_a_whole():
    coder = coder_with_vamp().double()
    assert coder.inference.prior.log_prob(normals(5, 2).double()).dtype == torch.float64


def test_pseudo_inputs_do_not_change_the_running_moments_of_the_encoder():
    """Running moments are those of rows, by which rows are normalised in evaluation."""
    encoder = MLP((N_COLUMNS, 6, 4), normalization="batch", generator=seeded(5))
    alone = DiagonalGaussian(copy.deepcopy(encoder))
    both = DiagonalGaussian(encoder)
    both.prior = PosteriorMixture(2, 3, N_COLUMNS, both.posterior)
    both.prior.start_at(100 + normals(9, N_COLUMNS))
    batch = Batch(normals(20, N_COLUMNS))
    for model in (alone, both):
        model.train()(batch, None, seeded())
    for name, buffer in alone.encoder.named_buffers():
        torch.testing.assert_close(both.encoder.get_buffer(name), buffer)


# -- the flow -------------------------------------------------------------------------------------------


def test_two_flows_of_one_seed_are_equal_and_of_two_seeds_are_not():
    first, again, other = (FlowPrior(2, seed=seed) for seed in (3, 3, 4))
    state = first.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in state.items())


def test_a_new_flow_leaves_the_global_generators_as_they_are(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    before = torch.random.get_rng_state()
    FlowPrior(2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert seeds == [], "the generators of the GPUs were seeded and not restored"


def test_a_flow_leaves_the_validation_of_torch_distributions_on():
    """The import of zuko turns it off for every distribution of the process."""
    FlowPrior(2, seed=3)
    assert torch.distributions.Distribution._validate_args


def test_the_density_of_a_flow_is_that_of_its_samples():
    prior = flow(2)
    samples = prior.sample(500, seeded(1))
    base = normals(500, 2, seed=1)
    h = samples.clone().requires_grad_()
    z = prior.flow().transform(h)
    torch.testing.assert_close(z.detach(), base, rtol=1e-3, atol=1e-3)
    jacobian = torch.stack([torch.autograd.grad(z[:, j].sum(), h, retain_graph=True)[0] for j in range(2)], 1)
    expected = StandardNormal(2).log_prob(z) + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(prior.log_prob(samples), expected, rtol=1e-3, atol=1e-3)


def test_without_zuko_a_flow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match="zuko; install it with pip install 'isthmus\\[flows\\]'") as caught:
        FlowPrior(2, seed=0)
    assert "\n" not in str(caught.value)


def test_a_copy_of_a_flow_is_equal():
    prior = flow(2)
    assert torch.equal(copy.deepcopy(prior).log_prob(normals(5, 2)), prior.log_prob(normals(5, 2)))


# -- mixtures fitted to codes ----------------------------------------------------------------------------


def codes_of_two_clusters(n: int = 600) -> torch.Tensor:
    codes = normals(n, 3, seed=8) @ normals(3, 3, seed=9)
    codes[: n // 3] += 6
    return codes


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_fitted_mixture_is_that_of_sklearn(k):
    codes, prior = codes_of_two_clusters(), FittedMixture(3, k)
    prior.fit(codes, seed=3)
    oracle = SklearnMixture(k, covariance_type="full", random_state=3).fit(codes.double().numpy())
    others = 3 * normals(50, 3, seed=10)
    np.testing.assert_allclose(prior.log_prob(others), oracle.score_samples(others.numpy()), rtol=1e-3, atol=1e-3)


def test_a_fitted_gaussian_has_the_mean_and_the_covariance_of_the_codes():
    codes, prior = codes_of_two_clusters(), FittedMixture(3, 1)
    prior.fit(codes, seed=0)
    torch.testing.assert_close(prior.means[0], codes.mean(0))
    covariance = prior.scale_trils[0] @ prior.scale_trils[0].T
    torch.testing.assert_close(covariance, codes.T.cov(correction=0), rtol=1e-4, atol=1e-4)
    expected = MultivariateNormal(codes.mean(0), codes.T.cov(correction=0)).log_prob(codes)
    torch.testing.assert_close(prior.log_prob(codes), expected, rtol=1e-3, atol=1e-3)


def test_a_mixture_that_is_not_fitted_is_standard_normal():
    codes = normals(7, 3)
    torch.testing.assert_close(FittedMixture(3, 4).log_prob(codes), StandardNormal(3).log_prob(codes))


def test_constant_codes_are_sampled_as_they_are():
    prior = FittedMixture(2, 1)
    prior.fit(torch.tensor([[1.0, 2.0]] * 10), seed=0)
    torch.testing.assert_close(prior.sample(20, seeded()), torch.tensor([[1.0, 2.0]] * 20), rtol=0, atol=0.01)


def test_fewer_codes_than_components_are_a_mixture_of_the_codes():
    codes, prior = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), FittedMixture(2, 3)
    prior.fit(codes, seed=0)
    upper = float((prior.sample(4000, seeded())[:, 0] > 4.5).float().mean())
    assert upper == pytest.approx(0.5, abs=0.05), "each code has the same weight"


@pytest.mark.parametrize("seed", [0, -1, 2**32, 2**62])
def test_a_mixture_is_fitted_with_any_seed_of_torch(seed):
    prior = FittedMixture(3, 2)
    prior.fit(codes_of_two_clusters(60), seed=seed)
    assert prior.means.isfinite().all()


@pytest.mark.parametrize(
    "build",
    [
        lambda k: GaussianMixture(2, k, generator=seeded()),
        lambda k: PosteriorMixture(2, k, 3, inference(2).posterior),
        lambda k: FittedMixture(2, k),
    ],
)
@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_number_of_components_that_is_not_a_count_is_refused(build, k):
    with pytest.raises(InputError, match="k=.*must be a whole number of at least 1"):
        build(k)


def test_every_prior_is_listed_here():
    assert {type(build(2)) for build in PRIORS.values()} == {
        found for cls in CodePrior.__subclasses__() for found in (cls.__subclasses__() or [cls])
        if found.__module__ == CodePrior.__module__
    }  # fmt: skip
